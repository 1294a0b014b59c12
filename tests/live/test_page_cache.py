"""The real page cache over real iSCSI: it writes back, and whatever happens to the wire, nothing of it stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_ground import required

from emu.errors import UsageError
from emu.live.demo import foreign, page_cache
from emu.live.demo.demonstration import DemoOptions, run_demo
from emu.live.demo.jobs import Wait
from emu.live.demo.joins import WIRE_INTERFACE, Ends, NicJoin, VethJoin
from emu.live.demo.loop_device import backing_of
from emu.live.demo.programs.writer import WriterResult
from emu.live.demo.result import RunResult
from emu.live.lab.lab import Lab, sweep
from emu.live.state import SharedWords

pytestmark = pytest.mark.live

GONE_SECONDS = 5.0
SMALL: dict[str, Any] = {
    "policies": ("phillips-v5",),
    "page_cache": True,
    "lead_seconds": 0.1,
    "verify_blocks": 16,
    "captures": False,
    "download_bytes_per_second": 2_000_000,
}


def loops() -> list[str]:
    """Loop devices that have something behind them."""
    return sorted(path.name for path in Path("/sys/block").glob("loop*") if backing_of(path.name))


def held() -> list[str]:
    """Threads, the kernel's too, that wait, not to be disturbed, for a loop device or a FUSE file."""
    found = []
    for folder in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            stat, stack = (folder / "stat").read_text(), (folder / "stack").read_text()
        except OSError:
            continue
        waits = any(word in stack for word in ("fuse", "loop", "writeback", "fsync"))
        if stat[stat.rindex(")") + 2] == "D" and waits:
            found.append(stat)
    return found


def mounts() -> list[str]:
    """FUSE mounts of emu's disk that any process sees."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/mounts"):
        try:
            found |= {line for line in path.read_text().splitlines() if page_cache.DISK_FILE in line}
        except OSError:
            continue
    return sorted(found)


def programs(runs: Path) -> list[str]:
    """Programs of this test's runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(runs) in command and path.parent.name != str(os.getpid()):
            found.append(command)
    return found


@pytest.fixture
def clean(machine: Path) -> Iterator[Path]:
    """The folder of runs; when the test ends, all that the real page cache took is given back within seconds."""
    required(foreign.require_binaries, page_cache.require_page_cache)
    before = loops()
    yield machine
    end = time.monotonic() + GONE_SECONDS
    while (left := (programs(machine), mounts(), held(), loops())) != ([], [], [], before):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def one_run(join: type[Any], out: Path, **options: Any) -> tuple[RunResult, WriterResult | None]:
    """The run without the flood."""
    world = run_demo(DemoOptions(out=out, **(SMALL | options)), print, None, join).worlds[0]
    assert world.without_flood is not None
    return world.without_flood, world.without_flood.writes


def test_dirty_pages_are_written_back_and_lie_on_the_targets_disk(clean: Path, tmp_path: Path) -> None:
    run, writes = one_run(VethJoin, tmp_path / "out", writes=1000)
    assert run.problem == ""
    assert writes is not None
    assert (writes.ended, writes.completed, writes.errors) == ("done", 1000, 0)
    assert (writes.blocks_verified, writes.blocks_wrong) == (16, 0)
    assert writes.page_cache is not None
    # 4 MB are dirty long before the first of them has been written.
    assert writes.page_cache.most_dirty_pages > 100
    assert writes.page_cache.dirtied_seconds is not None


class CutJoin(VethJoin):
    """A veth whose wire end goes down once pages are being written."""

    def __init__(self, lab: Lab, ends: Ends, wait: Wait) -> None:
        super().__init__(lab, ends, wait)
        self._words = SharedWords(ends.words)
        self._down = ["ip", "-n", ends.wire_namespace, "link", "set", WIRE_INTERFACE, "down"]
        self._cut = False

    def broken(self) -> str:
        if not self._cut and self._words.get("writes_completed"):
            subprocess.run(self._down, check=True)
            self._cut = True
        return ""


def test_write_back_over_a_wire_that_is_cut_ends_at_its_limit(clean: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    run, writes = one_run(CutJoin, tmp_path / "out", writes=16384, limit_seconds=1.5)
    assert time.monotonic() - began < 15
    assert run.problem == ""
    assert writes is not None
    assert (writes.ended, writes.seconds < 3) == ("limit", True)
    assert 0 < writes.completed < 16384
    assert writes.page_cache is not None


class StoppedJoin(NicJoin):
    """An emulated NIC that is stopped while pages are being written, and killed a second later."""

    stopped_at = 0.0

    def __init__(self, lab: Lab, ends: Ends, wait: Wait) -> None:
        super().__init__(lab, ends, wait)
        self._words = SharedWords(ends.words)

    def broken(self) -> str:
        now = time.monotonic()
        if not self.stopped_at and self._words.get("writes_completed"):
            self.job.process.send_signal(signal.SIGSTOP)
            self.stopped_at = now
        elif self.stopped_at and now - self.stopped_at > 1:
            self.job.process.kill()
            self.job.process.wait()
        return super().broken()


def test_an_emulated_nic_that_is_stopped_and_killed_under_write_back_leaves_nothing(
    clean: Path, tmp_path: Path
) -> None:
    run, _ = one_run(StoppedJoin, tmp_path / "out", writes=16384)
    assert run.problem.startswith("emu live ended early with signal 9")


PLAY = """
import sys, subprocess
from pathlib import Path
from emu.live.demo.demonstration import DemoOptions, run_demo
sys.path.insert(0, sys.argv[2])
from test_page_cache import SMALL, CutJoin
run_demo(DemoOptions(writes=16384, out=Path(sys.argv[1]), **SMALL), lambda _: None, None, CutJoin)
"""


def test_a_demonstration_that_is_killed_under_write_back_that_hangs_leaves_nothing(clean: Path, tmp_path: Path) -> None:
    demo = subprocess.Popen([sys.executable, "-c", PLAY, str(tmp_path), str(Path(__file__).parent)])
    words = clean / str(demo.pid) / "words"
    end = time.monotonic() + 15
    try:
        while not (words.exists() and SharedWords(words).get("writes_completed")):
            assert time.monotonic() < end, "it does not come to write"
            assert demo.poll() is None
            time.sleep(0.01)
        time.sleep(1)  # the wire is cut, and the flush waits
        assert loops()
        assert held()  # else this would not see what must not stay
    finally:
        demo.kill()
        demo.wait()
    sweep()
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert f"emu-{demo.pid}-" not in names


def test_a_policy_without_a_reserve_is_refused(machine: Path) -> None:
    with pytest.raises(UsageError, match=r"the real page cache is not for linux-2\.6\.12, which has no reserve"):
        run_demo(DemoOptions(page_cache=True), print, None, VethJoin)


def test_more_dirty_pages_than_the_machine_can_spare_are_refused(machine: Path) -> None:
    with pytest.raises(UsageError, match="writes: at most 16384 through the real page cache, not 16385"):
        run_demo(DemoOptions(policies=("phillips-v5",), page_cache=True, writes=16385), print, None, VethJoin)


def test_what_the_page_cache_needs_and_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page_cache, "binary", str)
    monkeypatch.setattr(page_cache, "FUSE_DEVICE", tmp_path / "fuse")
    with pytest.raises(UsageError, match=r"needs .*fuse, which is not here: `modprobe fuse`"):
        page_cache.require_page_cache()
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(foreign, "ADMIN_PATHS", ())
    with pytest.raises(UsageError, match=r"qemu-storage-daemon is not installed; on Debian .* qemu-system-common"):
        page_cache.require_page_cache()
