"""From a scenario to a machine that is ready to play."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emu.engine.plain import Engine
from emu.kernel.boot import boot
from emu.kernel.machine import Machine

# sysctl_ipfrag_* and sysctl_ip6frag_* of 2.6.12, net/ipv4/ip_fragment.c and net/ipv6/reassembly.c
FRAG_LIMITS = (
    {"high_thresh": 262_144, "low_thresh": 196_608, "time_ns": 30_000_000_000},
    {"high_thresh": 262_144, "low_thresh": 196_608, "time_ns": 60_000_000_000},
)


# A rule on sockets that says nothing (`SockRule`): its match fields are 0, which is any.
SILENT_RULE = {"memalloc": -1, "closed": -1, "reader": -1, "read_rate": -1, "rcvbuf": -1}


class ClosedLoop(NamedTuple):
    """What a machine has in a closed loop only; mappings fill the records `Vm`, `Writer`, `IscsiSession`, `TcpConn`."""

    now_ns: int  # when it boots
    vm: Mapping[str, int]
    writers: Sequence[Mapping[str, int]]
    sessions: Sequence[Mapping[str, int]]
    conns: Sequence[Mapping[str, int]]  # the sessions' first
    sock_rules: Sequence[Mapping[str, int]]  # of these connections


def build_machine(
    engine: Engine,
    *,
    config: Mapping[str, int],
    policy: Mapping[str, int],
    devices: Sequence[Mapping[str, int]],
    sock_rules: Sequence[Mapping[str, int]] = (),
    zones: Mapping[int, Mapping[str, int]] | None = None,
    uppers: Sequence[Mapping[str, int]] = (),
    plan: Sequence[Mapping[str, int]] = (),
    free_blocks: Sequence[int] = (),
    frag_limits: Sequence[Mapping[str, int]] = FRAG_LIMITS,
    local_addrs: Sequence[Mapping[str, int]] = (),
    taps: Sequence[Mapping[str, int]] = (),
    raws: Sequence[Mapping[str, int]] = (),
    closed: ClosedLoop | None = None,
) -> Any:
    """A booted machine; each mapping fills the record of its name (`Config`, `Policy`, `Device`, `SockRule` ...).

    `zones`: what is known of a zone, by its number (`ZoneSaid`); `uppers` are the devices behind `devices`;
    `free_blocks` says how many free blocks of each order ZONE_NORMAL has; `frag_limits`: what IPv4's and IPv6's
    fragment queues may hold (`fill_network`).  What a rule on sockets leaves out is not said.
    """
    m = engine.new(Machine)
    engine.fill(m.config, config)
    engine.fill(m.policy, policy)
    netdevs = [*devices, *uppers]
    engine.fill(m, {"devices": len(devices), "netdevs": len(netdevs), "sock_rules": len(sock_rules)})
    engine.fill(m, {"plan_len": len(plan)})
    engine.fill(m.config, {"free_blocks_given": bool(free_blocks)})
    for order, blocks in enumerate(free_blocks):
        m.config.free_blocks[order] = blocks
    for entry, values in enumerate(plan):
        engine.fill(m.plan[entry], values)
    for d, values in enumerate(netdevs):
        engine.fill(m.dev[d], values)
    for rule, values in enumerate(sock_rules):
        engine.fill(m.sock_rule[rule], SILENT_RULE | dict(values))
    for zone, values in (zones or {}).items():
        engine.fill(m.zone_said[zone], dict(values) | {"said": 1})
    fill_network(engine, m, frag_limits, local_addrs, taps, raws)
    if closed is not None:
        fill_closed(engine, m, closed)
    engine.function(boot)(m)
    return m


def fill_closed(engine: Engine, m: Any, closed: ClosedLoop) -> None:
    """Close the loop: dirty memory, writers, sessions, connections."""
    engine.fill(m.config, {"closed": 1})
    engine.fill(m, {"now_ns": closed.now_ns, "sessions": len(closed.sessions), "conns": len(closed.conns)})
    engine.fill(m.vm, dict(closed.vm) | {"writers": len(closed.writers)})
    for at, values in enumerate(closed.writers):
        engine.fill(m.vm.writer[at], values)
    for at, values in enumerate(closed.sessions):
        engine.fill(m.session[at], values)
    for at, values in enumerate(closed.conns):
        engine.fill(m.conn[at], values)


def fill_network(
    engine: Engine,
    m: Any,
    frag_limits: Sequence[Mapping[str, int]],
    local_addrs: Sequence[Mapping[str, int]],
    taps: Sequence[Mapping[str, int]],
    raws: Sequence[Mapping[str, int]],
) -> None:
    """What the IP layers need: limits of reassembly (bytes, nanoseconds), the host's addresses, taps, raw sockets."""
    for family, limits in enumerate(frag_limits):
        m.config.ipfrag_high_thresh[family] = limits["high_thresh"]
        m.config.ipfrag_low_thresh[family] = limits["low_thresh"]
        m.config.ipfrag_time_ns[family] = limits["time_ns"]
    engine.fill(m, {"local_addrs": len(local_addrs), "taps": len(taps), "raws": len(raws)})
    for at, values in enumerate(local_addrs):
        engine.fill(m.local_addr[at], values)
    for at, values in enumerate(taps):
        engine.fill(m.tap[at], values)
    for at, values in enumerate(raws):
        engine.fill(m.raw[at], values)
