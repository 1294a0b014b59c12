"""Network namespaces with a name, as `ip netns` keeps them: made, entered for a moment, removed."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from emu.errors import UsageError
from emu.live.lab.privileges import import_pyroute2
from emu.live.lab.undisturbed import undisturbed

NAMES = Path("/run/netns")
CLONE_NEWNET = 0x40000000  # linux/sched.h
IPV6_OFF = ("all", "default")

T = TypeVar("T")


def open_in_namespace(namespace: str, make: Callable[[], T]) -> T:
    """What `make` returns, made with this thread in that network namespace; "" is the one that it is in.

    For sockets, TAPs and processes: they stay where they were made.  Ctrl-C comes when `make` has returned, so it does
    nothing that waits.  Errors: UsageError when there is no such namespace or it may not be entered; those of `make`.
    """
    if not namespace:
        return make()
    descriptor = _open_namespace(namespace)
    try:
        with _returning():
            _enter(descriptor, namespace)
            return make()
    finally:
        os.close(descriptor)


def make_namespace(name: str) -> None:
    """Make a namespace in which only the loopback interface is up, and nothing speaks IPv6.

    Without that, every interface would send router solicitations of its own.  Errors: UsageError when the name is taken
    or the system refuses.
    """
    import_pyroute2()
    from pyroute2 import netns

    if namespace_exists(name):
        raise UsageError(f"namespace {name} exists already, and was not made by this run: `ip netns delete {name}`")
    try:
        with _returning():
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            netns.attach(name, "thread-self")
            _quieten()
    except OSError as error:
        raise UsageError(f"namespace {name} cannot be made: {os.strerror(error.errno or 0)}") from error


def remove_namespace(name: str) -> bool:
    """Remove a namespace's name; it ends with its last process.  False: there was none.  Errors: OSError."""
    import_pyroute2()
    from pyroute2 import netns

    try:
        netns.remove(name)
    except FileNotFoundError:
        return False
    return True


def namespace_exists(name: str) -> bool:
    """Whether a namespace of that name is here."""
    return (NAMES / name).exists()


@contextmanager
def netlink(namespace: str, what: str) -> Iterator[Any]:
    """A pyroute2.IPRoute in a namespace, closed at the end.  Errors: UsageError, `what` and the kernel's word."""
    import_pyroute2()
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with undisturbed():  # pyroute2 makes another error of a Ctrl-C, and may leave its event loop open
        socket = open_in_namespace(namespace, IPRoute)
        try:
            yield socket
        except NetlinkError as error:
            raise UsageError(f"{what}: {error.args[-1] if error.args else os.strerror(error.code)}") from error
        finally:
            socket.close()


def _quieten() -> None:
    """In a new namespace that this thread is in: IPv6 off, loopback up."""
    from pyroute2 import IPRoute

    for which in IPV6_OFF:
        switch = Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6")
        if switch.exists():  # a kernel without IPv6 has none
            switch.write_text("1")
    with IPRoute() as socket:
        socket.link("set", index=1, state="up")


def _open_namespace(namespace: str) -> int:
    if "/" in namespace or namespace in (".", ".."):
        raise UsageError(f"namespace {namespace!r}: a name is expected, as `ip netns list` shows them")
    try:
        return os.open(NAMES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(f"namespace {namespace}: there is none of that name; `ip netns list` shows all") from error
    except OSError as error:
        raise UsageError(f"namespace {namespace}: {error.strerror}") from error


def _enter(descriptor: int, said: str) -> None:
    from pyroute2 import netns

    try:
        netns.setns(descriptor)
    except OSError as error:
        raise UsageError(f"namespace {said} cannot be entered: {os.strerror(error.errno or 0)}") from error


@contextmanager
def _returning() -> Iterator[None]:
    """This thread is afterwards in the namespace that it is in now."""
    with undisturbed():  # Ctrl-C on the way back would leave us in a strange namespace
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield
        finally:
            _enter(home, "of emu itself")
            os.close(home)
