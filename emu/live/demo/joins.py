"""How the host and the wire of a world are joined: by the emulated NIC, or, to measure beside it, by a plain veth."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from emu.errors import UsageError
from emu.live.demo.jobs import Job, Wait
from emu.live.lab.lab import Lab
from emu.live.state import LiveState, read_state, run_folder

HOST_ADDRESS, WIRE_ADDRESS = "10.77.0.2", "10.77.0.1"
NETWORK, PREFIX_BITS = "10.77.0.0/24", 24
HOST_INTERFACE, WIRE_INTERFACE = "emuh0", "emuw0"
# The emulated NIC's process compiles or loads its engine before it is ready.
NIC_START_SECONDS = 30.0
NIC_END_SECONDS = 6.0


class Ends(Struct, frozen=True, kw_only=True):
    """What is to be joined, and under which rules."""

    host_namespace: str
    wire_namespace: str
    policy: str
    scenario: str
    seconds: float  # the join ends by itself after so long
    words: Path
    captures: Path | None  # the beginning of the captures' paths; None: no captures


class Join(Protocol):
    """Host and wire, joined."""

    def state(self) -> LiveState | None:
        """How the emulated machine stands; None where there is none."""

    def broken(self) -> str:
        """Why it does not join any more; "" while it does."""

    def finish(self, wait: Wait) -> dict[str, Any] | None:
        """End it; its summary, None where there is none."""


MakeJoin = Callable[[Lab, Ends, Wait], Join]


class VethJoin:
    """A plain veth pair: no emulation, no summary."""

    def __init__(self, lab: Lab, ends: Ends, _wait: Wait) -> None:
        """Make the pair."""
        lab.veth(
            HOST_INTERFACE,
            WIRE_INTERFACE,
            namespaces=(ends.host_namespace, ends.wire_namespace),
            addresses=(f"{HOST_ADDRESS}/{PREFIX_BITS}", f"{WIRE_ADDRESS}/{PREFIX_BITS}"),
        )

    def state(self) -> LiveState | None:
        """There is no emulated machine."""
        return None

    def broken(self) -> str:
        """A veth does not break."""
        return ""

    def finish(self, _wait: Wait) -> dict[str, Any] | None:
        """The lab removes it."""
        return None


class NicJoin:
    """`emu live` in a process of its own."""

    def __init__(self, lab: Lab, ends: Ends, wait: Wait) -> None:
        """Start it, and wait until it tells its state.

        Errors: UsageError with its own words when it does not come up.
        """
        self.job = Job(lab, "emu-live", nic_command(ends))
        self._folder = run_folder() / str(self.job.process.pid)
        self._last: LiveState | None = None
        self.job.require(lambda: self.state() is not None, wait, NIC_START_SECONDS)

    def state(self) -> LiveState | None:
        """The last one that it told."""
        self._last = read_state(self._folder) or self._last
        return self._last

    def broken(self) -> str:
        """It ends only when it is told to, or when something has gone wrong."""
        return "" if self.job.lives else f"emu live {self.job.ended_early()}"

    def finish(self, wait: Wait) -> dict[str, Any] | None:
        """Its summary.

        Errors: UsageError when it ends without one.
        """
        self.job.end(wait, NIC_END_SECONDS)
        try:
            summary: dict[str, Any] = msgspec.json.decode(self.job.output(), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            said = self.job.last_words() or f"code {self.job.process.returncode}"
            raise UsageError(f"emu live ended without a summary: {said}") from error
        return summary


def nic_command(ends: Ends) -> list[str]:
    """The command of the emulated NIC between these ends."""
    command = [sys.executable, "-m", "emu", "live", "--host-if", HOST_INTERFACE, "--wire-if", WIRE_INTERFACE]
    command += ["--host-namespace", ends.host_namespace, "--wire-namespace", ends.wire_namespace]
    command += ["--host-address", f"{HOST_ADDRESS}/{PREFIX_BITS}", "--wire-address", f"{WIRE_ADDRESS}/{PREFIX_BITS}"]
    command += ["--policy", ends.policy, "--scenario", ends.scenario]
    command += ["--for", f"{int(1000 * ends.seconds)}ms", "--words", str(ends.words), "--json"]
    if ends.captures is not None:
        for option, path in capture_files(ends.captures).items():
            command += [option, os.fspath(path)]
    return command


def capture_files(beginning: Path) -> dict[str, Path]:
    """The files that the emulated NIC writes, by its option."""
    return {
        "-w": beginning.with_name(f"{beginning.name}-wire.pcapng"),
        "--host-capture": beginning.with_name(f"{beginning.name}-host.pcapng"),
        "--record-events": beginning.with_name(f"{beginning.name}-events"),
    }
