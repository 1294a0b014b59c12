"""A look into another network namespace, from a thread that goes there and does not come back."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from emu.live.lab.namespaces import CLONE_NEWNET, NAMES

T = TypeVar("T")


def namespace_file(name: str, pid: int) -> Path:
    """Where a namespace is to be had: by its name, or as that of a process when it has none."""
    return NAMES / name if name else Path(f"/proc/{pid}/ns/net")


def look_inside(namespace: Path, look: Callable[[], T]) -> T:
    """What `look` finds there; a program that it starts is there as well.

    Unlike `open_in_namespace` it needs no pyroute2, and enters the namespace of a process, which may have no name.
    /proc/net is that of the process: use /proc/thread-self/net.  Where the calling thread is in that namespace already,
    it looks itself, which needs no privilege.  Errors: what `look` raises; OSError: there is no such namespace, or this
    user may not enter it.
    """
    if namespace.stat().st_ino == Path("/proc/thread-self/ns/net").stat().st_ino:
        return look()
    # The thread ends there: one that had to come back could fail to, and its process would be in the wrong place.
    found: list[T] = []
    failed: list[BaseException] = []

    def go() -> None:
        try:
            _enter(namespace)
            found.append(look())
        except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
            failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _enter(namespace: Path) -> None:
    libc: Any = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
    finally:
        os.close(descriptor)
