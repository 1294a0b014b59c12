"""The world in numbers: what each wire, target and server is, and the templates and buffers that go with them.

The host is HOST_MAC on every device; a peer's MAC is made of its IPv4 address, so that two connections to one peer end
at one MAC.  Neighbours are known to either end: nobody asks with ARP.  Segments offer timestamps and window scaling,
no SACK.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.closed_loop import CONN_CLOSED, MAX_TASKS, MAX_TX
from emu.kernel.machine import NEVER_NS, NONE
from emu.traffic.peer.lane import world_open
from emu.traffic.peer.state import (
    FROM_HOST,
    MAX_BLACKOUTS,
    PEER_SERVER,
    PEER_TARGET,
    PEER_WINDOW_SCALE,
    REPLIES_AT,
    TO_HOST,
    World,
)

HOST_MAC = "02:00:00:00:00:02"
TCP_IP_BYTES = 52  # headers of a segment with timestamps
LINK_BYTES = 14 + 2 * 4
SLOT_STEP = 64
BULK_BYTES = 1 << 18
BASIC_HEADER_BYTES = 48
SENSE = bytes((0, 18, 0x70, 0, 0x05, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0))  # ILLEGAL REQUEST, 20h/00h


class WireSetup(NamedTuple):
    """The wire of a device."""

    latency_ns: int
    rate_bps: int


class BlackoutSetup(NamedTuple):
    """When a device's wire loses frames, and in which directions."""

    dev: int
    start_ns: int
    end_ns: int
    to_host: bool
    from_host: bool


class PeerSetup(NamedTuple):
    """The two ends of a connection; addresses are IPv4 in text, `vlan` is the tag of its frames, 0 for none."""

    dev: int
    host_address: str
    host_port: int
    address: str
    port: int
    mss: int  # payload bytes of a full segment with timestamps
    vlan: int = 0  # VLAN id of an 802.1Q tag


class TargetSetup(NamedTuple):
    """What a session's target does and has agreed to; `nop_interval_ns` is that of its own pings, 0 for none."""

    peer: PeerSetup
    queue_depth: int
    immediate_data: bool
    initial_r2t: bool
    first_burst_bytes: int
    max_burst_bytes: int
    max_recv_bytes: int
    service_ns: int
    nop_interval_ns: int = 0


class ServerSetup(NamedTuple):
    """What a download's server sends; 0 bytes: without end."""

    peer: PeerSetup
    bytes: int


class WorldSetup(NamedTuple):
    """The world outside: a wire for every device, a target for every session, a server for every download."""

    seed: int
    start_ns: int
    host_window_scale: int
    wires: tuple[WireSetup, ...]
    blackouts: tuple[BlackoutSetup, ...]
    targets: tuple[TargetSetup, ...]
    servers: tuple[ServerSetup, ...]


class Texts(NamedTuple):
    """Where a session's login texts stand in the pool, as (offset, bytes): the host's two, the target's two."""

    host: tuple[tuple[int, int], tuple[int, int]]
    target: tuple[tuple[int, int], tuple[int, int]]


class Built(NamedTuple):
    """The world and its buffers, as the engine's functions take them."""

    world: Any
    moulds: Any
    pool: Any
    store: Any


