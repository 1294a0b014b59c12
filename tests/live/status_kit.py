"""A run in a crunch and the machine under it, for tests of the screens; and the folder of a run that tells it."""

import os
import time
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from rich.console import Console, RenderableType

from emu.live.state import Emulated, Fates, LiveState, Outside, write_state
from emu.live.status.iscsi_sockets import Connection
from emu.live.status.net_counters import Interface
from emu.live.status.real_host import Process, RealHost, System

STARTED_NS = 1_700_000_000_000_000_000
NOW_NS = STARTED_NS + 12_000_000_000

MACHINE = Emulated(
    free_pages=47,
    floor_pages=137,
    pages_min=183,
    memory_pages=1024,
    writer_pages=700,
    rx_reserve_used=49,
    cap_skbs=50,
    reserve_allocations=21_075,
    ring_size=64,
    ring_free=3,
    skbs_used=900,
    sockets=16,
    queued_skbs=850,
    would_wait=True,
    writes_completed=1234,
    frames=34_567,
    memalloc=Fates(received=1000, delivered=968, dropped=32),
    other=Fates(received=30_000, delivered=1000, dropped=29_000),
    drops_by_reason={"RX_MISSED": 500, "PFMEMALLOC": 28_032, "SOCKET_RCVBUFF": 500},
)
STATE = LiveState(
    pid=4711,
    label="cured",
    policy="phillips-v5",
    scenario="live-demo",
    host_if="emuhost0",
    wire_if="emuwire0",
    host_namespace="emu-4700-host",
    wire_namespace="emu-4700-target",
    started_ns=STARTED_NS,
    updated_ns=NOW_NS - 250_000_000,
    bound_seconds=60.0,
    frames_per_second=5012,
    emulated=MACHINE,
)
WAITS = Connection(
    namespace="emu-4700-target",
    state="ESTAB",
    local="10.66.0.1:3260",
    peer="10.66.0.2:48122",
    rto_ms=1632.0,
    backoff=3,
    cwnd=1,
    unacked=10,
    lost=10,
    retransmitted=4,
    to_send_bytes=480,
)
FLOWS = Connection(
    namespace="emu-4700-host", state="ESTAB", local="10.66.0.2:48122", peer="10.66.0.1:3260", rto_ms=204.0, cwnd=10
)
REAL = RealHost(
    taken_ns=NOW_NS,
    processes=[
        Process(
            name="emulated NIC",
            pid=4711,
            cpu_percent=64.2,
            rss_bytes=16 << 20,
            context_switches=12_345,
            descriptors=12,
        ),
        Process(name="tgtd", pid=4712, lives=False),
        Process(name="qemu-nbd", pid=4713),
    ],
    interfaces=[
        Interface(
            name="emuhost0",
            namespace="emu-4700-host",
            packets_in=123_456,
            bytes_in=187 << 20,
            drops_in=3,
            packets_out=99_999,
            bytes_out=12_000,
            drops_out=0,
        )
    ],
    counters={"TcpRetransSegs": 12, "TcpExtTCPTimeouts": 3},
    connections=[FLOWS, WAITS],
    system=System(cpu_percent=[34.0, 56.4], load=[2.1, 1.0, 0.5], available_bytes=3 << 30, memory_bytes=8 << 30),
)
QUIET = replace(
    STATE,
    label="",
    scenario="",
    bound_seconds=0.0,
    updated_ns=NOW_NS - 5_200_000_000,
    emulated=Emulated(free_pages=900, floor_pages=137, memory_pages=1024, ring_size=64, ring_free=64),
    outside=Outside(wire_queue=12, too_long=1),
)


def drawn(picture: RenderableType, width: int, encoding: str = "utf-8") -> str:
    """A picture as a terminal of that width has it, without colours."""
    octets = BytesIO()
    file = TextIOWrapper(octets, encoding)
    Console(file=file, width=width, highlight=False, color_system=None, legacy_windows=False).print(picture)
    file.flush()
    return "\n".join(line.rstrip() for line in octets.getvalue().decode(encoding).splitlines())


def tell(runs: Path, **changed: Any) -> LiveState:
    """The folder of a run whose process is this one, unless another `pid` is given; it has just told its state."""
    state = LiveState(pid=os.getpid(), policy="phillips-v5", updated_ns=time.time_ns(), started_ns=time.time_ns())
    state = replace(state, **changed)
    folder = runs / str(state.pid)
    folder.mkdir(parents=True, exist_ok=True)
    write_state(folder, state)
    return state
