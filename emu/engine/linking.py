"""Functions are linked into the entry points that reach them, and only those are optimised and become machine code.

numba does both for every callee, each time with all that it calls in turn: a function at the bottom of the receive path
is compiled some hundred times.  Here a callee stays as numba's front end left it until an entry point has linked it,
once; that takes a third of the time and lets LLVM see the whole.

This reaches into numba's own classes (numba 0.61 to 0.68, numba/core/codegen.py: CodeLibrary, JITCPUCodegen), but only
while an entry point is compiled.  Where they look otherwise, `possible` says no, and numba does it in its own way.
"""

import hashlib
import math
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import codegen, compiler_lock, errors, types
from numba.core.registry import cpu_target
from numba.np import arrayobj

from emu.engine.lean import unhurried_by_itself

REACHED = {
    codegen.JITCodeLibrary: (
        "finalize",
        "get_pointer_to_function",
        "_get_module_for_linking",
        "_finalize_dynamic_globals",
        "_finalize_final_module",
        "_optimize_final_module",
        "_optimize_functions",
        "_raise_if_finalized",
    ),
    codegen.JITCPUCodegen: ("set_env", "_library_class", "create_library", "_module_pass_manager"),
    arrayobj: ("fix_integer_index",),
}


def possible() -> bool:
    """Whether numba looks as this module expects it to."""
    return all(hasattr(owner, name) for owner, names in REACHED.items() for name in names)


class _Progress:
    """How deep in callees the compilation of an entry point is, and the environments of those that were put off."""

    is_linking = False

    def __init__(self) -> None:
        self.depth = 0
        self.environments: dict[str, Any] = {}


_progress = _Progress()


class LinkedLibrary(codegen.JITCodeLibrary):  # type: ignore[misc]
    """The code of one function; a callee's waits, neither optimised nor emitted, until an entry point links it."""

    waits = False

    def finalize(self) -> None:
        """A callee is done as it is; an entry point takes in all that it reaches."""
        self._raise_if_finalized()
        if _progress.depth:
            self.waits = True
            self._finalize_dynamic_globals()
            self._final_module.__library = weakref.proxy(self)
            self._finalized = True
            return
        self._take_in(self._final_module)
        relink(self._final_module, "linkonce_odr", "internal")
        self._optimize_final_module()
        self._final_module.verify()
        self._finalize_final_module()

    def _optimize_functions(self, ll_module: Any) -> None:
        """Nothing yet: all is optimised at once, when an entry point has taken it in."""

    def _optimize_final_module(self) -> None:
        """Once; numba does it twice, for the sake of counts of references, and there are none."""
        manager, builder = self._codegen._module_pass_manager()
        manager.run(self._final_module, builder)

    def get_pointer_to_function(self, name: str) -> int:
        """The address of a function; a callee that waits has none, and Python never calls it."""
        if self.waits:
            return 0
        return int(super().get_pointer_to_function(name))

    def _get_module_for_linking(self) -> Any:
        """What a stranger links: complete.  numba keeps helpers of its own that were first needed here."""
        if not self.waits:
            return super()._get_module_for_linking()
        module = self.own_module().clone()
        self._take_in(module)
        return module

    def own_module(self) -> Any:
        """The function alone, as it can be linked more than once."""
        return super()._get_module_for_linking()

    def _take_in(self, module: Any) -> None:
        """Link what is reached; a few at a time first, for LLVM walks all of the larger part at every step."""
        for few in in_lots(reached_by(self)):
            lot = None
            for library in few:
                self._reload_init.update(library._reload_init)
                waits = isinstance(library, LinkedLibrary) and library.waits
                taken = library.own_module() if waits else library._get_module_for_linking()
                taken = taken.clone()
                relink(taken, "linkonce_odr", "weak_odr")  # else it is left out where no caller is in its lot
                if lot is None:
                    lot = taken
                else:
                    lot.link_in(taken)
            module.link_in(lot)
        relink(module, "weak_odr", "linkonce_odr")  # and left out where all callers have it inlined


def reached_by(library: Any) -> list[Any]:
    """The libraries that one links, and those that the waiting ones among them link, each once, in order of calls."""
    found: dict[Any, None] = {}
    pending = list(reversed(library._linking_libraries))
    while pending:
        other = pending.pop()
        if other not in found:
            found[other] = None
            if isinstance(other, LinkedLibrary) and other.waits:
                pending += reversed(other._linking_libraries)
    return list(found)


def relink(module: Any, before: str, after: str) -> None:
    """Change how functions of a module are linked."""
    for function in module.functions:
        if not function.is_declaration and function.linkage.name == before:
            function.linkage = after


def in_lots(libraries: list[Any]) -> Iterator[list[Any]]:
    """The same in lots, as many as there are in each."""
    size = math.isqrt(len(libraries)) + 1
    for at in range(0, len(libraries), size):
        yield libraries[at : at + size]


def put_off(dispatcher: Any) -> Any:
    """A callee whose code waits for an entry point."""
    compile_now = dispatcher.compile

    def compile_later(signature: Any) -> Any:
        _progress.depth += 1
        try:
            return compile_now(signature)
        finally:
            _progress.depth -= 1

    dispatcher.compile = compile_later
    return dispatcher


def linked(dispatcher: Any) -> Any:
    """An entry point that takes in the callees that were put off."""
    compile_alone = dispatcher.compile

    def compile_linked(signature: Any) -> Any:
        if _progress.is_linking:  # a helper, begun in the midst of another one
            return compile_alone(signature)
        with compiler_lock.global_compiler_lock, _linking(), unhurried_by_itself():
            return compile_alone(signature)

    dispatcher.compile = compile_linked
    return dispatcher


@contextmanager
def _linking() -> Iterator[None]:
    """While it lasts numba makes its libraries ours."""
    maker = cpu_target.target_context.codegen()
    set_env = maker.set_env

    texts: dict[int, tuple[Any, str]] = {}

    def text_of(record: Any) -> str:
        """A name for a record's type, the same in every process; numba would write it out, over and over."""
        if id(record) not in texts:
            texts[id(record)] = record, f"Record({hashlib.sha256(write_out(record).encode()).hexdigest()})"
        return texts[id(record)][1]

    def set_env_once_emitted(name: str, environment: Any) -> None:
        if _progress.depth:
            _progress.environments[name] = environment
            return
        set_env(name, environment)
        for waiting in list(_progress.environments):
            if maker._engine.is_symbol_defined(waiting):
                set_env(waiting, _progress.environments.pop(waiting))

    def index_as_it_is(context: Any, builder: Any, index_type: Any, index: Any, _size: Any) -> Any:
        """No index of ours counts from the end (tests/replay/int64_kit.py sees to it); numba would ask of each."""
        return context.cast(builder, index, index_type, types.intp)

    _progress.is_linking = True
    arrayobj.fix_integer_index, fix_index = index_as_it_is, arrayobj.fix_integer_index
    maker._library_class, before = LinkedLibrary, maker._library_class
    maker.set_env = set_env_once_emitted
    write_out, types.Record.__repr__ = types.Record.__repr__, text_of  # type: ignore[method-assign,unused-ignore]
    try:
        with warnings.catch_warnings():
            # One row begins as another does; that numba would take it for the other concerns no user.
            warnings.simplefilter("ignore", errors.NumbaExperimentalFeatureWarning)
            yield
    finally:
        _progress.is_linking = False
        arrayobj.fix_integer_index = fix_index
        maker._library_class = before
        del maker.set_env
        types.Record.__repr__ = write_out  # type: ignore[method-assign,unused-ignore]
