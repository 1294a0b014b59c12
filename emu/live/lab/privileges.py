"""What a live run needs of the system, told in one line before anything is made."""

import os
import sys
from pathlib import Path

from emu.errors import UsageError
from emu.live.lab.undisturbed import undisturbed

TUN_DEVICE = Path("/dev/net/tun")
# linux/capability.h
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_ADMIN = 21
SAID = {
    CAP_NET_ADMIN: "CAP_NET_ADMIN (to make interfaces)",
    CAP_NET_RAW: "CAP_NET_RAW (to read an interface that exists)",
    CAP_SYS_ADMIN: "CAP_SYS_ADMIN (to make or enter network namespaces)",
}


def needs_privileges(*, namespaces: bool = True) -> None:
    """See that interfaces can be made, and namespaces be made or entered when they are wanted.

    Errors: UsageError, which names all that is missing.
    """
    if sys.platform != "linux":
        raise UsageError(f"emu live needs Linux: its interfaces are TAPs; this is {sys.platform}")
    import_pyroute2()
    needs_capabilities(CAP_NET_ADMIN, *((CAP_SYS_ADMIN,) if namespaces else ()))
    if not TUN_DEVICE.exists():
        raise UsageError(
            f"emu live needs {TUN_DEVICE}, which is not here: `modprobe tun`, or hand the device to the container"
        )
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        raise UsageError(f"emu live needs {TUN_DEVICE}, which may not be opened: start it with sudo")


def needs_capabilities(*wanted: int) -> None:
    """Errors: UsageError, which names those that this process does not hold."""
    held = effective_capabilities()
    missing = [SAID[bit] for bit in wanted if not held >> bit & 1]
    if missing:
        raise UsageError(f"emu live needs {' and '.join(missing)}: start it with sudo")


def import_pyroute2() -> None:
    """Import pyroute2, whole.  Errors: UsageError when it is not installed."""
    try:
        # A module that a Ctrl-C has left half imported (asyncio, for one) fails when it is needed to take things down.
        with undisturbed():
            import pyroute2
            import pyroute2.ethtool.ioctl  # noqa: F401
    except ImportError as error:
        raise UsageError("emu live needs pyroute2: pip install 'emu[live]'") from error


def effective_capabilities() -> int:
    """The capabilities that this thread may use now, a bit each (`CapEff` of proc_pid_status(5))."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
