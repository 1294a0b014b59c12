"""Random arrivals from a seed: every kind of frame that the machine tells apart."""

import random
from dataclasses import replace
from typing import Any

from machines import (
    ACK,
    CLOSED,
    FIN,
    ISCSI,
    OPEN,
    RST,
    SYN,
    Nic,
    Setup,
    Upper,
    arp,
    ethertype,
    fragment,
    frame,
    icmp,
    in_ipv6,
    ip_other,
    plenty,
    runt,
    sent,
    tcp,
    udp,
)

from emu.kernel.bugs import BUG_DOWN
from emu.kernel.machine import (
    DRIVER_8139CP,
    DRIVER_BOND,
    DRIVER_BRIDGE,
    DRIVER_E1000,
    DRIVER_E1000_PS,
    DRIVER_TG3,
    DRIVER_VLAN,
    PACKET_BROADCAST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    PLAN_DOWN,
    PLAN_MIN_FREE_KBYTES,
    PLAN_MTU,
    PLAN_PAGES,
    PLAN_UP,
)
from emu.wire.headers import (
    CSUM_BAD,
    CSUM_PARTIAL,
    CSUM_UNKNOWN,
    IP_HEADER_BAD,
    IP_TOO_SHORT,
    KIND_ICMPV6,
    KIND_TCP,
    TOO_SHORT,
)

PORTS = (OPEN, OPEN, OPEN, CLOSED, ISCSI, 80)
TAGS = tuple(tpid << 16 | 3 << 13 | vid for tpid in (0x8100, 0x8100, 0x88A8) for vid in (0, 5, 6))
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
    if dice.randrange(10) == 0:
        outer, inner = dice.choice(TAGS), dice.choice(TAGS)
        columns |= {"vlan_tags": dice.choice((1, 1, 2, 3)), "vlan_outer": outer, "vlan_inner": inner}
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


def piece(dice: random.Random) -> Any:
    """A fragment of one of a few datagrams, of UDP, TCP or ICMP: they overlap, repeat, and often complete one."""
    start = dice.choice((0, 0, 488, 976, 1464, 480, 8))
    octets = dice.choice((488, 488, 488, 496, 968, 100, 8))
    more = int(start < 1464 and dice.randrange(10) > 0)
    protocol = dice.choice((17, 17, 17, 6, 1))
    columns = fragment(start, octets, more, frag_id=dice.randrange(6), ip_protocol=protocol)
    columns |= {"frag_sum": dice.choice((-1, 0, dice.randrange(65535))), "dport": dice.choice(PORTS)}
    columns |= {"tcp_flags": ACK, "icmp_type": dice.choice((3, 8))} if start == 0 else {}
    return columns


def any_kind(dice: random.Random, devices: int) -> Any:
    """One frame of any kind, half of IPv4's fragments, some in IPv6, some to other hosts."""
    columns = piece(dice) | {"dev": dice.randrange(devices)} if dice.randrange(4) == 0 else one(dice, devices)
    if dice.randrange(4) == 0 and "ip_protocol" in columns:
        columns = in_ipv6(columns)
        if columns["kind"] == KIND_ICMPV6:
            columns["icmp_type"] = dice.choice((1, 128, 129, 135))
    if dice.randrange(16) == 0:
        columns["daddr"] = dice.choice((0x0A000009, 0xE00000FB, 0xFFFFFFFF))
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
    return dict(columns) | {"dev": dice.randrange(devices)}


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
        kind = dice.randrange(4)
        columns = one_segment(dice, devices) if kind == 0 else any_kind(dice, devices)
        frames.append(numbers.number(columns) | {"time_ns": now_ns})
    return frames


def recording(setup: Setup) -> Setup:
    """The setup with its stream of events written down."""
    return replace(setup, config=dict(setup.config) | {"recording": 1})


# Every driver, way of receiving, upper device and entry of a timeline, in a crunch and in plenty.
_UPPERS = (
    Upper(DRIVER_BOND, (0, 1)),
    Upper(DRIVER_VLAN, (4,), 0x8100 << 16 | 5),
    Upper(DRIVER_BRIDGE, (2, 3)),
    Upper(DRIVER_VLAN, (6,), 0x88A8 << 16 | 6),
)
_EVERY_DRIVER = (
    Nic(driver=DRIVER_E1000, napi=0, ring=80, background=48),
    Nic(driver=DRIVER_E1000_PS, ring=80, background=48),
    Nic(driver=DRIVER_8139CP, ring=64, weight=16, background=20),
    Nic(driver=DRIVER_TG3, ring=100, background=20),
)
_MS = 1_000_000
_PLAN = (
    (_MS, PLAN_DOWN, 0, 0),
    (2 * _MS, PLAN_PAGES, 0, -60),
    (3 * _MS, PLAN_UP, 0, 0),
    (3 * _MS, PLAN_DOWN, 1, 0),
    (4 * _MS, PLAN_MTU, 2, 1600),
    (5 * _MS, PLAN_MIN_FREE_KBYTES, 0, 1000),
    (6 * _MS, PLAN_UP, 1, 0),
    (7 * _MS, PLAN_PAGES, 0, -900),
    (8 * _MS, PLAN_DOWN, 3, 0),
    (9 * _MS, PLAN_MIN_FREE_KBYTES, 0, 3000),
    (10 * _MS, PLAN_UP, 3, 0),
    (11 * _MS, PLAN_MTU, 1, 9000),
    (12 * _MS, PLAN_PAGES, 0, 300),
)
DRIVER_SETUPS: dict[str, dict[str, Any]] = {
    "every driver under upper devices, with a timeline": {
        "nics": _EVERY_DRIVER,
        "uppers": _UPPERS,
        "plan": _PLAN,
    },
    "without NAPI, a short queue, inferred VLANs": {
        "nics": (Nic(napi=0), Nic(driver=DRIVER_E1000_PS, napi=0, mtu=4000, promisc=1)),
        "config": {"netdev_max_backlog": 4, "vlans_inferred": 1, "vlan_8021ad": 1, "cpu_ns_per_packet": 9000},
        "policy_rules": {"split_pages_memalloc": 1},
    },
    "plenty, every driver, bugs as posted": {
        "nics": _EVERY_DRIVER,
        "config": plenty(as_posted=1 << BUG_DOWN),
        "plan": _PLAN,
    },
    "jumbo frames from blocks": {
        "nics": (Nic(mtu=4078, ring=80, background=48), Nic(mtu=16110, ring=80, background=48, napi=0)),
        "free_blocks": (200, 20, 10, 30, 1),
    },
}
