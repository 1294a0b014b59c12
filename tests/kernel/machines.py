"""Machines for the tests: built by hand, fed by hand, on either engine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from emu.engine.loop import leave_in_flight, run
from emu.engine.plain import Engine, PlainEngine
from emu.engine.setup import FRAG_LIMITS, fill_network
from emu.kernel.boot import boot, start_clock
from emu.kernel.drop_reason import REASONS
from emu.kernel.invariants import HOLDS, SENTENCES, check_conservation, check_structures
from emu.kernel.iscsi_follow_state import MAX_FOLLOWED
from emu.kernel.machine import (
    BACKLOG_DEV,
    DIR_INBOUND,
    DRIVER_E1000,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_OUTGOING,
    ZONE_DMA,
    ZONE_NORMAL,
    Device,
    Event,
    Machine,
    Packet,
)
from emu.kernel.policy import POLICIES
from emu.kernel.record import fields_of
from emu.kernel.sock import READER_IMMEDIATE, READER_NEEDS_MEMORY, READER_NEVER
from emu.wire.headers import (
    KIND_ARP,
    KIND_ICMP,
    KIND_ICMPV6,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_IPV6,
    KIND_MALFORMED,
    KIND_OTHER,
    KIND_TCP,
    KIND_UDP,
)

PLAIN: Engine = PlainEngine()

HOST = 0x0A000002
FE80 = -0x0180_0000_0000_0000  # fe80::/64, the high half of an address
PEER = 0x0A000001
ISCSI = 3260  # the port of the block I/O that the rule MEMALLOC marks
OPEN, CLOSED = 7, 9  # local ports
ACK, SYN, RST, FIN = 0x10, 0x02, 0x04, 0x01

DEFAULT_CONFIG = {
    "memalloc_socket": 0,
    "memory_pages": 32768,
    "mm": 0,
    "thp": 0,
    "netdev_budget": 0,
    "head_memalloc": 0,
    "silent": 0,
    "sk_buff_bytes": 168,
    "l1_bytes": 128,
    "cpu_ns_per_packet": 2000,
    "cpu_ps_per_byte": 1000,
    "netdev_max_backlog": 300,
    "crunch": 1,
    "free_pages_above_floor": 0,
    "writers": 1,
    "udp_rcvbuf": 108544,
    "tcp_rcvbuf": 87380,
    "tcp_mem_low": 0,
    "tcp_mem_pressure": 0,
    "tcp_mem_high": 0,
    "tcp_rmem_min": 4096,
    "tcp_rmem_max": 174760,
    "ordinary_reader": READER_NEEDS_MEMORY,
    "memalloc_reader": READER_IMMEDIATE,
    "read_rate": 0,
    "vlans_inferred": 0,
    "vlan_8021ad": 0,
    "recording": 0,
    "as_posted": 0,
    "ip_forward": 0,
}

Columns = Mapping[str, int]


def rule(protocol: int, **columns: int) -> dict[str, int]:
    """A user's rule on sockets; what is not given is not said."""
    nothing = {"local_port": 0, "local_addr": 0, "remote_addr": 0, "remote_port": 0}
    unsaid = {"memalloc": -1, "closed": -1, "reader": -1, "read_rate": -1, "rcvbuf": -1, "members": 0}
    return {"protocol": protocol} | nothing | unsaid | columns


MEMALLOC_TCP = rule(6, remote_port=ISCSI, memalloc=1)
MEMALLOC_UDP = rule(17, remote_port=ISCSI, memalloc=1)
CLOSED_TCP = rule(6, local_port=CLOSED, closed=1)
CLOSED_UDP = rule(17, local_port=CLOSED, closed=1)
USUAL_RULES = (MEMALLOC_TCP, MEMALLOC_UDP, CLOSED_TCP, CLOSED_UDP)


