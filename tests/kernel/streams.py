"""Random arrivals from a seed: every kind of frame that the machine tells apart."""

import random
from typing import Any

from machines import (
    ACK,
    CLOSED,
    FIN,
    ISCSI,
    OPEN,
    RST,
    SYN,
    arp,
    ethertype,
    fragment,
    frame,
    icmp,
    ip_other,
    runt,
    sent,
    tcp,
    udp,
)

from emu.kernel.machine import PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST
from emu.wire.headers import (
    CSUM_BAD,
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_TCP,
    TOO_SHORT,
)

PORTS = (OPEN, OPEN, OPEN, CLOSED, ISCSI, 80)
SPORTS = (40_000, 40_001, ISCSI, ISCSI)


def one(dice: random.Random, devices: int) -> Any:
    """One frame of any kind."""
    kind = dice.randrange(24)
    payload = dice.choice((0, 1, 18, 60, 512, 1000, 1460))
    flow = {"sport": dice.choice(SPORTS), "dport": dice.choice(PORTS), "saddr": 0x0A000001 + dice.randrange(4)}
    if kind < 9:
        columns = tcp(flow["dport"], payload, flags=dice.choice((ACK,) * 12 + (SYN, SYN, FIN | ACK, RST)))
        columns |= flow
    elif kind < 14:
        columns = udp(flow["dport"], payload) | flow
    else:
        columns = (
            icmp(dice.choice((0, 3, 8))),
            arp(),
            ip_other(dice.choice((2, 47, 132))),
            fragment(),
            ethertype(dice.choice((0x86DD, 0x8100, 0x88CC))),
            runt(),
            frame(KIND_TCP, 42 + 4 * payload, sport=1, dport=OPEN, ip_protocol=6, tcp_flags=ACK, segments=4)
            | {"payload_length": 4 * payload, "l4_length": 4 * payload + 20},
            tcp(OPEN, 2000) | flow,  # too long for MTU 1500
            sent(tcp(flow["dport"], 10, flags=dice.choice((ACK,) * 9 + (RST,))) | flow),
            sent(icmp(3, quoted_port=dice.choice((CLOSED, CLOSED, 80, 81)))),
        )[kind - 14]
    columns["dev"] = dice.randrange(devices)
    twist = dice.randrange(12)
    if twist == 0:
        columns["l4_csum"] = dice.choice((CSUM_BAD, CSUM_BAD, CSUM_PARTIAL, CSUM_UNKNOWN))
    elif twist == 1:
        columns["header_error"] = dice.choice((TOO_SHORT, IP_TOO_SHORT, IP_HEADER_BAD))
    elif twist == 2:
        columns["pkt_type"] = dice.choice((PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST))
    elif twist == 3 and dice.randrange(3) == 0:
        columns["ip_csum"] = CSUM_BAD
    return columns


class Numbers:
    """Sequence numbers of every flow of a stream: mostly the next one, else what a network makes of it."""

    def __init__(self, dice: random.Random) -> None:
        """Flows begin anywhere, some just below the end of the space."""
        self.dice = dice
        self.next: dict[tuple[int, ...], int] = {}

    def number(self, columns: dict[str, int]) -> dict[str, int]:
        """The segment with its number; a frame of the host acknowledges what the peer has sent, or part of it."""
        if columns["kind"] != KIND_TCP:
            return columns
        dice = self.dice
        own = tuple(columns.get(name, 0) for name in ("saddr", "sport", "daddr", "dport"))
        seq = self.next.setdefault(own, dice.choice((0, 1, (1 << 32) - 5000, dice.randrange(1 << 32))))
        flags, payload = columns.get("tcp_flags", 0), columns.get("payload_length", 0)
        taken = payload + (flags & SYN > 0) + (flags & FIN > 0)
        twist = dice.randrange(40)
        if twist < 4:  # a retransmission, whole or in part
            seq -= dice.choice((taken, 1000, dice.randrange(1 << 14)))
        elif twist < 7:  # a segment that the capture lacks
            seq += dice.choice((1460, 2920, dice.randrange(1 << 15)))
        elif twist == 7 and dice.randrange(4) == 0:  # another connection with the same addresses
            seq += dice.randrange(1 << 32)
        if twist >= 4 or taken > 1 << 14:
            self.next[own] = (seq + taken) % (1 << 32)
        ack = self.next.get(own[2:] + own[:2], 0) - dice.choice((0, 0, 0, 1000))
        return columns | {"tcp_seq": seq % (1 << 32), "tcp_ack": ack % (1 << 32)}


def one_segment(dice: random.Random, devices: int) -> Any:
    """One frame of a few connections that get far: data, FINs of either end, ACKs of the host, SYNs."""
    if dice.randrange(200) == 0:
        return sent(tcp(OPEN, 0, flags=RST, sport=40_002)) | {"dev": dice.randrange(devices)}
    flow = {"sport": dice.choice((40_000, 40_002, 40_002, ISCSI)), "dport": OPEN, "saddr": 0x0A000001}
    flags = dice.choice((ACK,) * 40 + (FIN | ACK, FIN | ACK, SYN))
    columns = tcp(OPEN, dice.choice((1, 100, 1460, 1460)) if flags == ACK else 0, flags=flags) | flow
    if dice.randrange(5) == 0:
        sent_flags = dice.choice((ACK,) * 20 + (FIN | ACK, FIN | ACK, SYN | ACK, SYN))
        columns = sent(tcp(OPEN, 0, flags=sent_flags) | flow)
    columns["dev"] = dice.randrange(devices)
    return columns


def stream(seed: int, count: int, devices: int = 1) -> list[dict[str, int]]:
    """`count` frames in bursts, with pauses up to some rounds of every timer."""
    dice = random.Random(seed)
    numbers = Numbers(dice)
    now_ns = dice.randrange(1 << 40)
    frames = []
    for _ in range(count):
        pace = dice.randrange(100)
        if pace < 70:
            now_ns += dice.randrange(3_000)
        elif pace < 99:
            now_ns += dice.randrange(200_000)
        else:
            now_ns += dice.choice((5_000_000, 2_100_000_000, 9_000_000_000, 60_000_000_000))
        columns = one_segment(dice, devices) if dice.randrange(3) == 0 else one(dice, devices)
        frames.append(numbers.number(columns) | {"time_ns": now_ns})
    return frames
