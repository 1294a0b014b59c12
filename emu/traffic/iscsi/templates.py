"""Templates of a conversation's frames: Scapy builds each kind once, the numbers of the moment are patched in later."""

import hashlib
from typing import Any, NamedTuple

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from emu.traffic.iscsi.options import IscsiAcks, Terms
from emu.traffic.iscsi.state import (
    ACK,
    COMMAND,
    CRC_TABLE,
    DATA_OUT,
    FIN,
    LOGIN_OPERATIONAL,
    LOGIN_SECURITY,
    LOGOUT,
    NOP_OUT,
    SYN,
    T_ACK,
    T_FIN,
    T_LOGIN_OPERATIONAL,
    T_LOGIN_SECURITY,
    T_LOGOUT,
    T_NOP_IN,
    T_R2T,
    T_RESPONSE,
    T_SYN_ACK,
)
from emu.wire import ipv4, ipv6, tcp
from emu.wire.checksum import ones_sum
from emu.wire.ethernet import HEADER_LEN
from emu.wire.ipv4 import PROTO_TCP
from emu.wire.iscsi import (
    NO_TAG,
    R2T,
    DataOut,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    SCSICommand,
    SCSIResponse,
)

INITIATOR_NAME = "iqn.1993-08.org.debian:01:"
TARGET_NAME = "iqn.2005-08.org.kernel.netdev:storage.disk"
SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
HOST_MAX_RECV_BYTES = 262_144  # open-iscsi's own MaxRecvDataSegmentLength
WINDOW_SCALE = 7
WINDOW = 40_000  # scaled 5 MB: more than state.FLIGHT segments of any size
SYN_WINDOW = 64_240
TTL = 64
WRITE_10 = 0x2A
PURE = (ACK, FIN, SYN, T_ACK, T_FIN, T_SYN_ACK)  # frames without a PDU
TCP_FLAGS = {SYN: "S", T_SYN_ACK: "SA", FIN: "FA", T_FIN: "FA"}
STAMPS = ("Timestamp", (0, 0))
SEGMENT_OPTIONS = [("NOP", None), ("NOP", None), STAMPS]
DIGEST_ROOM = 8  # behind a header: its digest, and that of data
FLAT_LUN = 256  # from here on a LUN is written in flat space addressing (SAM-3 4.9.3)


class Chosen(NamedTuple):
    """What the seed decides."""

    from_port: int
    isid: int
    tsih: int
    itt: int
    ttt: int
    cmd_sn: int
    stat_sn: int
    host_seq: int
    target_seq: int
    host_id: int
    target_id: int
    host_stamp: int
    target_stamp: int
    jitter: int


def octets_of_seed(seed: int, what: str, length: int) -> bytes:
    """Bytes that depend on the seed and on what they are for, and on nothing else."""
    return hashlib.shake_256(f"emu iscsi {what} {seed}".encode()).digest(length)


def choose(options: IscsiAcks) -> Chosen:
    """Numbers that both ends begin with."""
    octets = octets_of_seed(options.seed, "numbers", 4 * len(Chosen._fields))
    words = [int.from_bytes(octets[at : at + 4], "big") for at in range(0, len(octets), 4)]
    drawn = Chosen(*words)
    return drawn._replace(
        from_port=options.from_port or 49_152 + drawn.from_port % 16_384,
        isid=drawn.isid & 0xFFFFFF,
        tsih=drawn.tsih % 0xFFFF + 1,
        itt=drawn.itt & 0x7FFFFFFF,
        ttt=drawn.ttt & 0x7FFFFFFF,
        host_id=drawn.host_id & 0xFFFF,
        target_id=drawn.target_id & 0xFFFF,
        jitter=drawn.jitter & 0x7FFFFFFF,
    )


def login_names(isid: int) -> list[tuple[str, str]]:
    """What the initiator says in the security stage (RFC 7143 13)."""
    return [
        ("InitiatorName", f"{INITIATOR_NAME}{isid:012x}"),
        ("TargetName", TARGET_NAME),
        ("SessionType", "Normal"),
        ("AuthMethod", "None"),
    ]


TARGET_NAMES = [("TargetPortalGroupTag", "1"), ("AuthMethod", "None")]


