"""The machine's real page cache over real iSCSI: a disk as a file (FUSE), a loop device over it, buffered writes.

Nothing of it outlives the run.  The FUSE mount is in a mount namespace of qemu-storage-daemon's own and goes with it.
The loop device is detached by the kernel when the program that writes to it is gone.  That program may be held by the
kernel while the wire is stuck; when qemu-storage-daemon ends, every write that is under way fails at once, and nothing
is held any more.  So whoever ends a run that is stuck ends qemu-storage-daemon first, with SIGKILL.
"""

import os
import signal
from pathlib import Path

from emu.errors import UsageError
from emu.live.demo.foreign import PAGE_CACHE_PACKAGES, binary
from emu.live.demo.jobs import Job, Wait
from emu.live.demo.loop_device import CONTROL
from emu.live.demo.target import PORT, TARGET_NAME
from emu.live.lab.lab import Lab

FUSE_DEVICE = Path("/dev/fuse")
DISK_FILE = "page-cache-disk"
MOUNT_SECONDS = 10.0
MOST_WRITES = 16384  # of 4 KiB: so much real memory is dirty at the most


def require_page_cache() -> None:
    """All that the real page cache needs is there.  Errors: UsageError that names what is not."""
    for name in PAGE_CACHE_PACKAGES:
        binary(name)
    for device, module in ((FUSE_DEVICE, "fuse"), (CONTROL, "loop")):
        if not device.exists():
            raise UsageError(
                f"the real page cache needs {device}, which is not here: `modprobe {module}`, "
                "or hand the device to the container"
            )


class PageCacheInitiator:
    """qemu-storage-daemon, logged in to the target: its disk is a file of a FUSE mount that only it and we see.

    Source: qemu-storage-daemon(1) of QEMU 7.2; unshare(1).
    """

    def __init__(self, lab: Lab, namespace: str, target_address: str, wait: Wait) -> None:
        """Start it, and wait until it has logged in and mounted.

        Errors: UsageError when it is not installed, cannot log in or mount; its own words are given.
        """
        mounted_at = lab.folder / DISK_FILE
        mounted_at.touch()
        portal = f"portal={target_address}:{PORT},target={TARGET_NAME},lun=1"
        command = [
            *(binary("unshare"), "--mount", binary("qemu-storage-daemon")),
            *("--blockdev", f"driver=iscsi,node-name=disk,transport=tcp,{portal}"),
            *("--export", f"type=fuse,id=file,node-name=disk,mountpoint={mounted_at},writable=on,allow-other=off"),
        ]
        self.job = Job(lab, "qemu-storage-daemon", command, namespace=namespace)
        self.disk = Path(f"/proc/{self.job.process.pid}/root{mounted_at}")
        self._mounts = Path(f"/proc/{self.job.process.pid}/mounts")
        self._mounted_at = os.fspath(mounted_at)
        self.job.require(self._mounted, wait, MOUNT_SECONDS)

    def _mounted(self) -> bool:
        # To ask the file itself would wait for the daemon, which serves one request at a time.
        try:
            lines = self._mounts.read_text().splitlines()
        except OSError:
            return False
        return any(line.split()[1:3] == [self._mounted_at, "fuse"] for line in lines)

    def cut(self) -> None:
        """End it at once: writes under way fail, and whoever waits for them goes on."""
        if self.job.lives:
            self.job.process.send_signal(signal.SIGKILL)
