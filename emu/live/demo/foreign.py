"""The foreign programs that a demonstration runs, and where they come from."""

import os
import shutil

from emu.errors import UsageError

PACKAGES = {
    "tgtd": "tgt",
    "tgtadm": "tgt",
    "qemu-nbd": "qemu-utils (its iSCSI part is in qemu-block-extra)",
}
PAGE_CACHE_PACKAGES = {  # of `--page-cache` alone
    "qemu-storage-daemon": "qemu-system-common (its iSCSI part is in qemu-block-extra)",
    "unshare": "util-linux",
}
ADMIN_PATHS = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # often not in a user's PATH


def binary(name: str) -> str:
    """Where a program is.

    Errors: UsageError with the package that has it.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *ADMIN_PATHS))
    found = shutil.which(name, path=path)
    if found is None:
        packages = PACKAGES | PAGE_CACHE_PACKAGES
        raise UsageError(f"{name} is not installed; on Debian it is in the package {packages[name]}")
    return found


def require_binaries() -> None:
    """All of them are there.

    Errors: UsageError that names the first one that is not.
    """
    for name in PACKAGES:
        binary(name)
