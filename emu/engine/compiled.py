"""The compiled engine: the same functions, linked to one another through numba, on one numpy record.

No function is written for it and none is decorated.  Every function of the modules in `SOURCES` is copied with
globals in which its callees are replaced by their compiled twins; numba compiles what an entry point reaches, on its
first call, and keeps the result in a cache folder that is keyed by all of these sources: numba itself does not notice
a change in a callee of another file.
"""

import functools
import importlib
import platform
import sys
import sysconfig
from collections.abc import Mapping
from mmap import mmap
from types import FunctionType
from typing import Any

import llvmlite  # type: ignore[import-untyped,unused-ignore]
import numba
import numpy as np
from numba.core.registry import cpu_target
from numba.extending import typeof_impl
from numba.np.numpy_support import from_dtype

from emu.engine.ahead import Helper, is_worth_it
from emu.engine.cache import CacheFolder, key_of
from emu.engine.kept import KeptCode
from emu.engine.lean import LeanCompiler
from emu.engine.linking import linked, possible, put_off
from emu.engine.loop import run
from emu.engine.plain import REPLAY, F
from emu.engine.twins import TWINS
from emu.kernel.boot import boot
from emu.kernel.machine import Event, Machine, Packet
from emu.kernel.record import as_wholes, fields_of

SOURCES = (
    "emu.wire.octets",
    "emu.wire.checksum",
    "emu.wire.ethernet",
    "emu.wire.arp",
    "emu.wire.ipv4",
    "emu.wire.tcp",
    "emu.wire.udp",
    "emu.wire.icmp",
    "emu.wire.vlan",
    "emu.wire.sll",
    "emu.wire.sll2",
    "emu.wire.loopback",
    "emu.wire.ipv6",
    "emu.wire.icmpv6",
    "emu.wire.igmp",
    "emu.wire.link",
    "emu.wire.extensions",
    "emu.wire.transport",
    "emu.wire.dissect",
    "emu.capture.linktype",
    "emu.capture.pcap",
    "emu.capture.pcapng",
    "emu.capture.bpf",
    "emu.capture.blocks",
    "emu.capture.annotate",
    "emu.capture.lexicon",
    "emu.capture.comments",
    "emu.capture.annotated",
    "emu.capture.write",
    "emu.capture.made",
    "emu.capture.merge",
    "emu.traffic.pace",
    "emu.traffic.tally",
    "emu.traffic.iscsi.segments",
    "emu.traffic.iscsi.conversation",
    "emu.traffic.arrivals",
    "emu.traffic.draw",
    "emu.traffic.flood.profile",
    "emu.traffic.flood.emit",
    "emu.traffic.rewrite.patch",
    "emu.traffic.rewrite.edit",
    "emu.traffic.rewrite.fix",
    "emu.traffic.rewrite.frames",
    "emu.kernel.bugs",
    "emu.kernel.page_alloc",
    "emu.kernel.vmscan",
    "emu.kernel.slab",
    "emu.kernel.slub",
    "emu.kernel.skbuff",
    "emu.kernel.seq",
    "emu.kernel.tcp_conn",
    "emu.kernel.tx_queue",
    "emu.kernel.reply",
    "emu.kernel.tcp_output",
    "emu.kernel.netdevice",
    "emu.kernel.e1000",
    "emu.kernel.e1000_ps",
    "emu.kernel.replace",
    "emu.kernel.e1000e",
    "emu.kernel.tcp_mem",
    "emu.kernel.sock",
    "emu.kernel.tcp_seq",
    "emu.kernel.iscsi_pdu",
    "emu.kernel.flows",
    "emu.kernel.iscsi_follow",
    "emu.kernel.iscsi_write_back",
    "emu.kernel.retransmit",
    "emu.kernel.fate",
    "emu.kernel.tcp_prune",
    "emu.kernel.tcp_write",
    "emu.kernel.tcp_timer",
    "emu.kernel.tcp_queue",
    "emu.kernel.tcp_rcv",
    "emu.kernel.tcp_minisocks",
    "emu.kernel.tcp_input",
    "emu.kernel.driver",
    "emu.kernel.xmit",
    "emu.kernel.netif_rx",
    "emu.kernel.vlan",
    "emu.kernel.upper",
    "emu.kernel.tcp_ipv4",
    "emu.kernel.route",
    "emu.kernel.icmp",
    "emu.kernel.icmpv6",
    "emu.kernel.udp",
    "emu.kernel.igmp",
    "emu.kernel.arp",
    "emu.kernel.ip_fragment",
    "emu.kernel.af_packet",
    "emu.kernel.raw",
    "emu.kernel.ip_input",
    "emu.kernel.ip6_input",
    "emu.kernel.dev",
    "emu.kernel.latency",
    "emu.kernel.page_writeback",
    "emu.kernel.iscsi_tcp",
    "emu.kernel.iscsi_login",
    "emu.kernel.pdflush",
    "emu.kernel.block_io",
    "emu.kernel.writeback",
    "emu.kernel.updown",
    "emu.kernel.timeline",
    "emu.traffic.peer.state",
    "emu.traffic.peer.lane",
    "emu.traffic.peer.frames",
    "emu.traffic.peer.tcp_peer",
    "emu.traffic.peer.target",
    "emu.traffic.peer.server",
    "emu.traffic.peer.replies",
    "emu.traffic.peer.wire",
    "emu.kernel.boot",
    "emu.kernel.invariants",
    "emu.kernel.lockup_memory",
    "emu.kernel.lockup_chain",
    "emu.kernel.lockup",
    "emu.kernel.download",
    "emu.engine.loop",
    "emu.traffic.peer.loop",
    "emu.live.system",
    "emu.live.cut",
    "emu.live.ring",
    "emu.live.wire",
    "emu.live.serve",
)


