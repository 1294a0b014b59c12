"""Capture filters in tcpdump's language: libpcap compiles them, we run the classic BPF program it makes.

libpcap is loaded only here, and only for its compiler.  `bpf_run` does what its interpreter does (1.10
bpf_filter.c): values are unsigned 32-bit numbers, a load outside the frame or a division by zero rejects it.
"""

import ctypes
import ctypes.util
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from emu.capture.linktype import PLAYED, linktype_index, linktype_name
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.kernel.record import record
from emu.wire.headers import LINKTYPE_ETHERNET, LINKTYPE_RAW, LINKTYPE_RAW_OPENBSD
from emu.wire.octets import Octets, be16, be32

SNAPLEN = 262_144
MASK = 0xFFFF_FFFF
MEMORY_WORDS = 16  # BPF_MEMWORDS
REJECTED = -1  # no 32-bit value is negative

# Instruction classes, sizes, modes, sources and operations: libpcap 1.10 pcap/bpf.h.
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
SIZE_W, SIZE_H, SIZE_B = 0x00, 0x08, 0x10
MODE_IMM, MODE_ABS, MODE_IND, MODE_MEM, MODE_LEN, MODE_MSH = range(0x00, 0xC0, 0x20)
FROM_INDEX = 0x08  # BPF_X: the operand is the index register, not the constant
RETURN_ACCUMULATOR = 0x10  # BPF_A
TXA = 0x80
OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_OR, OP_AND, OP_LSH, OP_RSH, OP_NEG, OP_MOD, OP_XOR = range(0x00, 0xB0, 0x10)
JUMP_ALWAYS, JUMP_EQ, JUMP_GT, JUMP_GE, JUMP_SET = range(0x00, 0x50, 0x10)

# libpcap's own number where it is not that of files, on Linux (libpcap 1.10 pcap-common.c).
_DLT = {LINKTYPE_RAW: 12, LINKTYPE_RAW_OPENBSD: 12}
PCAP_NETMASK_UNKNOWN = MASK
SONAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")


@record
class Instruction:
    """One instruction (struct bpf_insn); row k also keeps word k of the program's scratch memory."""

    code: int
    jt: int
    jf: int
    k: int
    scratch: int


class Program(NamedTuple):
    """A compiled filter: its expression, and its instructions as (code, jt, jf, k)."""

    expression: str
    instructions: tuple[tuple[int, int, int, int], ...]

    def load(self, engine: Engine) -> Any:
        """The program as this engine's `bpf_run` takes it; its rows hold scratch memory: one per thread."""
        return load_programs(engine, [self])


def load_programs(engine: Engine, programs: Sequence[Program]) -> Any:
    """Programs one behind the other, as this engine's `bpf_run` takes them, with one scratch memory for all."""
    instructions = [instruction for program in programs for instruction in program.instructions]
    rows = engine.rows(Instruction, max(len(instructions), MEMORY_WORDS))
    put = engine.function(put_instruction)
    for at, (code, jt, jf, k) in enumerate(instructions):
        put(rows, at, code, jt, jf, k)
    return rows


class Filter:
    """A filter expression and its programs, one for each link type that has been met."""

    def __init__(self, expression: str | None) -> None:
        """None or empty: everything passes."""
        self.expression = expression
        self.programs: dict[int, Program] = {}

    def meet(self, linktypes: Iterable[int]) -> bool:
        """Compile for link types that are not known yet; whether there were any.  Errors: see `compile_filter`."""
        fresh = sorted(set(linktypes) & set(PLAYED) - set(self.programs))
        for linktype in fresh:
            self.programs[linktype] = (
                compile_filter(self.expression, linktype=linktype) if self.expression else Program("", ())
            )
        return bool(fresh)

    @property
    def starts(self) -> list[int]:
        """Where the program for each link type of PLAYED starts among all; 0 for what has not been met."""
        starts, at = [0] * len(PLAYED), 0
        for linktype, program in self.programs.items():
            starts[linktype_index(linktype)] = at
            at += len(program.instructions)
        return starts

    @property
    def length(self) -> int:
        """Instructions of all programs."""
        return sum(len(program.instructions) for program in self.programs.values())

    def load(self, engine: Engine) -> Any:
        """All programs as this engine's `bpf_run` takes them."""
        return load_programs(engine, list(self.programs.values()))


