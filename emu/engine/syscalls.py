"""read(2), write(2), ppoll(2), the clock and words of shared memory for compiled code: a live run's for every frame.

Declared as `emu.engine.memcpy` is, and for its reasons.  The plain engine has the same in `emu.live.system`.
"""

import select
import time
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, type_callable

WORD, DESCRIPTOR, SHORT = ir.IntType(64), ir.IntType(32), ir.IntType(16)
POINTER = ir.IntType(8).as_pointer()
POLLFD = ir.LiteralStructType([DESCRIPTOR, SHORT, SHORT])  # struct pollfd: fd, events, revents
TIMESPEC = ir.ArrayType(WORD, 2)
NS_PER_S = 1_000_000_000


def sys_read(fd: int, octets: Any, at: int, size: int) -> int:
    """read(2) into octets[at:at + size]; nothing is checked."""
    raise NotImplementedError


def sys_write(fd: int, octets: Any, at: int, size: int) -> int:
    """write(2) of octets[at:at + size]; nothing is checked."""
    raise NotImplementedError


def sys_wait(one: int, other: int, timeout_ns: int) -> int:
    """ppoll(2) for one of two descriptors to be readable: how many are, or -1."""
    raise NotImplementedError


def sys_load(memory: Any, at: int) -> int:
    """The aligned 32-bit word at memory[at:], with acquire ordering; nothing is checked."""
    raise NotImplementedError


def sys_store(memory: Any, at: int, value: int) -> int:
    """Store an aligned 32-bit word with release ordering, and give it back; nothing is checked."""
    raise NotImplementedError


def sys_clock_ns() -> int:
    """clock_gettime(2) of CLOCK_MONOTONIC, in ns."""
    raise NotImplementedError


@type_callable(sys_read)  # type: ignore[untyped-decorator,unused-ignore]
@type_callable(sys_write)  # type: ignore[untyped-decorator,unused-ignore]
def typed(_context: Any) -> Any:
    """What they return."""

    def returns(_fd: Any, _octets: Any, _at: Any, _size: Any) -> Any:
        return types.int64

    return returns


@type_callable(sys_load)  # type: ignore[untyped-decorator,unused-ignore]
def typed_load(_context: Any) -> Any:
    """What it returns."""

    def returns(_memory: Any, _at: Any) -> Any:
        return types.int64

    return returns


@type_callable(sys_store)  # type: ignore[untyped-decorator,unused-ignore]
def typed_store(_context: Any) -> Any:
    """What it returns."""

    def returns(_memory: Any, _at: Any, _value: Any) -> Any:
        return types.int64

    return returns


@type_callable(sys_wait)  # type: ignore[untyped-decorator,unused-ignore]
def typed_wait(_context: Any) -> Any:
    """What it returns."""

    def returns(_one: Any, _other: Any, _timeout_ns: Any) -> Any:
        return types.int64

    return returns


@type_callable(sys_clock_ns)  # type: ignore[untyped-decorator,unused-ignore]
def typed_clock(_context: Any) -> Any:
    """What it returns."""

    def returns() -> Any:
        return types.int64

    return returns


def _transfer(name: str) -> Any:
    """LLVM's instructions for a call of the C library that moves bytes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        fd, octets, at, size = arguments
        octets = context.make_array(signature.args[1])(context, builder, octets)
        kind = ir.FunctionType(WORD, [DESCRIPTOR, POINTER, WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        place = builder.bitcast(builder.gep(octets.data, [at]), POINTER)
        return builder.call(function, [builder.trunc(fd, DESCRIPTOR), place, size])

    return generate


ARGUMENTS = (types.Integer, types.Array, types.Integer, types.Integer)
lower_builtin(sys_read, *ARGUMENTS)(_transfer("read"))
lower_builtin(sys_write, *ARGUMENTS)(_transfer("write"))


def _word(context: Any, builder: Any, kind: Any, memory: Any, at: Any) -> Any:
    """Where the word is."""
    data = context.make_array(kind)(context, builder, memory).data
    return builder.bitcast(builder.gep(data, [at]), DESCRIPTOR.as_pointer())


@lower_builtin(sys_load, types.Array, types.Integer)  # type: ignore[untyped-decorator,unused-ignore]
def generate_load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM's instructions: the kernel writes the word, so the compiler may neither keep nor move it."""
    place = _word(context, builder, signature.args[0], *arguments)
    return builder.zext(builder.load_atomic(place, "acquire", 4), WORD)


@lower_builtin(sys_store, types.Array, types.Integer, types.Integer)  # type: ignore[untyped-decorator,unused-ignore]
def generate_store(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """LLVM's instructions."""
    memory, at, value = arguments
    place = _word(context, builder, signature.args[0], memory, at)
    builder.store_atomic(builder.trunc(value, DESCRIPTOR), place, "release", 4)
    return value


@lower_builtin(sys_wait, types.Integer, types.Integer, types.Integer)  # type: ignore[untyped-decorator,unused-ignore]
def generate_wait(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    """LLVM's instructions: two struct pollfd, and the time as a struct timespec."""
    polled = cgutils.alloca_once(builder, ir.ArrayType(POLLFD, 2))
    for place, fd in enumerate(arguments[:2]):
        for part, value in enumerate((builder.trunc(fd, DESCRIPTOR), SHORT(select.POLLIN), SHORT(0))):
            builder.store(value, cgutils.gep_inbounds(builder, polled, 0, place, part))
    timespec = cgutils.alloca_once(builder, TIMESPEC)
    for word, value in enumerate(
        (builder.sdiv(arguments[2], WORD(NS_PER_S)), builder.srem(arguments[2], WORD(NS_PER_S)))
    ):
        builder.store(value, cgutils.gep_inbounds(builder, timespec, 0, word))
    kind = ir.FunctionType(DESCRIPTOR, [POINTER, WORD, POINTER, POINTER])
    function = cgutils.get_or_insert_function(builder.module, kind, "ppoll")
    places = [builder.bitcast(place, POINTER) for place in (polled, timespec)]
    found = builder.call(function, [places[0], WORD(2), places[1], ir.Constant(POINTER, None)])
    return builder.sext(found, WORD)


@lower_builtin(sys_clock_ns)  # type: ignore[untyped-decorator,unused-ignore]
def generate_clock(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
    """LLVM's instructions: struct timespec is two words."""
    timespec = cgutils.alloca_once(builder, TIMESPEC)
    kind = ir.FunctionType(DESCRIPTOR, [DESCRIPTOR, POINTER])
    function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    builder.call(function, [DESCRIPTOR(time.CLOCK_MONOTONIC), builder.bitcast(timespec, POINTER)])
    seconds, ns = (builder.load(cgutils.gep_inbounds(builder, timespec, 0, word)) for word in (0, 1))
    return builder.add(builder.mul(seconds, WORD(NS_PER_S)), ns)
