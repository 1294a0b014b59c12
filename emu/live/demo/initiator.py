"""A real iSCSI initiator: qemu-nbd with libiscsi in a namespace of the run, which offers the disk on a Unix socket."""

from pathlib import Path

from emu.live.demo.foreign import binary
from emu.live.demo.jobs import Job, Wait
from emu.live.demo.target import socket_path, url
from emu.live.lab.lab import Lab

LOGIN_SECONDS = 10.0


class Initiator:
    """qemu-nbd, logged in to the target.

    Source: qemu-nbd(8) of QEMU 7.2; `-t` keeps it when its client goes.
    """

    def __init__(self, lab: Lab, namespace: str, target_address: str, wait: Wait) -> None:
        """Start it, and wait until it has logged in and listens.

        Errors: UsageError when it is not installed, or cannot log in; its own words are given.
        """
        self.socket = Path(socket_path(lab.folder / "nbd"))
        command = [binary("qemu-nbd"), "-f", "raw", "-k", str(self.socket), "-t", url(target_address)]
        self.job = Job(lab, "qemu-nbd", command, namespace=namespace)
        self.job.require(self.socket.exists, wait, LOGIN_SECONDS)
