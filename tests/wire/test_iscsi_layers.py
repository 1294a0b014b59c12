"""iSCSI PDUs are built and dissected as RFC 7143 draws them, and no bytes can break the dissection."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iscsi_kit import COUNTED, SENSE, alone, built_anew, conversation
from scapy.config import conf
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import emu.wire.iscsi
from emu.wire.iscsi import (
    AHS,
    DATA_DIGEST,
    HEADER_DIGEST,
    ISCSI,
    PORT,
    R2T,
    SNACK,
    AsyncMessage,
    BidirectionalReadLength,
    DataIn,
    DataOut,
    ExtendedCDB,
    ISCSIFragment,
    LoginRequest,
    LoginResponse,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    TextRequest,
    digest,
    dissect_pdu,
    pdu_bytes,
    starts_pdu,
)

KINDS = [ISCSI.kinds[opcode] for opcode in sorted(ISCSI.kinds)]
BOTH = HEADER_DIGEST | DATA_DIGEST
DIGESTS = [0, HEADER_DIGEST, DATA_DIGEST, BOTH]


@pytest.fixture(autouse=True)
def _errors_are_shown() -> Iterator[None]:
    """Scapy hides errors of a payload's dissection; here they are to be seen."""
    before = conf.debug_dissector
    conf.debug_dissector = True
    yield
    conf.debug_dissector = before


def pdu_of(name: str, digests: int = 0) -> Any:
    """The first PDU of this class in the conversation."""
    return next(pdu for pdu in conversation(digests) if type(pdu).__name__ == name)


