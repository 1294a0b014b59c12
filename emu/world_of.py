"""A scenario of the closed loop in numbers: the machine's own fields of it, and what the world outside is made of.

Connection c of the host ends at peer c: the sessions come first, in the scenario's order, the downloads follow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from emu.engine.plain import Engine
from emu.engine.setup import ClosedLoop
from emu.kernel.machine import NEVER_NS, PAGE_SIZE
from emu.kernel.sock import IPPROTO_TCP, READERS
from emu.machine_of import machine_of
from emu.scenario import Scenario, tcp_rmem, vlans_of
from emu.scenario_loop import (
    DOWNLOAD_PORT,
    HOST_ADDRESS,
    SESSION_PORT,
    DownloadTable,
    RunTable,
    SessionTable,
    VmTable,
    WireTable,
    WriterTable,
)
from emu.scenario_parts import bit_rate_of, byte_rate_of, size_bytes_of, time_ns_of
from emu.traffic.crafted import START_NS, Crafted
from emu.traffic.expression import parse_address
from emu.traffic.peer.setup import (
    TCP_IP_BYTES,
    BlackoutSetup,
    PeerSetup,
    ServerSetup,
    TargetSetup,
    WireSetup,
    WorldSetup,
)
from emu.traffic.peer.state import PEER_WINDOW_SCALE

FIRST_HOST_PORT = 32_768  # 2.6.12 sysctl_local_port_range begins there
PORTS_PER_CONN = 256  # a session that is opened anew takes the next one
LARGEST_PLAIN_WINDOW = 65_535
MOST_WINDOW_SCALE = 14


def run_of(scenario: Scenario) -> RunTable:
    """The scenario's run; the default one of a scenario without."""
    return scenario.run or RunTable()


def duration_ns(scenario: Scenario) -> int:
    """How long it runs."""
    return time_ns_of(run_of(scenario).duration)


def host_window_scale(scenario: Scenario) -> int:
    """What the host shifts its windows by (2.6.12 tcp_select_initial_window: the largest buffer must fit)."""
    space, scale = tcp_rmem(scenario)[2], 0
    while space > LARGEST_PLAIN_WINDOW and scale < MOST_WINDOW_SCALE:
        space >>= 1
        scale += 1
    return scale


def _dev(scenario: Scenario, name: str) -> int:
    names = [device.name for device in scenario.device]
    return names.index(name) if name else 0


def _peer(scenario: Scenario, conn: int, device: str, address: str, port: int) -> PeerSetup:
    """The ends of a connection; one over a VLAN is on the NIC below it, with the tag."""
    vlan = vlans_of(scenario).get(device)
    dev = _dev(scenario, device if vlan is None else vlan.lower[0])
    host_port = FIRST_HOST_PORT + PORTS_PER_CONN * conn
    tag = 0 if vlan is None else vlan.vlan_id or 0
    return PeerSetup(dev, HOST_ADDRESS, host_port, address, port, scenario.device[dev].mtu - TCP_IP_BYTES, tag)


def _target(scenario: Scenario, s: int, session: SessionTable) -> TargetSetup:
    return TargetSetup(
        peer=_peer(scenario, s, session.device, session.target, SESSION_PORT),
        queue_depth=session.queue_depth,
        immediate_data=session.immediate_data,
        initial_r2t=session.initial_r2t,
        first_burst_bytes=size_bytes_of(session.first_burst),
        max_burst_bytes=size_bytes_of(session.max_burst),
        max_recv_bytes=size_bytes_of(session.max_recv),
        service_ns=time_ns_of(session.service),
    )


def _server(scenario: Scenario, conn: int, download: DownloadTable) -> ServerSetup:
    peer = _peer(scenario, conn, download.device, download.server, DOWNLOAD_PORT)
    return ServerSetup(peer, size_bytes_of(download.bytes))


def world_setup(scenario: Scenario) -> WorldSetup:
    """What is outside the host."""
    said = {_dev(scenario, wire.device): wire for wire in scenario.wire}
    wires = [said.get(d, WireTable()) for d in range(len(scenario.device))]
    sessions = len(scenario.session)
    return WorldSetup(
        seed=run_of(scenario).seed,
        start_ns=START_NS,
        host_window_scale=host_window_scale(scenario),
        wires=tuple(WireSetup(time_ns_of(wire.latency), bit_rate_of(wire.rate)) for wire in wires),
        blackouts=tuple(_blackouts(scenario)),
        targets=tuple(_target(scenario, s, session) for s, session in enumerate(scenario.session)),
        servers=tuple(_server(scenario, sessions + n, each) for n, each in enumerate(scenario.download)),
    )


def _blackouts(scenario: Scenario) -> list[BlackoutSetup]:
    found = []
    for each in scenario.blackout:
        start_ns = START_NS + time_ns_of(each.start)
        end_ns = start_ns + time_ns_of(each.duration)
        to_host, from_host = each.direction != "from-host", each.direction != "to-host"
        found.append(BlackoutSetup(_dev(scenario, each.device), start_ns, end_ns, to_host, from_host))
    return found


