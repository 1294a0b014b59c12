"""An independent reading of a crafted session: each frame with Scapy, each PDU with the iSCSI layers, by the RFCs.

It knows nothing of how the session was made: only what the frames say, in their order.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from session_kit import Crafted

from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND
from emu.wire.iscsi import (
    DATA_DIGEST,
    HEADER_DIGEST,
    NO_TAG,
    R2T,
    DataOut,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    Negotiation,
    NOPIn,
    NOPOut,
    SCSICommand,
    SCSIResponse,
    digest,
    dissect_pdu,
    pdu_bytes,
)

WRAP = 1 << 32
BHS_BYTES = 48
FULL_FEATURE_PHASE = 3


def ahead(one: int, other: int) -> int:
    """How far `one` is ahead of `other` in serial arithmetic (RFC 1982)."""
    return (one - other + WRAP // 2) % WRAP - WRAP // 2


@dataclass
class End:
    """One end of the TCP connection, as its frames show it."""

    next_seq: int | None = None
    acked: int | None = None  # of the other end's bytes
    window_bytes: int = 0
    scale: int = 0
    ip_id: int | None = None
    stamp: int = 0
    finished: bool = False
    stream: bytearray = field(default_factory=bytearray)
    begun_stat_sn: int | None = None
    begun_max_cmd_sn: int | None = None


@dataclass
class Task:
    """An outstanding write."""

    size: int
    got: int
    asked_end: int = 0
    ttt: int | None = None
    data_sn: int = 0
    r2ts: int = 0


@dataclass
class Walk:
    """What was found on the way through."""

    counts: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[int]] = field(default_factory=dict)
    most_outstanding: int = 0
    ends: dict[int, End] = field(default_factory=lambda: {DIR_INBOUND: End(), DIR_OUTBOUND: End()})
    negotiation: Negotiation = field(default_factory=lambda: Negotiation(0))
    keys: dict[str, str] = field(default_factory=dict)
    full_feature: bool = False
    cmd_sn: int | None = None
    stat_sn: int | None = None
    exp_cmd_sn: int | None = None
    max_cmd_sn: int | None = None
    tasks: dict[int, Task] = field(default_factory=dict)
    pings: list[int] = field(default_factory=list)
    seen_tags: set[int] = field(default_factory=set)
    logged_out: bool = False


def walk(frames: list[Crafted], depth: int) -> Walk:
    """Read a two-directional session through; every rule that is broken is an AssertionError."""
    found = Walk()
    last_ns = frames[0].time_ns
    for frame in frames:
        assert frame.time_ns >= last_ns
        last_ns = frame.time_ns
        end = found.ends[frame.direction]
        read_segment(found, frame, end)
        while True:
            size = pdu_bytes(bytes(end.stream[:BHS_BYTES]), found.negotiation.digests)
            if not size or len(end.stream) < size:
                break
            octets = bytes(end.stream[:size])
            del end.stream[:size]
            read_pdu(found, octets, frame, depth)
    return found


def read_segment(found: Walk, frame: Crafted, end: End) -> None:
    """TCP and IP: numbers follow one another, nothing is acknowledged that was not sent, windows hold."""
    tcp_at = 34 if frame.octets[12:14] == b"\x08\x00" else 54
    payload_at = tcp_at + 4 * (frame.octets[tcp_at + 12] >> 4)
    payload = frame.octets[payload_at:]
    packet = Ether(frame.octets[:payload_at])  # Scapy need not look into PDUs twice
    assert bytes(packet) == frame.octets[:payload_at]
    assert len(frame.octets) >= 60
    network = packet[IP] if IP in packet else packet[IPv6]
    tcp = packet[TCP]
    other = found.ends[DIR_OUTBOUND if frame.direction == DIR_INBOUND else DIR_INBOUND]
    if IP in packet:
        assert end.ip_id is None or network.id == (end.ip_id + 1) & 0xFFFF
        end.ip_id = network.id
    options = dict(tcp.options)
    stamp, echo = options["Timestamp"]
    assert ahead(stamp, end.stamp) >= 0 or end.next_seq is None
    end.stamp = stamp
    if tcp.flags.A:
        assert ahead(echo, other.stamp) <= 0
    if tcp.flags.S:
        assert end.next_seq is None
        end.next_seq = tcp.seq
        end.scale = options["WScale"]
    assert tcp.seq == end.next_seq, "a gap, or bytes sent twice"
    end.next_seq = (tcp.seq + len(payload) + int(tcp.flags.S) + int(tcp.flags.F)) % WRAP
    assert not (end.finished and payload)
    end.finished = end.finished or bool(tcp.flags.F)
    if tcp.flags.A:
        assert other.next_seq is not None and ahead(tcp.ack, other.next_seq) <= 0, "acknowledges what was not sent"
        moved = 0 if end.acked is None else ahead(tcp.ack, end.acked)
        assert moved >= 0
        assert payload or tcp.flags.S or tcp.flags.F or moved or end.acked is None, "a duplicate acknowledgement"
        end.acked = tcp.ack
    end.window_bytes = tcp.window << (0 if tcp.flags.S else end.scale)
    if other.acked is not None:
        assert ahead(end.next_seq, other.acked) < other.window_bytes, "the window is full"
    if payload and not end.stream:  # a PDU's header says what was so when it was begun
        end.begun_stat_sn, end.begun_max_cmd_sn = found.stat_sn, found.max_cmd_sn
    end.stream += payload


def read_pdu(found: Walk, octets: bytes, frame: Crafted, depth: int) -> None:
    """A PDU, whole: its digests, its numbers, its place in the session."""
    digests = found.negotiation.digests
    pdu = dissect_pdu(octets, digests)
    assert bytes(pdu) == octets
    kind = type(pdu).__name__
    found.counts[kind] = found.counts.get(kind, 0) + 1
    found.times.setdefault(kind, []).append(frame.time_ns)
    assert not found.logged_out
    if digests & HEADER_DIGEST:
        assert pdu.HeaderDigest == digest(octets[:BHS_BYTES])
    if digests & DATA_DIGEST and pdu.DataSegmentLength:
        at = BHS_BYTES + (4 if digests & HEADER_DIGEST else 0)
        assert pdu.DataDigest == digest(octets[at:-4]) == struct.unpack("!I", octets[-4:])[0]
    from_host = isinstance(pdu, (LoginRequest, SCSICommand, DataOut, NOPOut, LogoutRequest))
    assert from_host == (frame.direction == DIR_OUTBOUND)
    assert found.full_feature != isinstance(pdu, (LoginRequest, LoginResponse))
    if from_host:
        read_request(found, pdu)
    else:
        read_answer(found, pdu, depth)
    found.negotiation.follow(pdu)
    found.most_outstanding = max(found.most_outstanding, len(found.tasks))


def read_request(found: Walk, pdu: Any) -> None:
    """What the initiator sends (RFC 7143 4.2.2, 11.3, 11.7, 11.12, 11.14, 11.18)."""
    host = found.ends[DIR_OUTBOUND]
    assert pdu.ExpStatSN == (0 if host.begun_stat_sn is None else host.begun_stat_sn)
    if isinstance(pdu, DataOut):
        task = found.tasks[pdu.ITT]
        size = len(pdu.Data)
        assert (pdu.TTT, pdu.DataSN, pdu.BufferOffset) == (task.ttt, task.data_sn, task.got)
        assert 0 < size <= int(found.keys["MaxRecvDataSegmentLength"])
        task.got += size
        task.data_sn += 1
        assert task.got <= task.asked_end and (task.got == task.asked_end) == pdu.F
        return
    if found.cmd_sn is None:
        found.cmd_sn = pdu.CmdSN
    assert pdu.CmdSN == found.cmd_sn
    if isinstance(pdu, LoginRequest):
        assert pdu.I == 1 and pdu.T == 1
        return
    if isinstance(pdu, SCSICommand):
        assert ahead(pdu.CmdSN, host.begun_max_cmd_sn or 0) <= 0, "beyond the command window"
        found.cmd_sn = (found.cmd_sn + 1) % WRAP
        read_command(found, pdu)
    elif isinstance(pdu, NOPOut):
        assert (1, NO_TAG, found.pings.pop()) == (pdu.I, pdu.ITT, pdu.TTT)
    else:
        assert pdu.I == 1 and not found.tasks


def read_command(found: Walk, pdu: Any) -> None:
    """A write: its CDB says what its header says, and its data is within what was negotiated."""
    assert pdu.ITT not in found.tasks and pdu.ITT != NO_TAG
    assert (pdu.I, pdu.F, pdu.R, pdu.W) == (0, 1, 0, 1)
    cdb = pdu.CDB
    blocks = int.from_bytes(cdb[7:9], "big")
    assert cdb[0] == 0x2A and blocks * 512 == pdu.ExpectedDataTransferLength
    immediate = len(pdu.Data)
    assert immediate == 0 or found.keys["ImmediateData"] == "Yes"
    limits = [int(found.keys[key]) for key in ("FirstBurstLength", "MaxRecvDataSegmentLength")]
    assert immediate <= min(*limits, pdu.ExpectedDataTransferLength)
    found.tasks[pdu.ITT] = Task(pdu.ExpectedDataTransferLength, immediate, immediate)


def read_answer(found: Walk, pdu: Any, depth: int) -> None:
    """What the target sends (RFC 7143 4.2.2, 11.4, 11.8, 11.13, 11.15, 11.19)."""
    if found.stat_sn is None:
        found.stat_sn = pdu.StatSN
    assert pdu.StatSN == found.stat_sn
    if not isinstance(pdu, (R2T, NOPIn)):
        found.stat_sn = (found.stat_sn + 1) % WRAP
    assert found.cmd_sn is not None and ahead(pdu.ExpCmdSN, found.cmd_sn) <= 0
    assert 0 <= ahead(pdu.MaxCmdSN, pdu.ExpCmdSN) + 1 <= depth
    for name in ("exp_cmd_sn", "max_cmd_sn"):
        before, now = getattr(found, name), pdu.ExpCmdSN if name == "exp_cmd_sn" else pdu.MaxCmdSN
        assert before is None or ahead(now, before) >= 0
        setattr(found, name, now)
    if isinstance(pdu, LoginResponse):
        found.keys.update(pdu.KeyValues)
        assert pdu.StatusClass == 0 and pdu.T == 1
        if pdu.NSG == FULL_FEATURE_PHASE:
            assert pdu.TSIH
            found.full_feature = True
    elif isinstance(pdu, R2T):
        task = found.tasks[pdu.ITT]
        assert task.got == task.asked_end == pdu.BufferOffset and task.r2ts == pdu.R2TSN and pdu.TTT != NO_TAG
        assert 0 < pdu.DesiredDataTransferLength <= int(found.keys["MaxBurstLength"])
        task.r2ts += 1
        task.asked_end += pdu.DesiredDataTransferLength
        task.ttt, task.data_sn = pdu.TTT, 0
    elif isinstance(pdu, SCSIResponse):
        task = found.tasks.pop(pdu.ITT)
        assert task.got == task.size and (pdu.Response, pdu.Status, pdu.ExpDataSN) == (0, 0, task.r2ts)
    elif isinstance(pdu, NOPIn):
        assert pdu.ITT == NO_TAG and pdu.TTT != NO_TAG
        found.pings.append(pdu.TTT)
    else:
        assert isinstance(pdu, LogoutResponse) and pdu.Response == 0
        found.logged_out = True