def build_world(engine: Engine, setup: WorldSetup, machine: Any) -> Built:
    """The world of a run; of `machine`, the sessions learn where their login texts stand in the pool.

    Errors: UsageError for more blackouts than there is room for.
    """
    # Scapy takes a while to load: whoever only replays captures does without.
    from emu.traffic.peer.moulds import mac_number, moulds_of, numbers_of, pool_of

    world = engine.new(World)
    peers = [target.peer for target in setup.targets] + [server.peer for server in setup.servers]
    moulds = bytearray()
    for c, peer in enumerate(peers):
        shapes = moulds_of(moulds, peer, HOST_MAC, setup.host_window_scale, PEER_WINDOW_SCALE)
        for n, shape in enumerate(shapes):
            engine.fill(world.end[c].mould[n], shape)
        kind = PEER_TARGET if c < len(setup.targets) else PEER_SERVER
        drawn = numbers_of(setup.seed, c)
        engine.fill(world.end[c], {"kind": kind, "dev": peer.dev} | drawn.end)
        engine.fill(world.peer[c], _closed(peer))
        if kind == PEER_TARGET:
            engine.fill(world.target[c], drawn.target)
    pool, texts, sense_at = pool_of(setup, SENSE)
    for s, target in enumerate(setup.targets):
        _fill_target(engine, world.target[s], target, texts[s], sense_at)
        for stage, (at, size) in enumerate(texts[s].host):
            machine.session[s].login_at[stage] = at
            machine.session[s].login_bytes[stage] = size
    for n, server in enumerate(setup.servers):
        world.download_bytes[len(setup.targets) + n] = server.bytes
    _fill_wires(engine, world, setup)
    longest = max((peer.mss for peer in peers), default=1448) + TCP_IP_BYTES + LINK_BYTES
    slot_bytes = (max(longest, 1536) + SLOT_STEP - 1) // SLOT_STEP * SLOT_STEP
    engine.fill(
        world,
        {
            "now_ns": setup.start_ns,
            "start_ns": setup.start_ns,
            "conns": len(peers),
            "sessions": len(setup.targets),
            "host_scale": setup.host_window_scale,
            "host_mac": mac_number(HOST_MAC),
            "pool_at": 0,
            "pool_bytes": BULK_BYTES,
            "slot_bytes": slot_bytes,
        },
    )
    world_open(world)
    store = bytearray(REPLIES_AT + MAX_TX * slot_bytes)
    return Built(world, engine.view(moulds), engine.view(pool), engine.view(store))


def _closed(peer: PeerSetup) -> Mapping[str, int]:
    """A peer's end before anybody has connected."""
    from emu.traffic.peer.moulds import address_number

    never = dict.fromkeys(("rto_due_ns", "probe_due_ns", "delack_due_ns"), NEVER_NS)
    here = {"saddr": address_number(peer.address), "sport": peer.port, "daddr": address_number(peer.host_address)}
    return never | here | {"state": CONN_CLOSED, "dev": peer.dev, "mss": peer.mss, "rcv_nxt": NONE}


def _fill_target(engine: Engine, target: Any, setup: TargetSetup, texts: Texts, sense_at: int) -> None:
    """What a target does."""
    engine.fill(
        target,
        {
            "depth": min(setup.queue_depth, MAX_TASKS),
            "max_burst_bytes": setup.max_burst_bytes,
            "service_ns": setup.service_ns,
            "nop_interval_ns": setup.nop_interval_ns,
            "nop_due_ns": NEVER_NS,
            "sense_at": sense_at,
            "sense_bytes": len(SENSE),
        },
    )
    for stage, (at, size) in enumerate(texts.target):
        target.login_at[stage] = at
        target.login_bytes[stage] = size


def _fill_wires(engine: Engine, world: Any, setup: WorldSetup) -> None:
    """Wires and when they are dead."""
    for d, wire in enumerate(setup.wires):
        engine.fill(world.wire[d], wire._asdict())
    if len(setup.blackouts) > MAX_BLACKOUTS:
        raise UsageError(f"blackout: expected at most {MAX_BLACKOUTS}, found {len(setup.blackouts)}")
    for b, blackout in enumerate(setup.blackouts):
        fields = {"dev": blackout.dev, "start_ns": blackout.start_ns, "end_ns": blackout.end_ns}
        engine.fill(world.blackout[b], fields)
        world.blackout[b].lane[TO_HOST] = int(blackout.to_host)
        world.blackout[b].lane[FROM_HOST] = int(blackout.from_host)
    engine.fill(world, {"wires": len(setup.wires), "blackouts": len(setup.blackouts)})
