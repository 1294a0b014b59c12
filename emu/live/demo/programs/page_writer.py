"""Makes pages of the real page cache dirty and has them written back through a real iSCSI initiator.

`python -m emu.live.demo.programs.page_writer --disk FILE --initiator PID --image disk.img --words FILE`

The disk is a file served by qemu-storage-daemon (FUSE); a loop device over it gives it the kernel's own write-back.  A
page counts as written when the loop device has answered for it, and it does when the SCSI command is complete.
"""

import argparse
import os
import signal
import threading
import time
from pathlib import Path

from msgspec.structs import replace

from emu.live.demo.loop_device import open_loop_device, written_bytes
from emu.live.demo.programs.ending import Ending, program_parser, say_ready, tell_result
from emu.live.demo.programs.nbd import BLOCK_BYTES
from emu.live.demo.programs.writer import DONE, LIMIT, LOST, STOPPED, PageCacheSeen, Progress, WriterResult, block
from emu.live.state import SharedWords

LOOK_SECONDS = 0.002  # between two looks at what has been written
CUT_SECONDS = 5.0  # from the initiator's end to that of the write-back
MEMINFO = Path("/proc/meminfo")


class WriteBack:
    """A thread dirties the pages and flushes them: only it may be held by the kernel."""

    def __init__(self, device: int, seed: int, writes: int) -> None:
        """It begins at once."""
        self._device, self._seed, self._writes = device, seed, writes
        self.dirtied = 0  # pages
        self.dirtied_seconds: float | None = None
        self.problem = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began = time.monotonic()
        self._thread.start()

    @property
    def lives(self) -> bool:
        """It is at work, or held."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for its end so long at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            for index in range(self._writes):
                os.pwrite(self._device, block(self._seed, index), index * BLOCK_BYTES)
                self.dirtied = index + 1
            self.dirtied_seconds = round(time.monotonic() - self._began, 4)
            os.fsync(self._device)
        except OSError as error:
            self.problem = str(error)


class Peak:
    """The most that was seen of dirty pages: of this disk, and of the whole machine."""

    def __init__(self) -> None:
        """Nothing was seen."""
        self.pages = self.dirty_bytes = self.writeback_bytes = 0

    def look(self, pages: int) -> None:
        """`pages`: dirtied here and not yet written."""
        self.pages = max(self.pages, pages)
        dirty, writeback = system_dirty_bytes()
        self.dirty_bytes, self.writeback_bytes = max(self.dirty_bytes, dirty), max(self.writeback_bytes, writeback)


def system_dirty_bytes() -> tuple[int, int]:
    """`Dirty` and `Writeback` of proc_meminfo(5): of the whole machine, whoever made them so."""
    found = {"Dirty:": 0, "Writeback:": 0}
    for line in MEMINFO.read_text().splitlines():
        name, value, *_ = line.split()
        if name in found:
            found[name] = int(value) * 1024
    return found["Dirty:"], found["Writeback:"]


def write_back(
    device: int, name: str, words: SharedWords, ending: Ending, arguments: argparse.Namespace, initiator: int
) -> WriterResult:
    """Dirty the pages, flush them, and tell `writes_completed` as they are written; end the initiator when it is due.

    `initiator`: a pidfd.
    """
    before = written_bytes(name)
    progress, peak = Progress(arguments.writes), Peak()
    work = WriteBack(device, arguments.seed, arguments.writes)
    while work.lives and not ending.due:
        _look(name, before, words, progress, peak, work)
        time.sleep(LOOK_SECONDS)
    cut = work.lives
    if cut:
        # The thread cannot be ended while the kernel holds it; without the initiator its writes fail.
        signal.pidfd_send_signal(initiator, signal.SIGKILL)
    else:
        _look(name, before, words, progress, peak, work)
    result = progress.result(_ended(cut, work, ending), "" if cut else work.problem)
    work.join(CUT_SECONDS)
    seen = PageCacheSeen(
        device=name,
        dirtied_seconds=work.dirtied_seconds,
        most_dirty_pages=peak.pages,
        most_dirty_bytes_of_machine=peak.dirty_bytes,
        most_writeback_bytes_of_machine=peak.writeback_bytes,
    )
    return replace(result, page_cache=seen)


def _ended(cut: bool, work: WriteBack, ending: Ending) -> str:
    if cut:
        return STOPPED if ending.stopped else LIMIT
    return LOST if work.problem else DONE


def _look(name: str, before: int, words: SharedWords, progress: Progress, peak: Peak, work: WriteBack) -> None:
    written = min((written_bytes(name) - before) // BLOCK_BYTES, work.dirtied)
    progress.reach(written)
    words.put("writes_completed", written)
    peak.look(work.dirtied - written)


def verified(image: Path, seed: int, writes: int, count: int) -> tuple[int, int]:
    """Some of the blocks as they lie on the target's disk: how many are right, and how many are wrong."""
    count = min(count, writes)
    right = wrong = 0
    with image.open("rb") as file:
        for index in (step * (writes - 1) // max(1, count - 1) for step in range(count)):
            file.seek(index * BLOCK_BYTES)
            if file.read(BLOCK_BYTES) == block(seed, index):
                right += 1
            else:
                wrong += 1
    return right, wrong


def write_and_verify(words: SharedWords, arguments: argparse.Namespace) -> WriterResult:
    """The whole of the program's work."""
    ending = Ending(words, arguments.seconds)
    try:
        initiator = os.pidfd_open(arguments.initiator)
        file = os.open(arguments.disk, os.O_RDWR | os.O_CLOEXEC)
        device, name = open_loop_device(file)
    except OSError as problem:
        return WriterResult(asked=arguments.writes, ended=LOST, why=f"no loop device over the disk: {problem}")
    os.close(file)
    say_ready()
    result = write_back(device, name, words, ending, arguments, initiator)
    os.close(device)  # the kernel detaches it now
    if result.ended == DONE and arguments.verify > 0:
        right, wrong = verified(arguments.image, arguments.seed, arguments.writes, arguments.verify)
        result = replace(result, blocks_verified=right, blocks_wrong=wrong)
    return result


def main() -> None:
    """Parse the options, write, tell."""
    parser = program_parser("Dirties pages of the real page cache, and has them written back.")
    parser.add_argument("--disk", type=Path, required=True, help="the file that the initiator serves")
    parser.add_argument("--initiator", type=int, required=True, help="its process, which is ended when it is stuck")
    parser.add_argument("--image", type=Path, required=True, help="the target's disk, to verify what was written")
    parser.add_argument("--writes", type=int, default=8192, help="pages")
    parser.add_argument("--verify", type=int, default=0, help="blocks to look at on the target's disk at the end")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(7), "big"))
    arguments = parser.parse_args()
    tell_result(write_and_verify(SharedWords(arguments.words), arguments))


if __name__ == "__main__":
    main()
