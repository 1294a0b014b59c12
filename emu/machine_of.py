"""A scenario in the machine's own fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from emu.engine.plain import Engine
from emu.engine.setup import build_machine
from emu.kernel.machine import DRIVERS, PLAN_ACTIONS
from emu.kernel.policy import POLICIES
from emu.kernel.sock import READERS
from emu.scenario import (
    GEOMETRIES,
    Scenario,
    SocketTable,
    background_skbs,
    memory_pages,
    ring_of,
    time_ns_of,
    weight_of,
    writers,
)
from emu.traffic.expression import FlowTerm, parse_flows

UNSAID = -1
JUMBO_MTU = 16_110
VLAN_TPIDS = {"802.1q": 0x8100, "802.1ad": 0x88A8}


def policy_rules(scenario: Scenario) -> dict[str, int]:
    """The policy's rules: its row, with the scenario's changes."""
    return POLICIES[scenario.policy.name].rules | scenario.policy.rules


def machine_of(engine: Engine, scenario: Scenario) -> Any:
    """The machine that a scenario describes, booted."""
    rules = policy_rules(scenario)
    return build_machine(
        engine,
        config=_config(scenario),
        policy=rules,
        devices=[
            {
                "driver": DRIVERS.index(device.driver),
                "napi": device.napi,
                "promisc": device.promisc,
                "mtu": JUMBO_MTU if scenario.replay.offload == "jumbo" else device.mtu,
                "ring_size": ring_of(device),
                "weight": weight_of(device),
                "rx_reserve": rules["reserve_skbs"] if device.rx_reserve is None else device.rx_reserve,
                "background_skbs": background_skbs(scenario, device),
            }
            for device in scenario.device
        ],
        uppers=_uppers(scenario),
        plan=_plan(scenario),
        free_blocks=scenario.pressure.free_blocks or (),
        sock_rules=_sock_rules(scenario),
    )


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
    geometry = GEOMETRIES[scenario.machine.geometry]
    machine, pressure, readers = scenario.machine, scenario.pressure, scenario.readers
    return {
        "memory_pages": memory_pages(scenario),
        "sk_buff_bytes": geometry.sk_buff_bytes,
        "l1_bytes": geometry.l1_bytes,
        "cpu_ns_per_packet": machine.cpu_ns_per_packet,
        "cpu_ps_per_byte": machine.cpu_ps_per_byte,
        "netdev_max_backlog": machine.netdev_max_backlog,
        "crunch": pressure.start == "crunch",
        "free_pages_above_floor": pressure.free_pages_above_floor,
        "memalloc_socket": pressure.memalloc_socket,
        "vlans_inferred": scenario.replay.vlans == "infer",
        "writers": writers(scenario) == "blocked",
        "udp_rcvbuf": readers.udp_rcvbuf or geometry.udp_rcvbuf,
        "tcp_rcvbuf": readers.tcp_rcvbuf or geometry.tcp_rcvbuf,
        "ordinary_reader": READERS.index(readers.ordinary),
        "memalloc_reader": READERS.index(readers.memalloc),
        "read_rate": readers.rate,
    }


def _sock_rules(scenario: Scenario) -> Sequence[Mapping[str, int]]:
    rules = [_remote(term) | {"memalloc": 1} for term in parse_flows(scenario.replay.memalloc, "replay.memalloc")]
    for term in parse_flows(scenario.replay.closed, "replay.closed"):
        local = {"protocol": term.protocol, "local_port": term.port, "local_addr": term.addr}
        rules.append(_SILENT | local | {"closed": 1})
    for socket in scenario.socket:
        rules += [_remote(term) | _said(socket) for term in parse_flows(socket.match, "socket.match")]
    return rules


_SILENT = {
    "protocol": 0,
    "local_port": 0,
    "local_addr": 0,
    "remote_addr": 0,
    "remote_port": 0,
    "memalloc": UNSAID,
    "closed": UNSAID,
    "reader": UNSAID,
    "read_rate": UNSAID,
    "rcvbuf": UNSAID,
}


def _remote(term: FlowTerm) -> dict[str, int]:
    return _SILENT | {"protocol": term.protocol, "remote_addr": term.addr, "remote_port": term.port}


def _said(socket: SocketTable) -> dict[str, int]:
    return {
        "local_port": socket.local_port,
        "memalloc": UNSAID if socket.memalloc is None else int(socket.memalloc),
        "closed": 1 if socket.closed else UNSAID,
        "reader": UNSAID if socket.reader is None else READERS.index(socket.reader),
        "read_rate": socket.rate or UNSAID,
        "rcvbuf": socket.rcvbuf or UNSAID,
    }
