"""numba's compiler without what our functions never need: they have no closures, no arrays of their own, no `with`.

A third of the time that numba takes for them goes into passes that find nothing, into resolving the same operators of
the same types over and over, into its own stopwatches and into Python's garbage collector.  What is left out changes
no code: what a pass does not find it does not change.
"""

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from numba.core import compiler, event, types
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


@contextmanager
def unhurried_by_itself() -> Iterator[None]:
    """While it lasts numba resolves an operator once for the same types, times nothing, and collects no garbage."""
    resolve, install, equal = types.BaseFunction.get_call_type, event.install_timer, TargetConfig.__eq__
    known: dict[Any, Any] = {}

    def resolve_once(self: Any, context: Any, arguments: Any, keywords: Any) -> Any:
        if keywords:
            return resolve(self, context, arguments, keywords)
        key = self, context, tuple(arguments)
        if key not in known:
            known[key] = resolve(self, context, arguments, keywords)
        return known[key]

    def no_timer(_kind: str, _callback: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def same_or_equal(self: Any, other: Any) -> Any:
        return self is other or equal(self, other)

    collects = gc.isenabled()
    gc.disable()
    _hurry.on = True
    types.BaseFunction.get_call_type = resolve_once  # type: ignore[method-assign,assignment,unused-ignore]
    event.install_timer = no_timer  # type: ignore[assignment,unused-ignore]
    TargetConfig.__eq__ = same_or_equal  # type: ignore[method-assign,assignment,unused-ignore]
    try:
        yield
    finally:
        _hurry.on = _hurry.prepared = False
        types.BaseFunction.get_call_type = resolve  # type: ignore[method-assign,unused-ignore]
        event.install_timer = install
        TargetConfig.__eq__ = equal  # type: ignore[method-assign,unused-ignore]
        if collects:
            gc.enable()
