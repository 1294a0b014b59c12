"""The compiled engine: the same functions, linked to one another through numba, on one numpy record.

No function is written for it and none is decorated.  Every function of the modules in `SOURCES` is copied with
globals in which its callees are replaced by their compiled twins; numba compiles what an entry point reaches, on its
first call, and keeps the result in a cache folder that is keyed by all of these sources: numba itself does not notice
a change in a callee of another file.
"""

import hashlib
import importlib
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np

from emu.engine.linking import linked, possible, put_off
from emu.engine.plain import REPLAY, F
from emu.kernel.record import fields_of

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
)


CALLEE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # only entry points are called from Python
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
    "emu.engine.linking",
)
WARM = "warm"  # what a file in the cache folder is called, with the use that is warm


def without_literals(dispatcher: Any) -> Any:
    """A callee that is compiled once for integers, not once more for every constant that it is called with."""
    template_of = dispatcher.get_call_template

    def template(arguments: Any, keywords: Any) -> Any:
        return template_of([numba.types.unliteral(argument) for argument in arguments], keywords)

    dispatcher.get_call_template = template
    return dispatcher


def dtype_of(row: type) -> np.dtype[Any]:
    """The numpy dtype of a record class; every integer is 64 bits wide."""
    columns: list[tuple[Any, ...]] = []
    for name, nested, length in fields_of(row):
        # A field that shadows an ndarray attribute would silently mean something else when not compiled.
        assert not hasattr(np.ndarray, name) and not hasattr(np.void, name), f"{row.__name__}.{name} is numpy's"
        kind: Any = np.int64 if nested is None else dtype_of(nested)
        columns.append((name, kind, (length,)) if length else (name, kind))
    return np.dtype(columns)


def cache_key(modules: list[ModuleType]) -> str:
    """A hash of all that the compiled code depends on: sources, numba's version, Python's and the CPU."""
    digest = hashlib.sha256()
    others = [importlib.import_module(name) for name in (*TABLES, __name__)]
    for module in [*modules, *others]:
        assert module.__file__ is not None
        source = Path(module.__file__)
        # numba looks an entry up by its file's path and time, so another copy of these sources has its own folder.
        digest.update(repr((str(source), source.stat().st_mtime_ns)).encode() + source.read_bytes())
    facts = (numba.__version__, np.__version__, platform.python_version(), numba.core.config.CPU_NAME or "")
    digest.update(repr((facts, _cpu_name())).encode())
    return digest.hexdigest()[:24]


def _cpu_name() -> str:
    from llvmlite import binding  # type: ignore[import-untyped,unused-ignore]

    return str(binding.get_host_cpu_name())


def cache_folder(key: str) -> Path:
    """Where compiled code is kept: the user's cache, else a private temporary folder of this user."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    for root in (Path(home) / "emu", Path(tempfile.gettempdir()) / f"emu-cache-{os.getuid()}"):
        folder = root / key
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="emu-cache-"))


class CompiledEngine:
    """Runs the functions of `SOURCES` through numba."""

    name = "compiled"

    def __init__(self) -> None:
        """Link the sources; nothing is compiled before it is called."""
        modules = [importlib.import_module(name) for name in SOURCES]
        self.cache = cache_folder(cache_key(modules))
        numba.config.CACHE_DIR = str(self.cache)
        self.compiled: dict[Any, Any] = {}
        self.copies: dict[Any, FunctionType] = {}
        self.entries: dict[Any, Any] = {}
        namespaces = [self._copy(module) for module in modules]
        for module, namespace in zip(modules, namespaces, strict=True):
            for name, value in vars(module).items():
                namespace[name] = self.compiled.get(value, value) if isinstance(value, FunctionType) else value

    def _copy(self, module: ModuleType) -> dict[str, Any]:
        namespace: dict[str, Any] = {}
        namespace["__name__"] = module.__name__
        for value in vars(module).values():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                source = getattr(value, "compiled_twin", value)
                copy = FunctionType(source.__code__, namespace, source.__name__, source.__defaults__)
                self.copies[value] = copy
                callee = without_literals(numba.njit(nogil=True, **CALLEE)(copy))
                self.compiled[value] = put_off(callee) if possible() else callee
        return namespace

    def is_warm(self, use: str = REPLAY) -> bool:
        """Whether an earlier run of this use compiled all that it needed, from these very sources."""
        return (self.cache / f"{WARM}-{use}").exists()

    def finished(self, use: str = REPLAY) -> None:
        """A run has ended: what it compiled is in the cache."""
        (self.cache / f"{WARM}-{use}").touch()

    def function(self, function: F) -> F:
        """The function's compiled twin, kept in the cache folder."""
        if function not in self.entries:
            entry = numba.njit(nogil=True, cache=True)(self.copies[function])
            self.entries[function] = linked(entry) if possible() else entry
        twin: F = self.entries[function]
        return twin

    def new(self, row: type) -> Any:
        """One record, zeroed."""
        return np.zeros(1, dtype_of(row)).view(np.recarray)[0]

    def rows(self, row: type, length: int) -> Any:
        """An array of `length` records, zeroed."""
        return np.zeros(length, dtype_of(row)).view(np.recarray)

    def view(self, buffer: bytearray) -> Any:
        """The buffer as an array of bytes, without a copy."""
        return np.frombuffer(buffer, np.uint8)

    def fill(self, record: Any, values: Mapping[str, int]) -> None:
        """Set fields of a record."""
        for name, value in values.items():
            record[name] = int(value)

    def move(self, rows: Any, source: int, count: int) -> None:
        """Copy rows to the front."""
        rows[:count] = rows[source : source + count].copy()

    def grown(self, rows: Any, length: int) -> Any:
        """A copy of the rows in a larger array; numba compiles nothing anew for it."""
        grown = np.zeros(length, rows.dtype).view(np.recarray)
        grown[: len(rows)] = rows
        return grown

    def column(self, rows: Any, name: str, count: int) -> list[int]:
        """A field of the first `count` rows, read at once: row by row numpy takes a thousand times as long."""
        found: list[int] = rows[name][:count].tolist()
        return found