def login_keys(terms: Terms, max_recv: int, answered: bool, initial_r2t: bool = True) -> list[tuple[str, str]]:
    """What one end says in the operational stage (RFC 7143 13); the initiator offers what the target then takes."""
    offer = "CRC32C" if answered else "CRC32C,None"
    return [
        ("HeaderDigest", offer if terms.header_digest else "None"),
        ("DataDigest", offer if terms.data_digest else "None"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("IFMarker", "No"),
        ("OFMarker", "No"),
        ("ErrorRecoveryLevel", "0"),
        ("InitialR2T", "Yes" if answered and initial_r2t else "No"),
        ("ImmediateData", "Yes" if terms.immediate_bytes else "No"),
        ("MaxBurstLength", str(terms.max_burst_bytes)),
        ("FirstBurstLength", str(terms.first_burst_bytes)),
        ("MaxOutstandingR2T", "1"),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("MaxRecvDataSegmentLength", str(max_recv)),
    ]


def lun_field(lun: int) -> int:
    """The eight bytes of a LUN: peripheral device or flat space addressing (SAM-3 4.9)."""
    return (lun if lun < FLAT_LUN else 0x4000 | lun) << 48


def pdus(options: IscsiAcks, terms: Terms, chosen: Chosen) -> dict[int, bytes]:
    """Each kind of PDU without data and digests; of a login with its text."""
    lun = lun_field(options.lun)
    isid: dict[str, Any] = {"ISID_T": 2, "ISID_A": 0, "ISID_B": chosen.isid >> 8, "ISID_C": chosen.isid & 0xFF}
    security = {"T": 1, "CSG": SECURITY, "NSG": OPERATIONAL} | isid
    operational = {"T": 1, "CSG": OPERATIONAL, "NSG": FULL_FEATURE} | isid
    blocks = terms.write_bytes >> 9
    cdb = bytes((WRITE_10, 0, 0, 0, 0, 0, 0)) + blocks.to_bytes(2, "big") + bytes(7)
    built = {
        LOGIN_SECURITY: LoginRequest(**security, KeyValues=login_names(chosen.isid)),
        LOGIN_OPERATIONAL: LoginRequest(**operational, KeyValues=login_keys(terms, HOST_MAX_RECV_BYTES, False)),
        COMMAND: SCSICommand(
            F=1,
            W=1,
            LUN=lun,
            ExpectedDataTransferLength=terms.write_bytes,
            CDB=cdb,
            DataSegmentLength=terms.immediate_bytes,
        ),
        DATA_OUT: DataOut(LUN=lun),
        NOP_OUT: NOPOut(I=1, LUN=lun, ITT=NO_TAG),
        LOGOUT: LogoutRequest(I=1, ReasonCode=0),
        T_LOGIN_SECURITY: LoginResponse(**security, KeyValues=TARGET_NAMES),
        T_LOGIN_OPERATIONAL: LoginResponse(
            **operational, TSIH=chosen.tsih, KeyValues=login_keys(terms, terms.max_recv_bytes, True)
        ),
        T_R2T: R2T(LUN=lun),
        T_RESPONSE: SCSIResponse(),
        T_NOP_IN: NOPIn(LUN=lun, ITT=NO_TAG),
        T_LOGOUT: LogoutResponse(),
    }
    return {kind: bytes(pdu) for kind, pdu in built.items()}


def headers(options: IscsiAcks, terms: Terms, chosen: Chosen, kind: int) -> bytes:
    """Ethernet, IP and TCP of a kind of frame, with zeros where the numbers of the moment go."""
    from_host = kind <= ACK
    macs = (options.initiator_mac, options.target_mac)
    ends = (terms.initiator, terms.target)
    ports = (chosen.from_port, options.port)
    one, two = (0, 1) if from_host else (1, 0)
    if terms.family == 4:
        network = IP(src=ends[one], dst=ends[two], ttl=TTL, flags="DF", id=0, len=0, chksum=0, proto=PROTO_TCP)
    else:
        network = IPv6(src=ends[one], dst=ends[two], hlim=TTL, plen=0, nh=PROTO_TCP)
    first = [("MSS", terms.mss), ("SAckOK", b""), STAMPS, ("NOP", None), ("WScale", WINDOW_SCALE)]
    opening = kind in (SYN, T_SYN_ACK)
    transport = TCP(
        sport=ports[one],
        dport=ports[two],
        seq=0,
        ack=0,
        flags=TCP_FLAGS.get(kind, "A"),
        window=SYN_WINDOW if opening else WINDOW,
        chksum=0,
        options=first if opening else SEGMENT_OPTIONS,
    )
    return bytes(Ether(src=macs[one], dst=macs[two]) / network / transport)


def ipv4_sums(head: bytes, ip_at: int) -> tuple[int, int]:
    """The sums of the IPv4 header and of the pseudo header without its length."""
    end = ip_at + ipv4.HEADER_LEN
    return ones_sum(head, ip_at, end), ones_sum(head, ip_at + ipv4.SRC, end) + PROTO_TCP


def network_sums(terms: Terms, head: bytes) -> tuple[int, int]:
    """The sums of the IPv4 header, 0 for IPv6, and of the pseudo header without its length."""
    if terms.family == 4:
        return ipv4_sums(head, HEADER_LEN)
    return 0, ones_sum(head, HEADER_LEN + ipv6.SRC, terms.tcp_at) + PROTO_TCP


def build_templates(options: IscsiAcks, terms: Terms, chosen: Chosen) -> tuple[bytearray, list[dict[str, int]]]:
    """All templates in one buffer, and the fields of each kind's `Shape`."""
    bodies = pdus(options, terms, chosen)
    moulds = bytearray()
    shapes = []
    for kind in range(T_ACK + 1):
        head = headers(options, terms, chosen, kind)
        ip_sum, pseudo_sum = network_sums(terms, head)
        body = bodies.get(kind, b"")
        assert bool(body) == (kind not in PURE)
        opening = kind in (SYN, T_SYN_ACK)
        shapes.append(
            {
                "head_at": len(moulds),
                "head_bytes": len(head),
                "ip_sum": ip_sum,
                "pseudo_sum": pseudo_sum,
                "stamp_at": terms.tcp_at + tcp.HEADER_LEN + (8 if opening else 4),
                "pdu_at": len(moulds) + len(head),
                "pdu_bytes": len(body),
            }
        )
        moulds += head + body + bytes(DIGEST_ROOM)
    return moulds, shapes


def crc32c_table() -> list[int]:
    """CRC32C (reflected polynomial 0x82F63B78) of each byte, then of each with one to seven zeros behind it."""
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    for index in range(256, CRC_TABLE):
        before = table[index - 256]
        table.append(before >> 8 ^ table[before & 0xFF])
    return table