@dataclass(frozen=True)
class Nic:
    """One device; `reserve` is its cap in skbs, None for the policy's own, `background` is taken in a crunch only."""

    mtu: int = 1500
    weight: int = 64
    ring: int = 256
    reserve: int | None = None
    background: int = 224
    driver: int = DRIVER_E1000
    napi: int = 1
    promisc: int = 0


@dataclass(frozen=True)
class Upper:
    """A device over the devices `lower`, by row; a VLAN's `tag` is TPID << 16 | VLAN id."""

    driver: int
    lower: tuple[int, ...]
    tag: int = 0
    promisc: int = 0


@dataclass(frozen=True)
class Setup:
    """What a machine is built from; `config` overrides `DEFAULT_CONFIG`, `rules_of_policy` the policy's row.

    `plan` entries are (time_ns after the first frame, PLAN_*, device, value), by time.
    """

    policy: str = "phillips-v5"
    config: Columns = field(default_factory=dict)
    nics: tuple[Nic, ...] = (Nic(),)
    rules: tuple[Columns, ...] = USUAL_RULES
    policy_rules: Columns = field(default_factory=dict)
    frag_limits: tuple[Columns, ...] = FRAG_LIMITS
    local_addrs: tuple[Columns, ...] = ()
    taps: tuple[Columns, ...] = ()
    raws: tuple[Columns, ...] = ()
    uppers: tuple[Upper, ...] = ()
    plan: tuple[tuple[int, int, int, int], ...] = ()
    free_blocks: tuple[int, ...] = ()


def unbooted(setup: Setup, engine: Engine = PLAIN) -> Any:
    """A machine with all that `boot` expects to be filled in."""
    m = engine.new(Machine)
    unknown = set(setup.config) - set(DEFAULT_CONFIG)
    assert not unknown, unknown
    engine.fill(m.config, DEFAULT_CONFIG | dict(setup.config))
    engine.fill(m.policy, POLICIES[setup.policy].rules | dict(setup.policy_rules))
    engine.fill(m, {"devices": len(setup.nics), "netdevs": len(setup.nics), "sock_rules": len(setup.rules)})
    for d, nic in enumerate(setup.nics):
        reserve = m.policy.reserve_skbs if nic.reserve is None else nic.reserve
        engine.fill(m.dev[d], {"mtu": nic.mtu, "weight": nic.weight, "ring_size": nic.ring, "rx_reserve": reserve})
        engine.fill(m.dev[d], {"background_skbs": nic.background, "driver": nic.driver, "napi": nic.napi})
        engine.fill(m.dev[d], {"promisc": nic.promisc})
    lay_uppers(m, setup, engine)
    for at, entry in enumerate(setup.plan):
        engine.fill(m.plan[at], dict(zip(("time_ns", "action", "dev", "value"), entry, strict=True)))
    engine.fill(m, {"plan_len": len(setup.plan)})
    for order, blocks in enumerate(setup.free_blocks):
        m.config.free_blocks[order] = blocks
        engine.fill(m.config, {"free_blocks_given": 1})
    for at, columns in enumerate(setup.rules):
        engine.fill(m.sock_rule[at], columns)
    fill_network(engine, m, setup.frag_limits, setup.local_addrs, setup.taps, setup.raws)
    return m


def lay_uppers(m: Any, setup: Setup, engine: Engine) -> None:
    """Put the setup's upper devices behind its NICs."""
    nics = len(setup.nics)
    engine.fill(m, {"netdevs": nics + len(setup.uppers)})
    for at, upper in enumerate(setup.uppers):
        mask = sum(1 << d for d in upper.lower)
        values = {"driver": upper.driver, "lower_mask": mask, "vlan_tag": upper.tag, "promisc": upper.promisc}
        engine.fill(m.dev[nics + at], values | {"mtu": 1500})


def booted(setup: Setup, engine: Engine = PLAIN, start_ns: int = 0) -> Any:
    """A machine at the moment when play starts."""
    m = unbooted(setup, engine)
    engine.function(boot)(m)
    engine.function(start_clock)(m, start_ns)
    return m