def run_machine(engine: Engine, scenario: Scenario, crafted: Sequence[Crafted] = ()) -> Any:
    """The machine of a run, booted, with its writers, sessions and connections; floods say which ports are closed."""
    return machine_of(engine, scenario, crafted, closed_loop(scenario))


def closed_loop(scenario: Scenario) -> ClosedLoop:
    """What the machine has in a closed loop only, in its own fields."""
    setup = world_setup(scenario)
    peers = [target.peer for target in setup.targets] + [server.peer for server in setup.servers]
    starts = [NEVER_NS] * len(setup.targets)
    starts += [START_NS + time_ns_of(download.start) for download in scenario.download]
    sndbufs = [session.sndbuf for session in scenario.session] + [SessionTable().sndbuf] * len(setup.servers)
    return ClosedLoop(
        now_ns=START_NS,
        vm=_vm(scenario.vm or VmTable()),
        writers=[_writer(writer) for writer in scenario.writer],
        sessions=[_session(each, target) for each, target in zip(scenario.session, setup.targets, strict=True)],
        conns=[
            _conn(peer, setup.host_window_scale, sndbuf, start)
            for peer, sndbuf, start in zip(peers, sndbufs, starts, strict=True)
        ],
        sock_rules=_sock_rules(scenario, setup),
    )


def _vm(vm: VmTable) -> Mapping[str, int]:
    return {
        "dirty_ratio": vm.dirty_ratio,
        "dirty_background_ratio": vm.dirty_background_ratio,
        "dirty_expire_ns": time_ns_of(vm.dirty_expire),
        "dirty_writeback_ns": time_ns_of(vm.dirty_writeback),
        "boot_clean_pages": size_bytes_of(vm.clean) // PAGE_SIZE,
        "boot_anonymous_pages": size_bytes_of(vm.anonymous) // PAGE_SIZE,
    }


def _writer(writer: WriterTable) -> Mapping[str, int]:
    start_ns = START_NS + time_ns_of(writer.start)
    return {
        "bytes_per_s": byte_rate_of(writer.rate),
        "start_ns": start_ns,
        "stop_ns": START_NS + time_ns_of(writer.stop) if writer.stop != "" else NEVER_NS,
        "due_ns": start_ns,
    }


def _session(session: SessionTable, target: TargetSetup) -> Mapping[str, int]:
    write_bytes = size_bytes_of(session.write_size)
    immediate = min(write_bytes, target.first_burst_bytes, target.max_recv_bytes) if session.immediate_data else 0
    return {
        "used": 1,
        "memalloc": session.memalloc,
        "queue_depth": session.queue_depth,
        "write_bytes": write_bytes,
        "immediate_bytes": immediate,
        "first_burst_bytes": target.first_burst_bytes,
        "max_burst_bytes": target.max_burst_bytes,
        "max_recv_bytes": target.max_recv_bytes,
        "initial_r2t": session.initial_r2t,
        "nop_interval_ns": time_ns_of(session.nop_interval),
        "nop_timeout_ns": time_ns_of(session.nop_timeout),
        "iscsid_needs_memory": session.iscsid == "needs-memory",
        "share": session.share,
        "due_ns": START_NS,
    }


def _conn(peer: PeerSetup, window_scale: int, sndbuf: int, connect_due_ns: int) -> Mapping[str, int]:
    return {
        "dev": peer.dev,
        "saddr": parse_address(peer.host_address).lo,
        "sport": peer.host_port,
        "daddr": parse_address(peer.address).lo,
        "dport": peer.port,
        "mss": peer.mss,
        "sndbuf": sndbuf,
        "connect_due_ns": connect_due_ns,
        "snd_wscale": PEER_WINDOW_SCALE,
        "rcv_wscale": window_scale,
    }


def _sock_rules(scenario: Scenario, setup: WorldSetup) -> list[Mapping[str, int]]:
    """Which connections are marked SOCK_MEMALLOC, and how they are read: an initiator reads in the softirq."""
    rules: list[Mapping[str, int]] = []
    for session, target in zip(scenario.session, setup.targets, strict=True):
        how = {"memalloc": int(session.memalloc), "reader": READERS.index("immediate")}
        rules.append(_match(target.peer) | how)
    for download, server in zip(scenario.download, setup.servers, strict=True):
        how = {"local_port": server.peer.host_port, "memalloc": 0, "reader": READERS.index(download.reader)}
        if download.rate is not None:
            how["read_rate"] = download.rate
        if download.rcvbuf is not None:
            how["rcvbuf"] = download.rcvbuf
        rules.append(_match(server.peer) | how)
    return rules


def _match(peer: PeerSetup) -> dict[str, int]:
    remote = parse_address(peer.address)
    return {
        "protocol": IPPROTO_TCP,
        "family": remote.family,
        "remote_addr": remote.lo,
        "remote_port": peer.port,
    }