class _Insn(ctypes.Structure):
    """Struct bpf_insn."""

    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """Struct bpf_program."""

    _fields_ = (("length", ctypes.c_uint), ("insns", ctypes.POINTER(_Insn)))


def compile_filter(expression: str, snaplen: int = SNAPLEN, linktype: int = LINKTYPE_ETHERNET) -> Program:
    """Compile a tcpdump expression for frames of a link type.

    Errors: UsageError when libpcap is missing, or with libpcap's words when the expression is bad.
    """
    if "\0" in expression:
        raise UsageError(f"--filter {expression!r}: holds a NUL character")
    pcap = _libpcap()
    handle = pcap.pcap_open_dead(_DLT.get(linktype, linktype), snaplen)
    assert handle, "pcap_open_dead allocates a few hundred bytes"
    try:
        compiled = _Program()
        text = os.fsencode(expression)
        if pcap.pcap_compile(handle, ctypes.byref(compiled), text, 1, PCAP_NETMASK_UNKNOWN) != 0:
            message = pcap.pcap_geterr(handle).decode(errors="replace").strip()
            where = "" if linktype == LINKTYPE_ETHERNET else f" (for frames of {linktype_name(linktype)})"
            raise UsageError(f"--filter {expression!r}: {message}{where}")
        try:
            insns = [compiled.insns[at] for at in range(compiled.length)]
            program = Program(expression, tuple((i.code, i.jt, i.jf, i.k) for i in insns))
        finally:
            pcap.pcap_freecode(ctypes.byref(compiled))
    finally:
        pcap.pcap_close(handle)
    _check(program)
    return program


def _libpcap() -> ctypes.CDLL:
    """libpcap with the prototypes of the five functions that we call."""
    # find_library starts other programs: only where the usual names fail.
    pcap = _load_first(SONAMES) or _load_first((ctypes.util.find_library("pcap"),))
    if pcap is None:
        raise UsageError("--filter needs libpcap (Debian: apt install libpcap0.8)")
    handle, program = ctypes.c_void_p, ctypes.POINTER(_Program)
    pcap.pcap_open_dead.argtypes, pcap.pcap_open_dead.restype = (ctypes.c_int, ctypes.c_int), handle
    pcap.pcap_compile.argtypes = (handle, program, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32)
    pcap.pcap_geterr.argtypes, pcap.pcap_geterr.restype = (handle,), ctypes.c_char_p
    pcap.pcap_freecode.argtypes, pcap.pcap_freecode.restype = (program,), None
    pcap.pcap_close.argtypes, pcap.pcap_close.restype = (handle,), None
    return pcap


def _load_first(names: tuple[str | None, ...]) -> ctypes.CDLL | None:
    for name in names:
        if name is not None:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    return None


def _check(program: Program) -> None:
    """Assert that no run can leave the program: then `bpf_run` needs no bounds of its own."""
    instructions = program.instructions
    for at, (code, jt, jf, k) in enumerate(instructions):
        kind = code & 0x07
        if kind == JMP:
            steps = [signed(k)] if code & 0xF0 == JUMP_ALWAYS else [jt, jf]
        else:
            steps = [] if kind == RET else [0]
        assert all(0 <= at + 1 + step < len(instructions) for step in steps), f"{program.expression!r}: jump at {at}"
        uses_memory = kind in (ST, STX) or (kind in (LD, LDX) and code & 0xE0 == MODE_MEM)
        assert not uses_memory or k < MEMORY_WORDS, f"{program.expression!r}: word {k} at {at}"


def put_instruction(program: Any, at: int, code: int, jt: int, jf: int, k: int) -> None:
    """Store one instruction."""
    program[at].code = code
    program[at].jt = jt
    program[at].jf = jf
    program[at].k = k


