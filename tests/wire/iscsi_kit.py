"""iSCSI PDUs for the tests of the layers: a conversation with every PDU, frames that carry it, what a file holds."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import NoPayload, Packet
from scapy.sendrecv import sniff
from scapy.sessions import TCPSession
from scapy.utils import RawPcapReader

from emu.wire.iscsi import (
    AHS,
    HEADER_DIGEST,
    PORT,
    R2T,
    SNACK,
    AsyncMessage,
    BidirectionalReadLength,
    DataIn,
    DataOut,
    ExtendedCDB,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    TextRequest,
    TextResponse,
    TMFRequest,
    TMFResponse,
)

CAPTURES = Path(__file__).parent.parent.parent / "pcaps"
HOST, PEER = ("10.0.0.2", 40000), ("10.0.0.1", PORT)
COUNTED = ("TotalAHSLength", "DataSegmentLength", "SenseLength", "Padding", "HeaderDigest", "DataDigest")

WRITE_10 = bytes.fromhex("2a000000000000000800") + bytes(6)
READ_10 = bytes.fromhex("28000000000000000100") + bytes(6)
VARIABLE_CDB = bytes.fromhex("7f00000000000010") + bytes(8)
SENSE = bytes.fromhex("700005000000000a") + bytes(10)
LUN_1 = 1 << 48


def conversation(digests: int = 0, burst: int = 3072) -> list[Any]:
    """Every PDU of both directions, in an order that a session may have; logged in with these digests.

    `burst` is the length in bytes of the longest data segment: by default the PDU takes three TCP segments.
    """
    keys = [
        ("HeaderDigest", "CRC32C" if digests & HEADER_DIGEST else "None"),
        ("DataDigest", "CRC32C" if digests & ~HEADER_DIGEST else "None"),
    ]
    names = [("InitiatorName", "iqn.2005-08.org.example:host"), ("TargetName", "iqn.2005-08.org.example:peer")]
    login: dict[str, Any] = {"T": 1, "CSG": 1, "NSG": 3, "ITT": 1, "ISID_T": 1, "ISID_A": 2, "ISID_B": 0x137}
    login |= {"ISID_C": 4, "ISID_D": 5}
    sn: dict[str, Any] = {"digests": digests}
    return [
        LoginRequest(CID=3, CmdSN=1, KeyValues=names + keys, **login),
        LoginResponse(
            TSIH=1, StatSN=1, ExpCmdSN=1, MaxCmdSN=33, KeyValues=[("TargetPortalGroupTag", "1"), *keys], **login
        ),
        SCSICommand(W=1, LUN=LUN_1, ITT=2, CmdSN=1, ExpStatSN=2, ExpectedDataTransferLength=4096, CDB=WRITE_10, **sn),
        R2T(LUN=LUN_1, ITT=2, TTT=7, StatSN=2, ExpCmdSN=2, MaxCmdSN=34, DesiredDataTransferLength=4096, **sn),
        DataOut(LUN=LUN_1, ITT=2, TTT=7, ExpStatSN=2, Data=(bytes(range(256)) * 12)[:burst], **sn),
        DataOut(F=1, LUN=LUN_1, ITT=2, TTT=7, ExpStatSN=2, DataSN=1, BufferOffset=burst, Data=b"\xcd" * 1024, **sn),
        SCSIResponse(ITT=2, StatSN=2, ExpCmdSN=2, MaxCmdSN=34, ExpDataSN=1, **sn),
        SCSICommand(
            W=1,
            R=1,
            ATTR=2,
            ITT=3,
            CmdSN=2,
            ExpStatSN=3,
            ExpectedDataTransferLength=5,
            CDB=VARIABLE_CDB,
            AHS=[ExtendedCDB(ExtendedCDB=b"abcdefgh"), BidirectionalReadLength(ExpectedReadDataLength=77)],
            Data=b"12345",
            **sn,
        ),
        SCSIResponse(
            Status=2,
            ITT=3,
            U=1,
            u=1,
            StatSN=3,
            ExpCmdSN=3,
            MaxCmdSN=34,
            SenseData=SENSE,
            ResidualCount=3,
            BidirectionalReadResidualCount=77,
            **sn,
        ),
        NOPOut(I=1, ITT=4, CmdSN=3, ExpStatSN=4, Data=b"ping!", **sn),
        NOPIn(ITT=4, StatSN=4, ExpCmdSN=3, MaxCmdSN=34, Data=b"ping!", **sn),
        NOPIn(TTT=9, LUN=LUN_1, StatSN=5, ExpCmdSN=3, MaxCmdSN=34, **sn),
        NOPOut(I=1, ITT=0xFFFFFFFF, TTT=9, LUN=LUN_1, CmdSN=3, ExpStatSN=5, **sn),
        TextRequest(ITT=5, CmdSN=3, ExpStatSN=5, KeyValues={"SendTargets": "All"}, **sn),
        TextResponse(
            ITT=5,
            StatSN=5,
            ExpCmdSN=4,
            MaxCmdSN=34,
            KeyValues=[("TargetName", "iqn.2005-08.org.example:peer"), ("TargetAddress", "10.0.0.1:3260,1")],
            **sn,
        ),
        TMFRequest(I=1, Function=1, ITT=6, ReferencedTaskTag=2, RefCmdSN=1, CmdSN=4, ExpStatSN=6, ExpDataSN=2, **sn),
        TMFResponse(Response=1, ITT=6, StatSN=6, ExpCmdSN=4, MaxCmdSN=34, **sn),
        SNACK(Type=1, ITT=0xFFFFFFFF, BegRun=5, RunLength=1, ExpStatSN=6, **sn),
        AsyncMessage(AsyncEvent=1, StatSN=7, ExpCmdSN=4, MaxCmdSN=34, Parameter3=5, **sn),
        AsyncMessage(AsyncEvent=0, LUN=LUN_1, StatSN=8, ExpCmdSN=4, MaxCmdSN=34, SenseData=SENSE, **sn),
        Reject(
            Reason=4,
            StatSN=9,
            ExpCmdSN=4,
            MaxCmdSN=34,
            RejectedHeader=NOPOut(ITT=9, CmdSN=4, ExpStatSN=9, Data=b"xx").header(),
            **sn,
        ),
        SCSICommand(R=1, LUN=LUN_1, ITT=7, CmdSN=4, ExpStatSN=10, ExpectedDataTransferLength=512, CDB=READ_10, **sn),
        DataIn(F=1, S=1, ITT=7, StatSN=10, ExpCmdSN=5, MaxCmdSN=35, Data=bytes(512), **sn),
        LogoutRequest(I=1, ReasonCode=1, ITT=8, CID=3, CmdSN=5, ExpStatSN=11, **sn),
        LogoutResponse(ITT=8, StatSN=11, ExpCmdSN=5, MaxCmdSN=35, **sn),
    ]


def from_host(pdu: Any) -> bool:
    """Whether an initiator sends it: its opcode says so (RFC 7143 11.2.1.2)."""
    return not int(pdu.Opcode) & 0x20


def segments(stream: bytes, host: bool, first: int = 1000, mss: int = 1460, step: int = 0) -> list[bytes]:
    """Ethernet frames that carry the stream of one end, `mss` bytes each."""
    (source, sport), (target, dport) = (HOST, PEER) if host else (PEER, HOST)
    macs = ("02:00:00:00:00:02", "02:00:00:00:00:01")
    frames = []
    for at in range(0, len(stream), mss):
        link = Ether(src=macs[not host], dst=macs[host])
        tcp = TCP(sport=sport, dport=dport, seq=(first + at) & 0xFFFFFFFF, ack=1 + step, flags="PA")
        frames.append(bytes(link / IP(src=source, dst=target) / tcp / stream[at : at + mss]))
    return frames


def frames_of(pdus: Iterable[Any]) -> list[bytes]:
    """The conversation as frames of both directions, in order, with the sequence and acknowledgement numbers right."""
    sent = {True: 1000, False: 5000}
    frames = []
    for pdu in pdus:
        host = from_host(pdu)
        octets = bytes(pdu)
        frames += segments(octets, host, sent[host], step=sent[not host] - 1)
        sent[host] += len(octets)
    return frames


def layers(packet: Packet) -> Iterator[Any]:
    """What is above TCP, one layer after the other."""
    layer = packet[TCP].payload
    while not isinstance(layer, NoPayload):
        yield layer
        layer = layer.payload


def alone(pdu: Any) -> bytes:
    """The bytes of a PDU without those after it."""
    pdu = pdu.copy()
    pdu.remove_payload()
    return bytes(pdu)


def followed(frames: Iterable[bytes]) -> list[Any]:
    """All layers above TCP that Scapy's TCP session finds in these frames, in order."""
    packets = sniff(offline=[Ether(frame) for frame in frames], session=TCPSession)
    return [layer for packet in packets if TCP in packet for layer in layers(packet)]


def iscsi_frames(path: Path) -> list[bytes]:
    """The frames of a capture that have port 3260."""
    port = PORT.to_bytes(2, "big")
    with RawPcapReader(str(path)) as reader:
        frames = [bytes(octets) for octets, _ in reader]
    return [frame for frame in frames if frame[12:14] == b"\x08\0" and port in (frame[34:36], frame[36:38])]


def built_anew(pdu: Any, *without: str) -> bytes:
    """The PDU built from its fields, with some left to be counted; nothing is copied from where it was read."""
    values = {field.name: pdu.getfieldval(field.name) for field in pdu.fields_desc if field.name not in without}
    values["AHS"] = [type(ahs)(**{f.name: ahs.getfieldval(f.name) for f in ahs.fields_desc}) for ahs in values["AHS"]]
    return bytes(type(pdu)(**values))


__all__ = ["AHS", "CAPTURES", "COUNTED", "alone", "built_anew", "conversation", "followed", "frames_of", "iscsi_frames"]