# Nothing here makes an array or keeps one: those that Python lends need no counting of references, atomic as it is.
ENTRY = {"nogil": True, "_nrt": False, "pipeline_class": LeanCompiler}
CALLEE = {**ENTRY, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # only entry points are called from Python
TWINNED = "emu.engine.twins"
TABLES = (
    "emu.kernel.machine",
    "emu.kernel.closed_loop",
    "emu.kernel.iscsi_follow_state",
    "emu.kernel.policy",
    "emu.kernel.drop_reason",
    "emu.kernel.record",
    "emu.wire.headers",
    "emu.traffic.iscsi.state",
    "emu.traffic.rewrite.spec",
    "emu.engine.ahead",
    "emu.engine.linking",
    "emu.engine.memcpy",
    "emu.engine.syscalls",
    "emu.engine.kept",
    "emu.engine.lean",
    "emu.engine.compiled",
)
INTEGER = numba.types.int64
# What each use compiles in a process of its own, from when on, and for which arguments: rows of a class are a tuple.
AHEAD: dict[str, tuple[Any, Any, tuple[Any, ...]]] = {
    REPLAY: (boot, run, (Machine, (Packet,), INTEGER, INTEGER, INTEGER, (Event,), INTEGER)),
}
WARM = "warm"  # what a file in the cache folder is called, with the use that is warm


def without_literals(dispatcher: Any) -> Any:
    """A callee that is compiled once for integers, not once more for every constant that it is called with."""
    template_of = dispatcher.get_call_template

    def template(arguments: Any, keywords: Any) -> Any:
        return template_of([numba.types.unliteral(argument) for argument in arguments], keywords)

    dispatcher.get_call_template = template
    return dispatcher


class Record(np.void):  # type: ignore[misc,unused-ignore]  # as np.record does
    """One record of an array, its fields as attributes.

    np.record does that, too, but slowly: it makes a new dtype at every access to a nested field, and numba asks it for
    a description of its whole layout at every call.
    """

    def __getattr__(self, name: str) -> Any:
        """The field's value, or a view of it if it is nested."""
        try:
            return self[name]
        except (ValueError, KeyError):
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; nothing else can be set."""
        self[name] = value

    @property
    def data(self) -> memoryview:
        """The record's bytes, which is how numba finds them."""
        return self.__dict__.get("octets") or super().data

    def remember(self, octets: memoryview, layout: Any) -> None:
        """Keep what numba asks at every call: `octets` are this record's bytes, `layout` its numba type."""
        self.__dict__.update(octets=octets, layout=layout)


@typeof_impl.register(Record)  # type: ignore[untyped-decorator,unused-ignore]
def layout_of(record: Record, _context: object) -> Any:
    """The numba type of a record, as numba finds it for every other, but once: the machine has thousands of fields."""
    return record.__dict__.get("layout") or from_dtype(record.dtype)


@functools.cache
def type_of(row: type) -> Any:
    """The numba type of a record class."""
    return from_dtype(dtype_of(row))


def numba_type(kind: Any) -> Any:
    """The numba type of what an entry point is called with, as `AHEAD` writes it."""
    if isinstance(kind, tuple):
        return numba.typeof(np.empty(0, dtype_of(kind[0])))
    return kind if isinstance(kind, numba.types.Type) else type_of(kind)


@functools.cache
def dtype_of(row: type) -> np.dtype[Any]:
    """The numpy dtype of a record class; every integer is 64 bits wide."""
    columns: list[tuple[Any, ...]] = []
    for name, nested, length in fields_of(row):
        # A field that shadows an ndarray attribute would silently mean something else when not compiled.
        assert not hasattr(np.ndarray, name) and not hasattr(Record, name), f"{row.__name__}.{name} is numpy's"
        kind: Any = np.int64 if nested is None else dtype_of(nested)
        columns.append((name, kind, (length,)) if length else (name, kind))
    return np.dtype((Record, np.dtype(columns)))


def facts() -> tuple[str, ...]:
    """What compiled code depends on besides the sources: numba's version and settings, Python's, the CPU."""
    config = numba.core.config
    return (
        *(numba.__version__, llvmlite.__version__, np.__version__),
        *(sys.implementation.cache_tag, platform.python_version(), sysconfig.get_platform()),
        *map(str, cpu_target.target_context.codegen().magic_tuple()),
        *map(str, (config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.DEBUGINFO_DEFAULT)),
    )


class CompiledEngine:
    """Runs the functions of `SOURCES` through numba."""

    name = "compiled"

    def __init__(self) -> None:
        """Nothing is linked before something must be compiled, and then all of it."""
        self.modules = (*SOURCES, TWINNED)
        self.cache = CacheFolder(key_of((*self.modules, *TABLES), facts()))
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.entries: dict[Any, Any] = {}
        self.is_linked = False
        self.expected = ""
        self.helper: Helper | None = None

    def expect(self, use: str) -> None:
        """Be told what will be needed: the largest part of it is then compiled beside the rest."""
        self.expected = use

    def _copy(self, function: FunctionType) -> FunctionType:
        """The function with globals of its own, which are empty until the sources are linked."""
        source = TWINS.get(function, function)
        name = source.__module__
        assert name in self.modules, f"{name}.{function.__name__}: its module is not compiled"
        namespace = self.namespaces.setdefault(name, {"__name__": name})
        return FunctionType(source.__code__, namespace, source.__name__, source.__defaults__)

    def _link(self) -> None:
        """Fill the globals of all copies: what they call is a compiled twin."""
        if self.is_linked:
            return
        self.is_linked = True
        modules = [importlib.import_module(name) for name in self.modules]
        twins: dict[FunctionType, Any] = {}
        for module in modules:
            for value in vars(module).values():
                if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                    callee = without_literals(numba.njit(**CALLEE)(self._copy(value)))
                    twins[value] = put_off(callee) if possible() else callee
        for module in modules:
            namespace = self.namespaces.setdefault(module.__name__, {"__name__": module.__name__})
            for name, value in vars(module).items():
                namespace[name] = twins.get(value, value) if isinstance(value, FunctionType) else value

    def is_warm(self, use: str = REPLAY) -> bool:
        """Whether an earlier run of this use compiled all that it needed, from these very sources."""
        return self.cache.read(f"{WARM}-{use}") is not None

    def finished(self, use: str = REPLAY) -> None:
        """A run has ended: what it compiled is in the cache, unless that could not be written."""
        if not self.is_warm(use) and not any(entry._cache.unsaved for entry in self.entries.values()):
            self.cache.write(f"{WARM}-{use}", b"")

    def function(self, function: F) -> F:
        """The function's compiled twin, kept in the cache folder."""
        if function not in self.entries:
            assert isinstance(function, FunctionType)
            entry = numba.njit(**ENTRY)(self._copy(function))
            entry._cache = KeptCode(self.cache, function)
            entry._cache.wait = functools.partial(self._wait_for, function)
            self._link_before_compiling(entry, function)
            self.entries[function] = linked(entry) if possible() else entry
        twin: F = self.entries[function]
        return twin

    def ahead(self) -> tuple[Any, Any, tuple[Any, ...]]:
        """When the expected use begins to compile another entry point beside: which, and for what types."""
        when, function, arguments = AHEAD.get(self.expected, (None, None, ()))
        return when, function, tuple(numba_type(argument) for argument in arguments)

    def _help(self, function: Any) -> None:
        """Begin what is compiled beside this function, if that has its time now."""
        when, other, types = self.ahead()
        if function is not when or self.helper is not None or self.cache.path is None or not is_worth_it():
            return
        entry = self.function(other)
        if self.cache.read(entry._cache.file(types)) is None:
            self.helper = Helper(lambda: entry.compile(types))

    def _wait_for(self, function: Any) -> None:
        """Let the helper finish, if this is what it makes."""
        if self.helper is not None and function is self.ahead()[1]:
            self.helper.wait()

    def _link_before_compiling(self, entry: Any, function: Any) -> None:
        compiler = entry._compiler  # asked only for what is not in the cache
        compile_now = compiler.compile

        def link_and_compile(arguments: Any, result: Any) -> Any:
            self._link()
            self._help(function)
            return compile_now(arguments, result)

        compiler.compile = link_and_compile

    def new(self, row: type) -> Any:
        """One record, zeroed."""
        place = np.zeros(1, dtype_of(row))
        found: Record = place[0]
        found.remember(place.view(np.uint8).data, type_of(row))
        return found

    def rows(self, row: type, length: int) -> Any:
        """An array of `length` records, zeroed."""
        return np.zeros(length, dtype_of(row))

    def view(self, buffer: bytearray | mmap) -> Any:
        """The buffer as an array of bytes, without a copy."""
        return np.frombuffer(buffer, np.uint8)

    def fill(self, record: Any, values: Mapping[str, int]) -> None:
        """Set fields of a record."""
        for name, value in values.items():
            record[name] = int(value)

    def move(self, rows: Any, source: int, count: int) -> None:
        """Copy rows to the front."""
        whole = as_wholes(rows)
        whole[:count] = whole[source : source + count]

    def grown(self, rows: Any, length: int) -> Any:
        """A copy of the rows in a larger array; numba compiles nothing anew for it."""
        grown = np.zeros(length, rows.dtype)
        as_wholes(grown)[: len(rows)] = as_wholes(rows)
        return grown

    def column(self, rows: Any, name: str, count: int) -> list[int]:
        """A field of the first `count` rows, read at once: row by row numpy takes a thousand times as long."""
        found: list[int] = rows[name][:count].tolist()
        return found