def plenty(**config: int) -> dict[str, int]:
    """The settings of a machine with free memory, where everybody reads at once."""
    quiet = {"crunch": 0, "writers": 0}
    return quiet | {"ordinary_reader": READER_IMMEDIATE, "memalloc_reader": READER_IMMEDIATE} | config


def frame(kind: int, length: int, **columns: int) -> dict[str, int]:
    """One frame to the host, of `length` bytes on the wire."""
    usual = {
        "caplen": length,
        "length": length,
        "direction": DIR_INBOUND,
        "kind": kind,
        "pkt_type": PACKET_HOST,
        "ethertype": 0x0800,
        "saddr": PEER,
        "daddr": HOST,
        "icmp_type": -1,
        "quoted_port": -1,
        "segments": 1,
    }
    return usual | columns


def tcp(dport: int = OPEN, payload: int = 1000, *, sport: int = 40_000, flags: int = ACK, **columns: int) -> Any:
    """A TCP segment with a 20-byte header."""
    sizes = {"l4_length": 20 + payload, "payload_length": payload, "ip_protocol": 6}
    return frame(KIND_TCP, 54 + payload, sport=sport, dport=dport, tcp_flags=flags, **(sizes | columns))


def iscsi(payload: int = 48, **columns: int) -> Any:
    """A TCP segment of the flow that block I/O depends on."""
    return tcp(OPEN, payload, sport=ISCSI, **columns)


def udp(dport: int = OPEN, payload: int = 1000, *, sport: int = 40_000, **columns: int) -> Any:
    """A UDP datagram."""
    sizes = {"l4_length": 8 + payload, "payload_length": payload, "ip_protocol": 17}
    return frame(KIND_UDP, 42 + payload, sport=sport, dport=dport, **(sizes | columns))


def icmp(icmp_type: int = 8, payload: int = 56, **columns: int) -> Any:
    """An ICMP message; 8 is an echo request."""
    sizes = {"l4_length": 8 + payload, "payload_length": payload, "ip_protocol": 1}
    return frame(KIND_ICMP, 42 + payload, **(sizes | {"icmp_type": icmp_type} | columns))


def arp(**columns: int) -> Any:
    """An ARP request."""
    return frame(KIND_ARP, 42, **({"ethertype": 0x0806, "pkt_type": PACKET_BROADCAST} | columns))


def ip_other(protocol: int, **columns: int) -> Any:
    """An IPv4 packet of another protocol: 2 is IGMP, 132 SCTP."""
    return frame(KIND_IP_OTHER, 60, ip_protocol=protocol, l4_length=26, **columns)


def fragment(offset: int = 0, octets: int = 1480, more: int = 1, **columns: int) -> Any:
    """An IPv4 fragment of a UDP datagram: `octets` of it from `offset` on; its sum is not known.

    The frame is never longer than an MTU of 1500 allows, whatever it says of itself.
    """
    place = {"frag_id": 1, "frag_offset": offset, "frag_more": more, "frag_length": octets, "frag_sum": -1}
    first = {"sport": 40_000, "dport": OPEN, "l4_length": octets, "payload_length": max(0, octets - 8)}
    known = place | (first if offset == 0 else {})
    return frame(KIND_IP_FRAGMENT, min(34 + octets, 1514), **({"ip_protocol": 17} | known | columns))


def in_ipv6(columns: Columns) -> dict[str, int]:
    """The same packet in IPv6, between two other hosts."""
    kind = KIND_ICMPV6 if columns["kind"] == KIND_ICMP else columns["kind"]
    protocol = 58 if columns["ip_protocol"] == 1 else columns["ip_protocol"]
    ends = {"saddr_hi": FE80, "daddr_hi": FE80}
    length = min(columns["length"] + 20, 1514)
    place = {"ip_version": 6, "ethertype": 0x86DD, "length": length, "caplen": length}
    return dict(columns) | place | ends | {"kind": kind, "ip_protocol": protocol}


