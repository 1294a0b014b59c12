"""Temporary files that live as long as the object that needs them."""

import os
import shutil
import tempfile
import weakref


def folder_of(owner: object, prefix: str) -> str:
    """A new folder, removed with all that is in it when `owner` is collected or the interpreter ends."""
    folder = tempfile.mkdtemp(prefix=prefix)
    weakref.finalize(owner, _remove, folder, os.getpid())
    return folder


def _remove(folder: str, maker: int) -> None:
    """Unless this is a fork of the process that made it."""
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)