def test_all_eighteen_pdus_are_there() -> None:
    assert sorted(ISCSI.kinds) == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        0x10,
        0x20,
        0x21,
        0x22,
        0x23,
        0x24,
        0x25,
        0x26,
        0x31,
        0x32,
        0x3F,
    ]
    assert {type(pdu) for pdu in conversation()} == set(KINDS)
    assert all(kind.__name__ in emu.wire.iscsi.__all__ for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_bare_pdu_is_a_basic_header(kind: Any) -> None:
    octets = bytes(kind())
    assert len(octets) == 48
    assert octets[0] & 0x3F == kind().Opcode
    assert type(ISCSI(octets)) is kind
    assert built_anew(ISCSI(octets)) == octets


@pytest.mark.parametrize(
    ("pdu", "at", "octets"),
    [
        # offsets as drawn in the sections named by the classes
        (NOPOut(TTT=0x01020304), 20, "01020304"),
        (NOPOut(I=1), 0, "4080"),
        (NOPIn(StatSN=1, ExpCmdSN=2, MaxCmdSN=3), 24, "000000010000000200000003"),
        (SCSICommand(F=1, R=1, W=1, ATTR=3), 1, "e3"),
        (SCSICommand(ExpectedDataTransferLength=4096, CmdSN=5, ExpStatSN=6), 20, "000010000000000500000006"),
        (SCSICommand(CDB=bytes(range(16))), 32, bytes(range(16)).hex()),
        (SCSIResponse(o=1, Response=1, Status=8), 1, "900108"),
        (SCSIResponse(u=1), 1, "88"),
        (SCSIResponse(O=1), 1, "84"),
        (SCSIResponse(U=1), 1, "82"),
        (SCSIResponse(ExpDataSN=1, BidirectionalReadResidualCount=2, ResidualCount=3), 36, "000000010000000200000003"),
        (pdu_of("TMFRequest"), 20, "00000002000000040000000600000001000000020000000000000000"),
        (pdu_of("TMFResponse"), 1, "800100"),
        (LoginRequest(T=1, C=1, CSG=1, NSG=3, VersionMax=1, VersionMin=2), 0, "43c70102"),
        (LoginRequest(ISID_T=1, ISID_A=2, ISID_B=3, ISID_C=4, ISID_D=5, TSIH=6), 8, "4200030400050006"),
        (LoginRequest(CID=7, CmdSN=8, ExpStatSN=9), 20, "000700000000000800000009"),
        (LoginResponse(StatusClass=2, StatusDetail=1), 36, "0201"),
        (pdu_of("DataOut"), 36, "000000000000000000000000"),
        (DataOut(DataSN=1, BufferOffset=2), 36, "000000010000000200000000"),
        (pdu_of("DataIn"), 1, "81"),
        (R2T(R2TSN=1, BufferOffset=2, DesiredDataTransferLength=3), 36, "000000010000000200000003"),
        (DataIn(DataSN=1, BufferOffset=2, ResidualCount=3), 36, "000000010000000200000003"),
        (LogoutResponse(Time2Wait=3, Time2Retain=4), 40, "00030004"),
        (LoginResponse(StatSN=1, ExpCmdSN=2, MaxCmdSN=3), 24, "000000010000000200000003"),
        (pdu_of("LogoutRequest"), 1, "81"),
        (SNACK(Type=3, BegRun=1, RunLength=2), 40, "0000000100000002"),
        (SNACK(Type=3), 1, "83"),
        (AsyncMessage(AsyncEvent=4, AsyncVCode=1, Parameter1=2, Parameter2=3, Parameter3=4), 36, "0401000200030004"),
        (Reject(Reason=9, DataSN=7), 0, "3f800900"),
        (Reject(Reason=9, DataSN=7), 36, "00000007"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ISCSI) else None,
)
def test_fields_lie_where_the_rfc_draws_them(pdu: Any, at: int, octets: str) -> None:
    assert bytes(pdu)[at : at + len(octets) // 2].hex() == octets


@pytest.mark.parametrize("digests", DIGESTS)
def test_every_pdu_comes_back_as_it_was(digests: int) -> None:
    for pdu in conversation(digests):
        octets = bytes(pdu)
        using = int(pdu.digests)
        assert len(octets) == pdu_bytes(octets[:48], using)
        back = dissect_pdu(octets, using)
        assert type(back) is type(pdu)
        assert bytes(back) == octets
        assert built_anew(back) == octets
        assert built_anew(back, *COUNTED) == octets
        for name, value in pdu.fields.items():
            if name not in ("AHS", "RejectedHeader"):
                assert back.getfieldval(name) == value, (type(pdu).__name__, name)


@pytest.mark.parametrize("digests", DIGESTS)
def test_a_pdu_shows_itself_as_the_command_that_makes_it(digests: int) -> None:
    for pdu in conversation(digests):
        names = {**vars(emu.wire.iscsi), "Raw": Raw}
        assert bytes(eval(pdu.command(), names)) == bytes(pdu)  # what command() is for


def test_a_pdu_is_shown_with_names_and_with_what_is_counted() -> None:
    shown = SCSIResponse(Status=2, SenseData=SENSE, digests=BOTH).show2(dump=True)
    for line in (
        "Opcode    = SCSI Response",
        "Status    = CHECK CONDITION",
        "SenseLength= 18",
        "DataDigest= 0xb206ad00",
    ):
        assert line in shown
    assert "StatusDetail= Authentication failure" in LoginResponse(StatusClass=2, StatusDetail=1).show2(dump=True)
    assert "Padding   = b'\\x00\\x00\\x00'" in TextRequest(KeyValues=b"abcde").show2(dump=True)


# RFC 3720 B.4: bytes and their CRC as it stands on the wire
VECTORS = [
    (bytes(32), "aa36918a"),
    (b"\xff" * 32, "43aba862"),
    (bytes(range(32)), "4e79dd46"),
    (bytes(reversed(range(32))), "5cdb3f11"),
    (
        bytes.fromhex(
            "01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"
        ),
        "563a96d9",
    ),
]


@pytest.mark.parametrize(("octets", "wire"), VECTORS, ids=["zeros", "ones", "up", "down", "read"])
def test_digest_is_that_of_the_rfcs_examples(octets: bytes, wire: str) -> None:
    assert digest(octets).to_bytes(4, "big").hex() == wire


def test_digests_stand_after_the_header_and_after_the_padded_data() -> None:
    command = SCSICommand(AHS=[ExtendedCDB(ExtendedCDB=b"x")], Data=b"12345", digests="header+data")
    octets = bytes(command)
    header = 48 + 8
    assert octets[header : header + 4] == digest(octets[:header]).to_bytes(4, "big")
    assert octets[header + 4 :] == b"12345\0\0\0" + digest(b"12345\0\0\0").to_bytes(4, "big")
    assert bytes(SCSICommand(Data=b"", digests="data")) == bytes(SCSICommand())  # no data, no digest


def test_a_wrong_digest_is_kept_and_can_be_made() -> None:
    octets = bytes(NOPOut(Data=b"abcd", HeaderDigest=1, DataDigest=2, digests=BOTH))
    assert octets[48:] == b"\0\0\0\1abcd\0\0\0\2"
    back = dissect_pdu(octets, BOTH)
    assert (back.HeaderDigest, back.DataDigest) == (1, 2)
    assert built_anew(back) == octets


def test_the_default_says_whether_there_are_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = bytes(NOPIn(Data=b"abc", digests=BOTH) / SCSIResponse(digests=BOTH))
    without = ISCSI(octets)
    assert bytes(without) == octets
    assert without.Data != b"abc"
    monkeypatch.setitem(conf.contribs["ISCSI"], "digests", BOTH)
    first = ISCSI(octets)
    assert first.Data == b"abc"
    assert type(first.payload) is SCSIResponse
    assert first.payload.HeaderDigest == digest(bytes(SCSIResponse())[:48])
    assert bytes(first) == octets


@pytest.mark.parametrize(
    "text",
    [{"A": "1", "B": "x=y"}, [("TargetAddress", "a"), ("TargetAddress", "b")], [("Key", "")], {"Ä": "ö"}],
    ids=str,
)
def test_text_is_pairs(text: Any) -> None:
    pairs = list(text.items()) if isinstance(text, dict) else text
    octets = bytes(TextRequest(KeyValues=text))
    assert octets[48:].rstrip(b"\0") == "\0".join(f"{key}={value}" for key, value in pairs).encode()
    assert ISCSI(octets).KeyValues == pairs
    assert dict(ISCSI(octets).KeyValues) == dict(pairs)
    assert bytes(TextRequest(KeyValues=octets[48 : 48 + ISCSI(octets).DataSegmentLength])) == octets


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from([b"A=1", b"\0", b"=", b"B", b"\xff=\xfe", b"C=\0"])).map(b"".join)
)
def test_any_text_is_built_as_it_was_read(text: bytes) -> None:
    octets = bytes(TextRequest(KeyValues=text))
    back = dissect_pdu(octets, 0)
    assert back.DataSegmentLength == len(text)
    assert octets[48 : 48 + len(text)] == text
    assert built_anew(back, *COUNTED) == octets


def test_text_that_goes_on_in_the_next_pdu_stays_bytes() -> None:
    back = ISCSI(bytes(TextRequest(C=1, F=0, KeyValues=b"TargetName=iqn.2005")))
    assert back.KeyValues == b"TargetName=iqn.2005"


def test_sense_data_has_its_length_before_it() -> None:
    octets = bytes(SCSIResponse(Status=2, SenseData=SENSE, ResponseData=b"more"))
    assert octets[48:50] == b"\0\x12"
    back = ISCSI(octets)
    assert (back.SenseLength, back.SenseData, back.ResponseData) == (18, SENSE, b"more")
    assert bytes(SCSIResponse())[48:] == b""  # none without data
    assert bytes(SCSIResponse(ResponseData=b"x"))[48:] == b"\0\0x\0"


@pytest.mark.parametrize("length", [0, 1, 2, 3, 17, 18, 19, 65535])
def test_a_sense_length_that_lies_takes_no_more_than_the_data(length: int) -> None:
    octets = bytes(SCSIResponse(SenseLength=length, SenseData=SENSE))
    back = ISCSI(octets + bytes(NOPIn()))
    assert len(back.SenseData) == min(length, len(SENSE))
    assert back.SenseData + back.ResponseData == SENSE
    assert type(back.payload) is NOPIn


def test_a_reject_carries_the_header() -> None:
    refused = SCSICommand(W=1, CmdSN=7, AHS=[ExtendedCDB(ExtendedCDB=b"abcde")], Data=b"data" * 5)
    back = ISCSI(bytes(Reject(Reason=9, RejectedHeader=refused.header())))
    assert back.DataSegmentLength == 48 + 12
    assert type(back.RejectedHeader) is SCSICommand
    assert (back.RejectedHeader.CmdSN, back.RejectedHeader.AHS[0].ExtendedCDB) == (7, b"abcde")
    assert (back.RejectedHeader.DataSegmentLength, back.RejectedHeader.Data) == (20, b"")


def test_ahs_of_all_kinds_come_in_a_list() -> None:
    listed = [
        AHS(AHSType=9, Specific=b"z"),
        ExtendedCDB(ExtendedCDB=bytes(17)),
        BidirectionalReadLength(ExpectedReadDataLength=5),
    ]
    octets = bytes(SCSICommand(AHS=listed, Data=b"data"))
    assert octets[4] == (8 + 24 + 8) // 4
    assert octets[48:56] == bytes.fromhex("0002 09 00 7a 000000")
    back = ISCSI(octets)
    assert [type(ahs) for ahs in back.AHS] == [AHS, ExtendedCDB, BidirectionalReadLength]
    assert back.AHS[2].ExpectedReadDataLength == 5
    assert back.Data == b"data"


def test_pdus_follow_each_other_in_a_segment() -> None:
    stack = NOPIn(Data=b"x") / SCSIResponse(ITT=5) / NOPIn()
    packet = Ether(bytes(Ether() / IP() / TCP(sport=PORT, dport=40000) / stack))
    assert [type(packet[TCP].payload), type(packet[NOPIn].payload), packet.lastlayer().ITT] == [
        NOPIn,
        SCSIResponse,
        0xFFFFFFFF,
    ]
    assert packet[SCSIResponse].ITT == 5
    assert ISCSI in packet
    assert (TCP() / NOPOut()).dport == PORT
    assert type(TCP(bytes(TCP() / NOPOut())).payload) is NOPOut


@pytest.mark.parametrize(
    "octets",
    [
        bytes(1460),
        b"\xcd" * 1460,
        b"GET / HTTP/1.1\r\nHost: a\r\n" * 9,
        bytes(range(256)) * 4,
        b"0123456789?@ABC" * 20,
        b"\0",
    ],
    ids=["zeros", "pattern", "http", "counting", "digits", "one byte"],
)
def test_the_middle_of_data_is_no_pdu(octets: bytes) -> None:
    packet = TCP(bytes(TCP(dport=PORT) / octets))
    assert type(packet.payload) is ISCSIFragment
    assert bytes(packet.payload) == octets


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_reserved_bits_tell_what_cannot_be_a_pdu(kind: Any) -> None:
    octets = bytes(kind())
    assert starts_pdu(octets)
    assert all(starts_pdu(octets[:length]) for length in range(1, 49))
    assert not starts_pdu(bytes([octets[0] | 0x80]) + octets[1:])
    flipped = [bit for bit in range(8) if not starts_pdu(octets[:1] + bytes([octets[1] ^ 1 << bit]) + octets[2:])]
    assert flipped or kind in (LoginRequest, LoginResponse)


def test_a_thousand_pdus_in_a_segment_are_no_trouble() -> None:
    octets = bytes(NOPIn()) * 1365
    packet = TCP(bytes(TCP(sport=PORT) / octets))
    assert bytes(packet.payload) == octets
    assert packet[NOPIn:64].name == NOPIn().name
    assert len(packet.lastlayer().load) == 48 * (1365 - 64)


def test_a_vendors_pdu_is_known_when_its_class_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = bytes(ISCSI(Opcode=0x3D, Data=b"abc"))
    assert type(ISCSI(octets)) is ISCSIFragment
    monkeypatch.setattr(ISCSI, "kinds", dict(ISCSI.kinds))
    vendors = type("Vendors", (ISCSI,), {"Opcode": 0x3D})
    assert (type(ISCSI(octets)), ISCSI(octets).Data) == (vendors, b"abc")
    assert type(ISCSI(bytes(NOPIn()))) is NOPIn


PIECES = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(
        st.just(bytes(kind())), st.binary(min_size=48, max_size=48), st.binary(max_size=120), st.booleans()
    )
)