def packet_sock(**columns: int) -> dict[str, int]:
    """A tap on every device, or a raw socket: nobody reads it."""
    return {"dev": -1, "family": 4, "reader": READER_NEVER, "read_rate": 0, "rcvbuf": 108_544} | columns


def ethertype(value: int, **columns: int) -> Any:
    """A frame of another ethertype."""
    kind = KIND_IPV6 if value == 0x86DD else KIND_OTHER
    return frame(kind, 60, **({"ethertype": value, "saddr": 0, "daddr": 0} | columns))


def runt(**columns: int) -> Any:
    """A frame shorter than an Ethernet header."""
    return frame(KIND_MALFORMED, 10, **({"ethertype": 0, "saddr": 0, "daddr": 0} | columns))


def sent(columns: Columns) -> Any:
    """The frame that the host sends: the addresses and ports of `columns` the other way round."""
    swapped = {"saddr": "daddr", "daddr": "saddr", "sport": "dport", "dport": "sport"}
    turned = {swapped.get(name, name): value for name, value in columns.items()}
    return turned | {"pkt_type": PACKET_OUTGOING}


def paced(frames: Iterable[Columns], gap_ns: int = 10_000, start_ns: int = 0) -> list[dict[str, int]]:
    """The frames, `gap_ns` apart; a frame that has a time of its own keeps it."""
    return [{"time_ns": start_ns + at * gap_ns} | dict(columns) for at, columns in enumerate(frames)]


def in_sequence(frames: Sequence[Columns]) -> Iterator[Columns]:
    """The frames; TCP segments that say no sequence number follow one another, each flow from 1 on."""
    following: dict[tuple[int, ...], int] = {}
    for columns in frames:
        if columns["kind"] != KIND_TCP:
            yield columns
            continue
        flow = tuple(columns.get(name, 0) for name in ("saddr", "daddr", "sport", "dport"))
        seq = columns.get("tcp_seq", following.get(flow, 1))
        flags = columns.get("tcp_flags", 0)
        taken = columns.get("payload_length", 0) + (flags & SYN > 0) + (flags & FIN > 0)
        following[flow] = (seq + taken) % (1 << 32)
        yield dict(columns) | {"tcp_seq": seq}


def rows_of(frames: Sequence[Columns], engine: Engine = PLAIN) -> Any:
    """The frames as rows of the engine, numbered from 1."""
    rows = engine.rows(Packet, max(1, len(frames)))
    for at, columns in enumerate(in_sequence(frames)):
        numbered = {"frame": at + 1, "packet_id": at + 1, "file_time_ns": columns["time_ns"]} | dict(columns)
        engine.fill(rows[at], numbered)
    return rows


@dataclass
class Play:
    """A machine, the rows that it played, and the event stream that it recorded."""

    m: Any
    rows: Any
    count: int
    log: Any
    events: int

    def column(self, name: str) -> list[int]:
        """One column of all rows."""
        return [int(value_of(self.rows[at], name)) for at in range(self.count)]

    def reasons(self) -> list[str]:
        """Why each packet was dropped, '' where it was not."""
        return [REASONS[number].name for number in self.column("reason")]


LOG_SIZE = 1 << 20


def play(
    setup: Setup,
    frames: Sequence[Columns],
    *,
    until_ns: int = 0,
    engine: Engine = PLAIN,
    machine: Any = None,
    log_size: int = LOG_SIZE,
    check: bool = True,
) -> Play:
    """Play frames on a machine built from `setup` (or on `machine`), then let it run on until `until_ns`."""
    start_ns = frames[0]["time_ns"] if frames else 0
    m = booted(setup, engine, start_ns) if machine is None else machine
    rows = rows_of(frames, engine)
    log = engine.rows(Event, log_size if m.config.recording else 4)
    count = len(frames)
    events = 0
    if count:
        first, events = engine.function(run)(m, rows, 0, count, 0, log, log_size)
        assert first == count, "the log is too short for this test"
    if until_ns:
        assert not m.config.recording, "one run, one stream"
        engine.function(run)(m, rows, count, count, until_ns, log, log_size)
    engine.function(leave_in_flight)(m, rows, 0, count)
    if check:
        holds(m, engine)
    return Play(m, rows, count, log, events)


