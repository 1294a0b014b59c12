"""What a live run makes on the machine: namespaces, interfaces and programs, all of which are taken down at its end.

Each is written into the run's record before it is made.  Programs and TAPs end with this process, however it ends; a
namespace and a veth of a run that was killed are removed by `sweep()` of the next.
"""

import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emu.errors import UsageError
from emu.live.lab import children
from emu.live.lab.children import Child, start_time
from emu.live.lab.links import make_veth, set_route_congestion
from emu.live.lab.namespaces import make_namespace, namespace_exists, open_in_namespace, remove_namespace
from emu.live.lab.privileges import import_pyroute2, needs_privileges
from emu.live.lab.record import Link, Made, Started, of_this_process, write_record
from emu.live.lab.stale import lock_folder, remove_folder, sweep, sweep_folder, take_down
from emu.live.lab.tap import QUEUE_FRAMES, Tap, open_tap
from emu.live.lab.undisturbed import ended_by_interrupt, put_back, undisturbed
from emu.live.state import RUN_FOLDER, run_folder

__all__ = ["Lab", "Tap", "needs_privileges", "open_in_namespace", "sweep"]

NAMESPACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Lab:
    """A context in which things are made; when it is left, however, they are gone.

    SIGTERM and SIGHUP are a Ctrl-C in it (where they are not handled otherwise): KeyboardInterrupt.  A process has
    one at a time.
    """

    def __init__(self) -> None:
        """Nothing is made before the context is entered."""
        self.folder: Path = run_folder() / str(os.getpid())  # 0700
        self._made: Made = of_this_process()
        self._lock: int | None = None
        self._taps: list[Tap] = []
        self._children: list[Child] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Make the run's folder.  Errors: UsageError when it cannot be made."""
        import_pyroute2()
        self._handlers = ended_by_interrupt()
        try:
            with undisturbed():
                self._take_folder()
        except BaseException:
            self.close()
            put_back(self._handlers)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take all down.  Errors: as `close`, unless another error is on its way, which then bears the sentence."""
        try:
            self.close()
        except UsageError as failed:
            if error is None:
                raise
            error.add_note(str(failed))

    def namespace(self, name: str) -> str:
        """Make a network namespace, loopback up, without IPv6; its name, "emu-<pid>-<name>"."""
        if not NAMESPACE_NAME.fullmatch(name):
            raise UsageError(f"namespace {name!r}: letters, digits, '_', '.' and '-' are expected")
        full = self._made.namespace_name(name)
        if full in self._made.namespaces:
            raise UsageError(f"namespace {full} exists already: this run has made it")
        # A record that names what another made would let us remove it.
        if namespace_exists(full):
            raise UsageError(f"namespace {full} exists already, and is not of this run: `ip netns delete {full}`")
        self._made.namespaces.append(full)
        self._record()
        make_namespace(full)
        return full

    def tap(
        self, name: str, *, namespace: str = "", address: str = "", mac: str = "", queue_frames: int = QUEUE_FRAMES
    ) -> Tap:
        """Make a TAP and bring it up: whole frames without a header before them, no offload, reads do not block.

        `namespace`: "" is where emu was started; one of this run or of the user.  `address` is like "10.77.0.2/24".
        `queue_frames` wait to be read before frames are lost (`Tap.lost_frames`).  A namespace of this run has no IPv6;
        in the user's, the TAP follows the user's own setting: what speaks there is what is to be tried.
        Errors: UsageError when an interface has that name, when an address or MAC is none.
        """
        self._made.taps.append(Link(namespace, name))
        self._record()
        with undisturbed():  # between the interface and the list of what is closed
            made = open_tap(name, namespace, address, mac, queue_frames)
            self._taps.append(made)
        return made

    def veth(
        self, a: str, b: str, *, namespaces: tuple[str, str] = ("", ""), addresses: tuple[str, str] = ("", "")
    ) -> None:
        """Make a veth pair, both ends up and without offloads.  Errors: UsageError."""
        self._made.links += [Link(namespaces[0], a), Link(namespaces[1], b)]
        nursery = self.namespace(f"veth{len(self._made.links)}")  # writes the record
        try:
            make_veth((a, b), namespaces, addresses, nursery=nursery, mark=self._made.mark)
        finally:
            with undisturbed():
                remove_namespace(nursery)
                self._made.namespaces.remove(nursery)
                self._record()

    def route_congestion(self, namespace: str, network: str, device: str, algorithm: str = "cubic") -> None:
        """Let TCP towards a network on `device` use a congestion control; only in a namespace of this run."""
        if namespace not in self._made.namespaces:
            raise UsageError(f"namespace {namespace!r} is not of this run: its routes are not touched")
        set_route_congestion(namespace, network, device, algorithm)

    def spawn(
        self,
        argv: Sequence[str | Path],
        *,
        name: str,
        namespace: str = "",
        stdout: Any = None,
        stderr: Any = None,
        env: Mapping[str, str] | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> "subprocess.Popen[bytes]":
        """Start a program; it reads nothing, is in a session of its own, and is killed when this process ends.

        `stop` asks it to end when the lab is closed; after 1 s it is killed.  Errors: UsageError when it cannot be
        started, RuntimeError in another thread than the main one (it would end with the thread).
        """
        with undisturbed():  # between the process and the list of what is ended
            process = children.start(argv, namespace=namespace, stdout=stdout, stderr=stderr, env=env)
            self._children.append(Child(name, process, stop))
            self._made.programs.append(Started(name, process.pid, start_time(process.pid)))
            self._record()
        return process

    def close(self) -> None:
        """Take all down; a second time does nothing.  Errors: UsageError when something stays, which it names."""
        if self._lock is None or os.getpid() != self._made.pid:  # a fork of ours has made nothing
            return
        with undisturbed():
            lock, self._lock = self._lock, None
            stays = children.end(self._children)
            self._made.programs.clear()
            for tap in self._taps:
                tap.close()
            stays += take_down(self._made)[1]
            if not stays:
                remove_folder(self.folder)
            os.close(lock)
        put_back(self._handlers)
        if stays:
            raise UsageError(f"not everything could be taken down: {'; '.join(stays)}; the next emu live tries again")

    def _record(self) -> None:
        if self._lock is None:
            raise RuntimeError("a lab makes things only in its context")
        try:
            write_record(self.folder, self._made)
        except OSError as error:  # what is not in the record would not be removed
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(f"{self.folder}: {error.strerror}; it is where a live run keeps its record: see {RUN_FOLDER}")

    def _take_folder(self) -> None:
        """Make the folder, hold it, write the first record."""
        try:
            self.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            sweep_folder(self.folder)  # of a run that had our number
            if self.folder.exists():
                raise UsageError(f"{self.folder} exists already: a live run of this process keeps its record there")
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise self._unwritable(error) from error
        self._lock = lock_folder(self.folder)
        if self._lock is None:
            raise UsageError(f"{self.folder}: another process has taken it; try again")
        self._record()