def hostile(piece: tuple[bytes, bytes, bytes, bool]) -> bytes:
    """A header that passes for one, with everything else as it falls; lengths small or as they fall."""
    header, noise, rest, small = piece
    lengths = bytes([noise[4] & 3, 0, 0, noise[7] & 0x7F]) if small else noise[4:8]
    return header[:4] + lengths + noise[8:] + rest


@given(st.lists(PIECES, max_size=4), st.sampled_from(DIGESTS), st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_hostile_bytes_come_back_as_they_are(pieces: list[Any], digests: int, tail: bytes) -> None:
    octets = b"".join(map(hostile, pieces)) + tail
    if not octets:
        return
    layer = dissect_pdu(octets, digests)
    assert bytes(layer) == octets
    layer.show2(dump=True)
    seen = b""
    while isinstance(layer, ISCSI):
        seen += built_anew(layer)
        layer = layer.payload
    assert octets.startswith(seen)
    assert seen + bytes(layer) == octets
    packet = TCP(bytes(TCP(dport=PORT) / octets))
    assert bytes(packet.payload) == octets


@given(st.sampled_from(KINDS), st.binary(min_size=1, max_size=200))
@settings(max_examples=200, deadline=None)
def test_a_named_class_takes_any_bytes(kind: Any, octets: bytes) -> None:
    assert bytes(kind(octets)) == octets
    assert bytes(ISCSI(octets)) == octets


@given(st.binary(min_size=1, max_size=80))
def test_any_bytes_can_be_an_ahs(octets: bytes) -> None:
    octets += bytes(-len(octets) % 4)
    command = SCSICommand(TotalAHSLength=len(octets) // 4, AHS=[Raw(octets)])
    back = ISCSI(bytes(command))
    assert bytes(back) == bytes(command)
    assert b"".join(bytes(ahs) for ahs in back.AHS) == octets


def test_a_pdu_cut_short_keeps_what_is_there() -> None:
    octets = bytes(DataOut(Data=bytes(range(200)), digests=BOTH))
    for length in range(1, len(octets)):
        back = dissect_pdu(octets[:length], BOTH)
        assert bytes(back) == octets[:length], length
        assert length < 48 or built_anew(back) == octets[:length], length


def test_copies_know_what_was_negotiated() -> None:
    pdu = NOPOut(Data=b"abc", digests=BOTH)
    assert bytes(pdu.copy()) == bytes(pdu)
    assert alone(pdu / NOPOut()) == bytes(pdu)
    assert pdu.show2(dump=True).count("0x") >= 4


def test_the_main_program_does_not_load_these_layers() -> None:
    code = "import sys, emu.cli.replay, emu.wire.dissect; sys.exit('scapy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
