"""A scenario in the machine's own fields."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from emu.as_posted import buildable, parse_as_posted
from emu.engine.plain import Engine
from emu.engine.setup import ClosedLoop, build_machine
from emu.errors import UsageError
from emu.kernel.machine import DRIVERS, MAX_RULES, MM_6X, PLAN_ACTIONS, ZONES
from emu.kernel.policy import POLICIES
from emu.kernel.sock import READERS
from emu.scenario import (
    DEFAULT_MEMALLOC,
    RawTable,
    Scenario,
    SocketTable,
    TapTable,
    ZoneTable,
    background_skbs,
    driver_of,
    geometry_of,
    memory_pages,
    ring_of,
    tcp_rmem,
    weight_of,
    writers,
)
from emu.scenario_parts import time_ns_of
from emu.tables import shown
from emu.traffic.crafted import Crafted, CraftedSocket
from emu.traffic.expression import FlowTerm, parse_address, parse_flows

UNSAID = -1
JUMBO_MTU = 16_110
VLAN_TPIDS = {"802.1q": 0x8100, "802.1ad": 0x88A8}
MAX_PORT = 65_535
TCP_MEM_BY_MEMORY = (0, 0, 0)  # boot computes it


def policy_rules(scenario: Scenario) -> dict[str, int]:
    """The policy's rules: its row, with the scenario's changes."""
    return POLICIES[scenario.policy.name].rules | scenario.policy.rules


def machine_of(
    engine: Engine, scenario: Scenario, crafted: Iterable[Crafted] = (), closed: ClosedLoop | None = None
) -> Any:
    """The machine that a scenario describes, booted; `crafted` traffic says which sockets its frames are for.

    `closed`: what it has besides in a closed loop.
    """
    rules = policy_rules(scenario)
    ip = scenario.ip
    return build_machine(
        engine,
        config=_config(scenario),
        policy=rules,
        devices=[
            {
                "driver": DRIVERS.index(driver_of(scenario, device)),
                "napi": device.napi,
                "promisc": device.promisc,
                "mtu": JUMBO_MTU if scenario.replay.offload == "jumbo" else device.mtu,
                "ring_size": ring_of(scenario, device),
                "weight": weight_of(scenario, device),
                "rx_reserve": rules["reserve_skbs"] if device.rx_reserve is None else device.rx_reserve,
                "background_skbs": background_skbs(scenario, device),
            }
            for device in scenario.device
        ],
        uppers=_uppers(scenario),
        plan=_plan(scenario),
        free_blocks=scenario.pressure.free_blocks or (),
        sock_rules=_sock_rules(scenario, crafted, () if closed is None else closed.sock_rules),
        closed=closed,
        zones={ZONES.index(zone.name): _zone(zone) for zone in scenario.zone},
        frag_limits=[
            {
                "high_thresh": ip.ipfrag_high_thresh_bytes,
                "low_thresh": ip.ipfrag_low_thresh_bytes,
                "time_ns": ip.ipfrag_time_ns,
            },
            {
                "high_thresh": ip.ip6frag_high_thresh_bytes,
                "low_thresh": ip.ip6frag_low_thresh_bytes,
                "time_ns": ip.ip6frag_time_ns,
            },
        ],
        local_addrs=[_address(text) for text in ip.local_addrs],
        taps=[{"dev": _device(scenario, tap.device)} | _reads(scenario, tap) for tap in scenario.tap],
        raws=[{"protocol": raw.protocol, "family": raw.family} | _reads(scenario, raw) for raw in scenario.raw],
    )


def _zone(zone: ZoneTable) -> dict[str, int]:
    said = {
        "present_pages": zone.present_pages,
        "free_pages": zone.free_pages,
        "pages_min": zone.min_pages,
        "pages_low": zone.low_pages,
        "pages_high": zone.high_pages,
        "lowmem_reserve": zone.lowmem_reserve_pages,
    }
    return {name: UNSAID if pages is None else pages for name, pages in said.items()}


def _address(text: str) -> Mapping[str, int]:
    address = parse_address(text)
    return {"family": address.family, "addr_hi": address.hi, "addr": address.lo}


def _device(scenario: Scenario, name: str) -> int:
    return [device.name for device in scenario.device].index(name) if name else -1


def _reads(scenario: Scenario, socket: TapTable | RawTable) -> dict[str, int]:
    """Who reads a tap or a raw socket: as it says, else like ordinary sockets."""
    return {
        "reader": READERS.index(socket.reader or scenario.readers.ordinary),
        "read_rate": socket.rate or scenario.readers.rate,
        "rcvbuf": socket.rcvbuf or 0,
    }


def _uppers(scenario: Scenario) -> Sequence[Mapping[str, int]]:
    """The upper devices, in rows behind the NICs; each says by bits which rows lie below it."""
    names = [device.name for device in scenario.device] + [upper.name for upper in scenario.upper]
    return [
        {
            "driver": DRIVERS.index(upper.kind),
            "lower_mask": sum(1 << names.index(name) for name in set(upper.lower)),
            "vlan_tag": VLAN_TPIDS[upper.vlan_protocol] << 16 | (upper.vlan_id or 0),
            "promisc": upper.promisc,
            "mtu": scenario.device[0].mtu,
        }
        for upper in scenario.upper
    ]


def _plan(scenario: Scenario) -> Sequence[Mapping[str, int]]:
    """The timeline, by time; entries of one time keep their order."""
    names = [device.name for device in scenario.device]
    entries = [
        {
            "time_ns": time_ns_of(entry.time),
            "action": PLAN_ACTIONS.index(entry.action),
            "dev": 0 if entry.device is None else names.index(entry.device),
            "value": entry.value or 0,
        }
        for entry in scenario.at
    ]
    return sorted(entries, key=lambda entry: entry["time_ns"])


def _config(scenario: Scenario) -> Mapping[str, int]:
    geometry = geometry_of(scenario)
    machine, pressure, readers = scenario.machine, scenario.pressure, scenario.readers
    rmem_min, rmem_default, rmem_max = tcp_rmem(scenario)
    mem = scenario.tcp.mem or TCP_MEM_BY_MEMORY
    return {
        "memory_pages": memory_pages(scenario),
        "mm": geometry.mm,
        "thp": machine.thp == "on",
        "netdev_budget": geometry.netdev_budget,
        "sk_buff_bytes": geometry.sk_buff_bytes,
        "l1_bytes": geometry.l1_bytes,
        "cpu_ns_per_packet": machine.cpu_ns_per_packet,
        "cpu_ps_per_byte": machine.cpu_ps_per_byte,
        "netdev_max_backlog": machine.netdev_max_backlog or geometry.netdev_max_backlog,
        "crunch": pressure.start == "crunch",
        "free_pages_above_floor": pressure.free_pages_above_floor,
        "memalloc_socket": pressure.memalloc_socket,
        "vlans_inferred": scenario.replay.vlans == "infer",
        "vlan_8021ad": geometry.mm == MM_6X,
        "writers": writers(scenario) == "blocked",
        "udp_rcvbuf": readers.udp_rcvbuf or geometry.udp_rcvbuf,
        "tcp_rcvbuf": readers.tcp_rcvbuf or rmem_default,
        "tcp_mem_low": mem[0],
        "tcp_mem_pressure": mem[1],
        "tcp_mem_high": mem[2],
        "tcp_rmem_min": rmem_min,
        "tcp_rmem_max": rmem_max,
        "ordinary_reader": READERS.index(readers.ordinary),
        "memalloc_reader": READERS.index(readers.memalloc),
        "read_rate": readers.rate,
        "ip_forward": scenario.ip.forward,
        "as_posted": _as_posted(scenario),
        "retransmit": scenario.replay.retransmit,
        "real_peers": scenario.replay.peers == "real",
        "write_back": scenario.replay.write_back == "followed",
    }


def _as_posted(scenario: Scenario) -> int:
    """The bugs of this run; UsageError when they leave no kernel to run."""
    mask = parse_as_posted(scenario.policy.as_posted, scenario.policy.name)
    refused = buildable(scenario.policy.name, mask)
    if refused:
        raise UsageError(refused)
    return mask


def crafted_sockets(scenario: Scenario, crafted: Iterable[Crafted]) -> list[tuple[Crafted, CraftedSocket]]:
    """What crafted traffic says of sockets, as far as the user leaves it to say so.

    Whoever says which flows depend on block I/O (`replay.memalloc` other than its default) says it of all; so it is
    with `replay.closed`.
    """
    memalloc, closed = scenario.replay.memalloc == DEFAULT_MEMALLOC, not scenario.replay.closed
    found = []
    for traffic in crafted:
        for socket in traffic.sockets:
            heard = structs.replace(socket, memalloc=socket.memalloc and memalloc, closed=socket.closed and closed)
            if heard.memalloc or heard.closed:
                found.append((traffic, heard))
    return found


def _crafted_rules(scenario: Scenario, crafted: Iterable[Crafted]) -> list[dict[str, int]]:
    rules = []
    for traffic, socket in crafted_sockets(scenario, crafted):
        what = f"crafted traffic {shown(traffic.recipe)}:"
        if not 0 <= socket.local_port <= MAX_PORT:  # a file may say anything
            raise UsageError(f"{what} '{socket.local_port}' is not a port")
        said = {
            "local_port": socket.local_port,
            "memalloc": 1 if socket.memalloc else UNSAID,
            "closed": 1 if socket.closed else UNSAID,
        }
        rules += [_remote(term) | said for term in parse_flows(socket.match, what)]
    return rules


def _sock_rules(
    scenario: Scenario, crafted: Iterable[Crafted], own: Sequence[Mapping[str, int]]
) -> Sequence[Mapping[str, int]]:
    # Later rules win: what crafted traffic says comes first, then what a run says of its own connections.
    rules: list[Mapping[str, int]] = [*_crafted_rules(scenario, crafted), *own]
    memalloc = "" if scenario.is_run else scenario.replay.memalloc
    rules += [_remote(term) | {"memalloc": 1} for term in parse_flows(memalloc, "replay.memalloc")]
    for term in parse_flows(scenario.replay.closed, "replay.closed"):
        local = {"protocol": term.protocol, "local_port": term.port, "local_addr": term.addr}
        local |= {"family": term.family, "local_addr_hi": term.addr_hi}
        rules.append(local | {"closed": 1})
    for socket in scenario.socket:
        rules += [_remote(term) | _said(socket) for term in parse_flows(socket.match, "socket.match")]
    if len(rules) > MAX_RULES:
        raise UsageError(
            f"crafted traffic and the scenario name {len(rules)} flows; at most {MAX_RULES}: name fewer, or have the "
            "crafted ones ignored with --memalloc and --closed"
        )
    return rules


def _remote(term: FlowTerm) -> dict[str, int]:
    address = {"family": term.family, "remote_addr": term.addr, "remote_addr_hi": term.addr_hi}
    return address | {"protocol": term.protocol, "remote_port": term.port}


def _said(socket: SocketTable) -> dict[str, int]:
    return {
        "local_port": socket.local_port,
        "memalloc": UNSAID if socket.memalloc is None else int(socket.memalloc),
        "closed": 1 if socket.closed else UNSAID,
        "reader": UNSAID if socket.reader is None else READERS.index(socket.reader),
        "read_rate": socket.rate or UNSAID,
        "rcvbuf": socket.rcvbuf or UNSAID,
        "members": socket.members or 0,
    }
