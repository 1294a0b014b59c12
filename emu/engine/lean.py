"""numba's compiler without what our functions never need: they have no closures, no arrays of their own, no `with`.

A third of the time that numba takes for them goes into passes that find nothing, into resolving the same operators of
the same types over and over, into its own stopwatches and into Python's garbage collector.  What is left out changes
no code: what a pass does not find it does not change.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from llvmlite import ir as llvm  # type: ignore[import-untyped,unused-ignore]
from numba.core import compiler, errors, event, ir, lowering, typeinfer, types
from numba.core.compiler_machinery import PassManager
from numba.core.targetconfig import TargetConfig

NEEDLESS = {
    "WithLifting",
    "InlineClosureLikes",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "InlineOverloads",
    "NopythonRewrites",  # of expressions of whole arrays
    "NoPythonSupportedFeatureValidation",  # generators and what they may not do
    "DumpParforDiagnostics",
}


class _Hurry:
    """Whether an entry point is being compiled with all that it reaches, and numba's declarations are loaded."""

    on = False
    prepared = False


_hurry = _Hurry()


def nothing() -> None:
    """Do nothing."""


class LeanCompiler(compiler.CompilerBase):  # type: ignore[misc,unused-ignore]
    """numba's own passes in numba's order, but for the needless ones."""

    def __init__(self, typing: Any, target: Any, *others: Any) -> None:
        """numba looks for new declarations before each function; they come with modules, not from one to the next."""
        if not _hurry.prepared:
            super().__init__(typing, target, *others)
            _hurry.prepared = _hurry.on
            return
        typing.refresh = target.refresh = nothing
        try:
            super().__init__(typing, target, *others)
        finally:
            del typing.refresh, target.refresh

    def define_pipelines(self) -> list[Any]:
        """The one way to machine code."""
        whole = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        lean = PassManager("lean")
        for at, (step, what) in enumerate(whole.passes):
            again = step.__name__ == "DeadBranchPrune" and any(step is before for before, _ in whole.passes[:at])
            if step.__name__ not in NEEDLESS and not again:
                lean.add_pass(step, what)
        lean.finalize()
        return [lean]


class Told:
    """What an error of numba's is told of where it arose, for a third of what numba's own way costs."""

    def __init__(self, text: str, *arguments: Any, **named: Any) -> None:
        """The sentence is formatted only if there is an error."""
        self.what = text, arguments, named

    def __enter__(self) -> None:
        """Nothing is prepared."""

    def __exit__(self, _kind: object, error: BaseException | None, _at: object) -> None:
        if error is not None and isinstance(error, errors.NumbaError):
            text, arguments, named = self.what
            error.add_context(text.format(*arguments, **named) if arguments or named else text)


def holds_variables(kind: type) -> bool:
    """Whether what is of this type may be a variable or have some within it."""
    return issubclass(kind, ir.Inst | ir.Var | list | tuple | dict)


may_hold_variables: dict[type, bool] = {}


def variables_in(_self: Any, value: Any) -> list[Any]:
    """The variables within an instruction, as `numba.core.ir.Inst._rec_list_vars` finds them, which asks far more."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        if kind is ir.Var:
            return [value]
        return value.list_vars() if isinstance(value, ir.Inst) else variables_of_others(value)
    found: list[Any] = []
    for one in value:
        kind = type(one)
        if kind is ir.Var:
            found.append(one)
        else:
            if kind not in may_hold_variables:
                may_hold_variables[kind] = holds_variables(kind)
            if may_hold_variables[kind]:
                found += variables_in(_self, one)
    return found


def variables_of_others(value: Any) -> list[Any]:
    """The same in what is of a derived type."""
    if isinstance(value, ir.Var):
        return [value]
    if isinstance(value, dict):
        return variables_in(None, list(value.values()))
    return variables_in(None, list(value)) if isinstance(value, list | tuple) else []


def resolved_once() -> Callable[..., Any]:
    """numba's way to find what an operator does with some types, which remembers."""
    resolve = types.BaseFunction.get_call_type
    known: dict[Any, Any] = {}

    def resolve_once(self: Any, context: Any, arguments: Any, keywords: Any) -> Any:
        if keywords:
            return resolve(self, context, arguments, keywords)
        key = self, context, tuple(arguments)
        if key not in known:
            known[key] = resolve(self, context, arguments, keywords)
        return known[key]

    return resolve_once


def sized_once() -> Callable[..., Any]:
    """The size of an LLVM type, remembered: llvmlite has LLVM read a module's text for every answer."""
    size_of = llvm.Type.get_abi_size
    known: dict[Any, int] = {}

    def size_once(self: Any, target_data: Any, context: Any = None) -> int:
        key = str(self), str(target_data), context
        if key not in known:
            known[key] = size_of(self, target_data, context)
        return known[key]

    return size_once


def same_first() -> Callable[..., Any]:
    """numba's comparison of settings, which are mostly the same object."""
    equal = TargetConfig.__eq__

    def same_or_equal(self: Any, other: Any) -> Any:
        return self is other or equal(self, other)

    return same_or_equal


def unheard(*_arguments: object, **_named: object) -> None:
    """The beginning or the end of an event."""


def unseen(*_arguments: object, **_named: object) -> AbstractContextManager[None]:
    """An event that nobody looks at, or a stopwatch for it."""
    return nullcontext()


@contextmanager
def unhurried_by_itself() -> Iterator[None]:
    """While it lasts numba does nothing twice that it can remember, times nothing, and collects no garbage."""
    quicker: list[tuple[Any, str, Any]] = [
        (types.BaseFunction, "get_call_type", resolved_once()),
        (TargetConfig, "__eq__", same_first()),
        (llvm.Type, "get_abi_size", sized_once()),
        (event, "install_timer", unseen),
        (event, "trigger_event", unseen),
        (event, "start_event", unheard),
        (event, "end_event", unheard),
        (lowering, "new_error_context", Told),
        (typeinfer, "new_error_context", Told),
        (ir.Inst, "_rec_list_vars", variables_in),
    ]
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in quicker if name in vars(owner)]
    collects = gc.isenabled()
    gc.disable()
    _hurry.on = True
    for owner, name, _ in before:
        setattr(owner, name, next(new for where, what, new in quicker if where is owner and what == name))
    try:
        yield
    finally:
        _hurry.on = _hurry.prepared = False
        for owner, name, old in before:
            setattr(owner, name, old)
        if collects:
            gc.enable()
