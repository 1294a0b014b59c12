"""A scenario in the machine's own fields."""

from collections.abc import Mapping, Sequence
from typing import Any

from emu.engine.plain import Engine
from emu.engine.setup import build_machine
from emu.kernel.policy import POLICIES
from emu.kernel.sock import READERS
from emu.scenario import GEOMETRIES, Scenario, SocketTable, background_skbs, memory_pages, tcp_rmem, writers
from emu.traffic.expression import FlowTerm, parse_flows

UNSAID = -1
JUMBO_MTU = 16_110
TCP_MEM_BY_MEMORY = (0, 0, 0)  # boot computes it


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
                "napi": 1,
                "mtu": JUMBO_MTU if scenario.replay.offload == "jumbo" else device.mtu,
                "ring_size": device.ring,
                "weight": device.weight,
                "rx_reserve": rules["reserve_skbs"] if device.rx_reserve is None else device.rx_reserve,
                "background_skbs": background_skbs(scenario, device),
            }
            for device in scenario.device
        ],
        sock_rules=_sock_rules(scenario),
    )


def _config(scenario: Scenario) -> Mapping[str, int]:
    geometry = GEOMETRIES[scenario.machine.geometry]
    machine, pressure, readers = scenario.machine, scenario.pressure, scenario.readers
    rmem_min, rmem_default, rmem_max = tcp_rmem(scenario)
    mem = scenario.tcp.mem or TCP_MEM_BY_MEMORY
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