def holds(m: Any, engine: Engine = PLAIN) -> None:
    """Every invariant of the machine holds."""
    assert SENTENCES[engine.function(check_conservation)(m)] == SENTENCES[HOLDS]
    assert SENTENCES[engine.function(check_structures)(m)] == SENTENCES[HOLDS]


def leave_free(m: Any, normal: int, dma: int = 0) -> None:
    """Give all but so many pages of each zone to others; none stay on the per-CPU lists."""
    for zone, pages in ((ZONE_DMA, dma), (ZONE_NORMAL, normal)):
        z = m.zone[zone]
        z.other_pages += z.free_pages + z.pcp_count - pages
        z.free_pages = pages
        z.pcp_count = 0
        for order in range(len(z.nr_free)):
            z.nr_free[order] = 0
        z.nr_free[0] = pages


def pages_left(m: Any) -> int:
    """Pages that somebody without a watermark could have."""
    return sum(m.zone[zone].free_pages + m.zone[zone].pcp_count for zone in range(m.zones))


def value_of(record: Any, name: str) -> Any:
    """A field of a record or of a row of either engine."""
    return getattr(record, name) if hasattr(record, name) else record[name]


def flat(record: Any, row: type, lengths: Callable[[str, int], int] = lambda _name, length: length) -> dict[str, int]:
    """Every integer below a record by its path; `lengths` says how much of an array to look at."""
    out: dict[str, int] = {}
    for name, nested, length in fields_of(row):
        value = value_of(record, name)
        if not length:
            if nested is None:
                out[name] = int(value)
            else:
                out |= {f"{name}.{path}": inner for path, inner in flat(value, nested, lengths).items()}
            continue
        for at in range(lengths(name, length)):
            if nested is None:
                out[f"{name}[{at}]"] = int(value[at])
            else:
                out |= {f"{name}[{at}].{path}": inner for path, inner in flat(value[at], nested, lengths).items()}
    return out


def whole(m: Any) -> dict[str, int]:
    """Every integer of the machine that can have been written to."""
    used = {
        "zone": int(m.zones),
        "cache": int(m.caches),
        "slab": int(m.slabs_made),
        "skb": int(m.skbs_made),
        "dev": int(m.netdevs),
        "sk": int(m.sks_made),
        "sock_rule": int(m.sock_rules),
        "later": int(m.later_len),
        "frag_queue": int(m.frag_queues_made),
        "tap": int(m.taps),
        "raw": int(m.raws),
        "local_addr": int(m.local_addrs),
        "plan": int(m.plan_len),
        "conn": int(m.conns),
        "session": int(m.sessions),
        "tx": int(m.tx_made),
        "pdu": 256,
        "again": int(m.agains_made),
        **dict.fromkeys(("wire", "flow"), MAX_FOLLOWED if m.follow.flows else 0),
        "news": int(m.follow.news_len),
        **dict.fromkeys(("ring_skb", "ring_seq", "ring_pages"), max(int(m.dev[d].ring_size) for d in range(m.devices))),
    }
    backlog_dev = flat(m.dev[BACKLOG_DEV], Device, lambda _name, _length: 0)
    values = flat(m, Machine, lambda name, length: used.get(name, length))
    return values | {f"backlog_dev.{name}": value for name, value in backlog_dev.items()}


@cache
def compiled() -> Engine:
    """The compiled engine, linked once; its cache is that of every other run of these sources."""
    from emu.engine.compiled import CompiledEngine

    engine: Engine = CompiledEngine()
    return engine
