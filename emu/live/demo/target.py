"""A real iSCSI target: tgtd in a namespace of the run, with one disk in a sparse file."""

import os
import signal
import subprocess

from emu.errors import UsageError
from emu.live.demo.foreign import binary
from emu.live.demo.jobs import Job, Wait
from emu.live.lab.lab import Lab

TARGET_NAME = "iqn.2024-01.emu.lab:disk"
PORT = 3260
DISK_IMAGE = "disk.img"
DISK_BYTES = 128 << 20
CONTROL = 1  # the number of tgtd's control socket, which lies in the run's own folder
CONTROL_SOCKET = "TGT_IPC_SOCKET"  # tgtd and tgtadm append a dot and the number
SOCKET_PATH_BYTES = 107  # of a Unix socket's address
ADMIN_SECONDS = 5.0


def url(address: str) -> str:
    """What an initiator calls the disk."""
    return f"iscsi://{address}:{PORT}/{TARGET_NAME}/1"


class Target:
    """tgtd at work.

    Source: tgtd(8), tgtadm(8) of tgt 1.0.85.  It ignores SIGTERM while it has a target, so it is ended by SIGKILL.
    """

    def __init__(self, lab: Lab, namespace: str, address: str, wait: Wait) -> None:
        """Start it, and give it a target with one disk.

        Errors: UsageError when tgt is not installed, or tgtd or tgtadm does not do it.
        """
        self._namespace = namespace
        self._environment = {**os.environ, CONTROL_SOCKET: str(socket_path(lab.folder / "tgtd"))}
        self._tgtadm = binary("tgtadm")
        self._control = lab.folder / f"tgtd.{CONTROL}"
        backing = lab.folder / DISK_IMAGE
        with backing.open("wb") as file:
            file.truncate(DISK_BYTES)
        portal = f"portal={address}:{PORT}"
        command = [binary("tgtd"), "-f", "-C", str(CONTROL), "--iscsi", portal]
        self.job = Job(lab, "tgtd", command, namespace=namespace, stop=signal.SIGKILL, env=self._environment)
        self.job.require(self._answers, wait)
        self._admin("--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET_NAME)
        self._admin("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", str(backing))
        self._admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def _answers(self) -> bool:
        return self._control.exists() and self._ask("--op", "show", "--mode", "portal").returncode == 0

    def _ask(self, *options: str) -> subprocess.CompletedProcess[str]:
        # The control socket is a file: whoever speaks to it need not be in the namespace.
        command = [self._tgtadm, "-C", str(CONTROL), "--lld", "iscsi", *options]
        return subprocess.run(  # noqa: S603 (the command is built here)
            command, capture_output=True, text=True, check=False, timeout=ADMIN_SECONDS, env=self._environment
        )

    def _admin(self, *options: str) -> None:
        try:
            asked = self._ask(*options)
        except subprocess.TimeoutExpired as late:
            raise UsageError(f"tgtadm {' '.join(options)}: no answer within {ADMIN_SECONDS:g} s") from late
        if asked.returncode:
            said = (asked.stderr or asked.stdout).strip().splitlines()
            raise UsageError(f"tgtadm {' '.join(options)}: {said[-1] if said else f'code {asked.returncode}'}")


def socket_path(path: os.PathLike[str]) -> os.PathLike[str]:
    """The path, if a Unix socket can have it as its address.

    Errors: UsageError when it is too long, with room for a suffix of a dot and a digit.
    """
    if len(os.fsencode(path)) + 2 > SOCKET_PATH_BYTES:
        raise UsageError(
            f"{os.fspath(path)}: longer than the {SOCKET_PATH_BYTES - 2} bytes that a Unix socket's path may have; "
            "set EMU_RUN_DIR to a shorter folder"
        )
    return path
