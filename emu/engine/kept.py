"""numba's cache of an entry point, kept in our folder: found by contents, small, and loaded without numba's ceremony.

numba's own (numba/core/caching.py) finds code by its source's path and time, keeps the bitcode beside the machine
code, for functions that might link it, and prepares its whole compiler before it looks.  Nothing links an entry point,
and what is loaded needs no compiler.
"""

import hashlib
import pickle
from collections.abc import Callable
from typing import Any

from llvmlite import binding  # type: ignore[import-untyped,unused-ignore]
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from emu.engine.cache import CacheFolder

TYPE_ANNOTATION = 6  # where it stands in what numba writes of a result (numba/core/compiler.py CompileResult._reduce)


class KeptCode:
    """What numba asks of a function's cache (`numba.core.caching._Cache`), over a folder of ours."""

    def __init__(self, folder: CacheFolder, function: Any) -> None:
        """`function` is an entry point."""
        self.folder = folder
        self.name = f"{function.__module__}.{function.__name__}"
        self.unsaved = 0  # how often code could not be kept
        self.wait: Callable[[], None] = _nobody  # for who may be making what is not there

    @property
    def cache_path(self) -> str:
        """Where the code is kept."""
        return str(self.folder.path or "")

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The code for these types of arguments; None if there is none, or if it is of no use."""
        content = self.folder.read(self.file(signature))
        if content is None:
            self.wait()
            content = self.folder.read(self.file(signature))
        if content is None:
            return None
        try:
            return CompileResult._rebuild(target, *pickle.loads(content))  # noqa: S301 - a private folder's
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is compiled again
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep the code; where it cannot be kept it is compiled again next time."""
        described = list(result._reduce())
        (name, kind, (code, _)), function = described[:2]
        described[0] = name, kind, (code, names_only(function.llvm_func_name, function.llvm_cpython_wrapper_name))
        described[TYPE_ANNOTATION] = ""  # every variable with its type written out, ten times as long as the code
        content = dumps(tuple(described))
        if not self.folder.write(self.file(signature), content):
            self.unsaved += 1

    def enable(self) -> None:
        """It is always in use."""

    def disable(self) -> None:
        """It is always in use."""

    def flush(self) -> None:
        """Nothing waits to be written."""

    def file(self, signature: Any) -> str:
        """The name that the code for these types is kept under."""
        return f"{self.name}-{hashlib.sha256(repr(signature).encode()).hexdigest()[:16]}"


def _nobody() -> None:
    """Nobody makes it."""


def names_only(*names: str) -> bytes:
    """The bitcode of a module that only says which functions there are: numba asks nothing else of a loaded one."""
    functions = "".join(f'define void @"{name}"() {{ ret void }}\n' for name in names)
    return bytes(binding.parse_assembly(functions).as_bitcode())
