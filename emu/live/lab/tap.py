"""A TAP: an interface whose frames this process reads and writes."""

import fcntl
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

from emu.errors import UsageError
from emu.live.lab.links import checked_name, configure, index_of, mac_of
from emu.live.lab.namespaces import netlink, open_in_namespace
from emu.live.lab.privileges import TUN_DEVICE

QUEUE_FRAMES = 8192
# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNGETIFF = 0x800454D2
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_TUN_EXCL = 0x8000
INTERFACE_REQUEST = struct.Struct("16sH22x")  # struct ifreq: a name, flags, and the rest of its union
TX_DROPPED = 11  # the place of /proc/net/dev's column behind the colon
STATISTICS_OCTETS = 1 << 16


@dataclass
class Tap:
    """An open TAP; the interface goes when `fd` is closed, whatever becomes of this process."""

    fd: int  # reading gives a frame, or BlockingIOError when there is none; writing sends one
    name: str
    mac: str
    index: int
    namespace: str
    _statistics: int  # /proc/net/dev of its namespace
    _lost: int = 0
    kind = "a TAP"

    def lost_frames(self) -> int:
        """Frames that the kernel dropped since the TAP was made, because nobody had read its queue and it was full.

        About 20 us.  Source: `tx_dropped` of the interface, which tun_net_xmit() counts (drivers/net/tun.c).
        """
        wanted = self.name.encode() + b":"
        if self._statistics >= 0:
            for line in os.pread(self._statistics, STATISTICS_OCTETS, 0).splitlines():
                if line.lstrip().startswith(wanted):
                    self._lost = int(line.partition(b":")[2].split()[TX_DROPPED])
        return self._lost  # what was read last, when it is closed, or somebody has removed its namespace

    def gone(self) -> str:
        """That the interface is not there any more, in words, else nothing."""
        try:
            fcntl.ioctl(self.fd, TUNGETIFF, INTERFACE_REQUEST.pack(b"", 0))
        except OSError:
            return f"interface {self.name} has gone"
        return ""

    def close(self) -> None:
        """The interface goes; a second time does nothing."""
        descriptors, self.fd, self._statistics = (self.fd, self._statistics), -1, -1
        for descriptor in descriptors:
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)


def open_tap(name: str, namespace: str, address: str, mac: str, queue_frames: int) -> Tap:
    """Make a TAP in a namespace, and bring it up; see `Lab.tap`."""
    fd, statistics = open_in_namespace(namespace, lambda: _make(checked_name(name)))
    try:
        with netlink(namespace, f"interface {name}") as socket:
            index = index_of(socket, name)
            configure(socket, index, address=address, mac=mac, txqlen=queue_frames)
            return Tap(fd, name, mac_of(socket, index), index, namespace, statistics)
    except BaseException:
        os.close(fd)
        os.close(statistics)
        raise


def _make(name: str) -> tuple[int, int]:
    """The descriptors of a new TAP and of its namespace's statistics.  Errors: UsageError."""
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{TUN_DEVICE}: {error.strerror}; emu live needs it: start it with sudo") from error
    try:
        # EXCL: else an existing TAP of that name would be taken over.
        fcntl.ioctl(fd, TUNSETIFF, INTERFACE_REQUEST.pack(name.encode(), IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL))
        return fd, os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        os.close(fd)
        if isinstance(error, FileExistsError) or "busy" in (error.strerror or ""):
            raise UsageError(f"interface {name} exists already: choose another name, or remove it") from error
        raise UsageError(f"interface {name} cannot be made: {error.strerror}") from error
