"""Everything that a live run needs is compiled before its first frame: while it waits, interfaces would lose frames."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emu.engine.plain import LIVE, Engine
from emu.live.live_run import LiveRun
from emu.live.wire import Wire
from emu.scenario import ReadersTable, ReplayTable, Scenario
from emu.task import Outputs, Task
from emu.traffic.host import Host, mac_number

HOST_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
FRAME = bytes.fromhex(f"{HOST_MAC}{PEER_MAC}".replace(":", "")) + b"\x08\x06" + bytes(46)  # an ARP packet of nobody


@contextmanager
def joined(engine: Engine) -> Iterator[tuple[Any, socket.socket, socket.socket]]:
    """A wire between two socket pairs instead of interfaces, and their far ends: the host's, the wire's."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    try:
        for each in (*pairs[0], *pairs[1]):
            each.setblocking(False)
        wire = engine.new(Wire)
        engine.fill(wire, {"host_fd": pairs[0][0].fileno(), "wire_fd": pairs[1][0].fileno(), "longest": 1518})
        yield wire, pairs[0][1], pairs[1][1]
    finally:
        for each in (*pairs[0], *pairs[1]):
            each.close()


def warm(engine: Engine, *, with_log: bool) -> None:
    """Use all of it once, with files that nobody sees."""
    with tempfile.TemporaryDirectory(prefix="emu-live-") as folder, joined(engine) as (wire, host, towards):
        place = Path(folder)
        log = str(place / "log.parquet") if with_log else None
        task = Task(
            scenario=Scenario(readers=ReadersTable(ordinary="real"), replay=ReplayTable(peers="real")),
            name="nothing",
            outputs=Outputs(str(place / "w.pcapng"), "all", log, "all", str(place / "events")),
        )
        run = LiveRun(
            task,
            engine,
            wire,
            Host(mac_number(HOST_MAC), True, "it is the only one"),
            host_capture=str(place / "host.pcapng"),
        )
        towards.send(FRAME)
        host.send(FRAME)
        run.run_rounds(2)
    engine.finished(LIVE)