def bpf_run(program: Any, start: int, octets: Octets, offset: int, caplen: int, length: int) -> int:
    """What the filter that starts at instruction `start` says of a frame: 0 rejects it, all else accepts it.

    `offset` and `caplen` (bytes captured) say where it lies in `octets`; `length` is its size on the wire.
    Source: libpcap 1.10 bpf_filter.c.
    """
    accumulator = index = 0
    at = start
    while True:
        step = program[at]
        at += 1
        kind = step.code & 0x07
        operand = index if step.code & FROM_INDEX else step.k  # of a jump or of arithmetic
        if kind == JMP:
            at += jump(step, accumulator, operand)
        elif kind == LD:
            accumulator = load(program, step, octets, offset, caplen, length, index)
            if accumulator == REJECTED:
                return 0
        elif kind == RET:
            return int(accumulator if step.code & RETURN_ACCUMULATOR else step.k)
        elif kind == ALU:
            accumulator = calculate(step.code & 0xF0, accumulator, operand)
            if accumulator == REJECTED:
                return 0
        elif kind == LDX:
            index = load_index(program, step, octets, offset, caplen, length)
            if index == REJECTED:
                return 0
        elif kind == ST:
            program[step.k].scratch = accumulator
        elif kind == STX:
            program[step.k].scratch = index
        elif step.code & TXA:
            accumulator = index
        else:
            index = accumulator


def load(program: Any, step: Any, octets: Octets, offset: int, caplen: int, length: int, index: int) -> int:
    """The accumulator's new value, or REJECTED."""
    mode = step.code & 0xE0
    value = REJECTED
    if mode == MODE_ABS:
        value = load_octets(step.code & 0x18, step.k, octets, offset, caplen)
    elif mode == MODE_IND:
        # The sum is not cut to 32 bits: libpcap refuses each part that is beyond the frame, so none wraps.
        value = load_octets(step.code & 0x18, step.k + index, octets, offset, caplen)
    elif mode == MODE_LEN:
        value = length
    elif mode == MODE_IMM:
        value = step.k
    elif mode == MODE_MEM:
        value = program[step.k].scratch
    return value


def load_octets(size: int, place: int, octets: Octets, offset: int, caplen: int) -> int:
    """The 1, 2 or 4 bytes at a place in the frame, or REJECTED."""
    at = offset + place
    value = REJECTED
    # The masks change no value: they make signed numbers of what numba takes for unsigned ones.
    if size == SIZE_H:
        if place + 2 <= caplen:
            value = be16(octets, at) & MASK
    elif size == SIZE_B:
        if place < caplen:
            value = octets[at] & MASK
    elif place + 4 <= caplen:
        value = be32(octets, at) & MASK
    return value


def load_index(program: Any, step: Any, octets: Octets, offset: int, caplen: int, length: int) -> int:
    """The index register's new value, or REJECTED."""
    mode = step.code & 0xE0
    value = REJECTED
    if mode == MODE_MSH:  # the length of an IPv4 header
        if step.k < caplen:
            value = (octets[offset + step.k] & 0x0F) << 2
    elif mode == MODE_IMM:
        value = step.k
    elif mode == MODE_MEM:
        value = program[step.k].scratch
    elif mode == MODE_LEN:
        value = length
    return value


def jump(step: Any, accumulator: int, operand: int) -> int:
    """How many instructions to skip."""
    test = step.code & 0xF0
    if test == JUMP_ALWAYS:
        return signed(step.k)
    if test == JUMP_EQ:
        holds = accumulator == operand
    elif test == JUMP_SET:
        holds = accumulator & operand != 0
    elif test == JUMP_GE:
        holds = accumulator >= operand
    else:
        holds = accumulator > operand
    return int(step.jt if holds else step.jf)


def signed(k: int) -> int:
    """A 32-bit two's complement number: `ip6 protochain` jumps backwards."""
    return k - (k >> 31 << 32)


def calculate(operation: int, accumulator: int, operand: int) -> int:
    """The accumulator's new value, or REJECTED."""
    if operation == OP_AND:
        return accumulator & operand
    if operation == OP_OR:
        return accumulator | operand
    if operation == OP_XOR:
        return accumulator ^ operand
    if operation == OP_ADD:
        return accumulator + operand & MASK
    if operation == OP_SUB:
        return accumulator - operand & MASK
    if operation == OP_MUL:
        return accumulator * operand & MASK
    if operation == OP_NEG:
        return -accumulator & MASK
    if operation in (OP_DIV, OP_MOD):
        if operand == 0:
            return REJECTED
        return accumulator // operand if operation == OP_DIV else accumulator % operand
    return shift(operation, accumulator, operand)


def shift(operation: int, accumulator: int, operand: int) -> int:
    """Shifted by the operand, which may be any 32-bit number."""
    if operand >= 32:
        return 0
    return accumulator << operand & MASK if operation == OP_LSH else accumulator >> operand
