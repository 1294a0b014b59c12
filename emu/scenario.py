"""The experiment as data: machine, policy, devices, sockets, pressure, what to expect.

A scenario is a TOML file, checked against `Scenario` (schema 1): an unknown key is an error that names it.  What the
file leaves out has the default written here, which is the default crunch of a replay.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from emu.errors import UsageError
from emu.kernel.machine import MAX_DEVICES, MAX_RING, MAX_RULES, PAGE_SIZE
from emu.kernel.policy import DEFAULT_POLICY, POLICIES, QUESTIONS
from emu.kernel.sock import READERS
from emu.kernel.tcp_mem import tcp_bind_hash_order
from emu.traffic.arrivals import OFFLOADS
from emu.traffic.expression import parse_flows
from emu.wire.headers import CHECKSUMS

SCHEMA = 1
RING_BUFFERS_LEFT = 32  # what the background leaves in the ring: the driver shows the NIC one step of 16 of them

SMALL_BIND_HASH_ORDER = 3

Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Reader = Literal["immediate", "rate", "needs-memory", "never"]
assert Reader.__args__ == READERS  # type: ignore[attr-defined]


class Part(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A table of the scenario: unknown keys are refused."""


class Geometry(Part, frozen=True):
    """Sizes that belong to a kernel build and its NIC, whatever the policy."""

    sk_buff_bytes: int
    l1_bytes: int
    udp_rcvbuf: int
    tcp_rcvbuf: int
    source: str


GEOMETRIES = {
    "2.6.12-e1000": Geometry(
        sk_buff_bytes=168,
        l1_bytes=128,
        udp_rcvbuf=108_544,
        tcp_rcvbuf=87_380,
        source="Linux 2.6.12 i386, NETFILTER, P4: include/linux/skbuff.h, net/core/sock.c, net/ipv4/tcp.c",
    ),
}


class MachineTable(Part, frozen=True):
    """The emulated host."""

    geometry: str = "2.6.12-e1000"
    memory: str | int = "128MiB"
    cpu_ns_per_packet: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 2_000
    cpu_ps_per_byte: Annotated[int, Meta(ge=0, le=1_000_000)] = 1_000
    netdev_max_backlog: Annotated[int, Meta(ge=1, le=1_000_000)] = 300


class PolicyTable(Part, frozen=True):
    """The kernel's rules: a row of the policy table, and single rules changed."""

    name: str = DEFAULT_POLICY
    rules: dict[str, int] = {}


class DeviceTable(Part, frozen=True):
    """A network device."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9._]{0,14}$")] = "eth0"
    mtu: Annotated[int, Meta(ge=68, le=16_110)] = 1500
    ring: Annotated[int, Meta(ge=80, le=MAX_RING, multiple_of=16)] = 256
    weight: Annotated[int, Meta(ge=1, le=4096)] = 64
    rx_reserve: Annotated[int, Meta(ge=0, le=MAX_RING)] | None = None


class PressureTable(Part, frozen=True):
    """Who else wants memory when play starts; writers are blocked in a crunch, and there are none in a quiet.

    `memalloc_socket`: a SOCK_MEMALLOC socket that the capture does not show is open already (mainline's static key).
    """

    start: Literal["crunch", "quiet"] = "crunch"
    free_pages_above_floor: Count = 0
    background_skbs: Count | None = None
    writers: Literal["blocked", "none"] | None = None
    memalloc_socket: bool = False


class ReadersTable(Part, frozen=True):
    """Who reads what the sockets hold; `rate` in packets per second."""

    ordinary: Reader = "needs-memory"
    memalloc: Reader = "immediate"
    rate: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1_000
    udp_rcvbuf: Annotated[int, Meta(ge=256, le=1 << 30)] | None = None
    tcp_rcvbuf: Annotated[int, Meta(ge=256, le=1 << 30)] | None = None


class TcpTable(Part, frozen=True):
    """TCP's limits: `mem` in pages for all sockets together, `rmem` in bytes for one (least, default, most).

    What is left out is what the kernel computes from the machine's memory; `readers.tcp_rcvbuf` overrides `rmem`'s
    default.
    """

    mem: Annotated[list[Annotated[int, Meta(ge=1, le=1 << 40)]], Meta(min_length=3, max_length=3)] | None = None
    rmem: Annotated[list[Annotated[int, Meta(ge=256, le=1 << 30)]], Meta(min_length=3, max_length=3)] | None = None


class SocketTable(Part, frozen=True):
    """What is special about some sockets; `match` sees the remote end, `local_port` the host's."""

    match: str
    local_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    memalloc: bool | None = None
    closed: bool = False
    reader: Reader | None = None
    rate: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    rcvbuf: Annotated[int, Meta(ge=256, le=1 << 30)] | None = None


class ReplayTable(Part, frozen=True):
    """How a capture is played."""

    memalloc: str = "iscsi"
    closed: str = ""
    offload: Literal["split", "drop", "jumbo"] = "split"
    checksums: Literal["auto", "verify", "trust"] = "auto"
    drain_ns: Annotated[int, Meta(ge=0, le=3_600_000_000_000)] = 1_000_000_000


assert ReplayTable.__annotations__["offload"].__args__ == OFFLOADS
assert ReplayTable.__annotations__["checksums"].__args__ == CHECKSUMS


class Scenario(Part, frozen=True):
    """A whole experiment."""

    schema: Literal[1] = 1
    why: str = ""
    machine: MachineTable = MachineTable()
    policy: PolicyTable = PolicyTable()
    device: Annotated[list[DeviceTable], Meta(min_length=1, max_length=MAX_DEVICES)] = msgspec.field(
        default_factory=lambda: [DeviceTable()]
    )
    pressure: PressureTable = PressureTable()
    readers: ReadersTable = ReadersTable()
    tcp: TcpTable = TcpTable()
    socket: Annotated[list[SocketTable], Meta(max_length=MAX_RULES // 2)] = []
    replay: ReplayTable = ReplayTable()
    expect: list[str] = []

    def digest(self) -> str:
        """SHA-256 of the complete scenario, defaults included."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def load_scenario(path: str | None, settings: dict[str, Any] | None = None) -> Scenario:
    """Read a scenario file (none: all defaults) and put `settings` (dotted key -> value) over it."""
    tree: dict[str, Any] = {}
    origin = "the scenario"
    if path is not None:
        origin = path
        tree = _read_toml(path)
    for key, value in (settings or {}).items():
        _put(tree, key, value)
    try:
        scenario = msgspec.convert(tree, Scenario)
    except msgspec.ValidationError as error:
        raise UsageError(f"{origin}: {_readable(str(error))}") from None
    _check(scenario, origin)
    return scenario


def parse_setting(text: str) -> tuple[str, Any]:
    """`key=value` as a dotted key and a TOML value; what is no TOML value is a string."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", key):
        raise UsageError(f"--set {text}: expected key=value, such as pressure.background_skbs=0")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def memory_pages(scenario: Scenario) -> int:
    """The machine's memory in pages of 4096 bytes; a bare number in the scenario is pages."""
    memory = scenario.machine.memory
    if isinstance(memory, int):
        return memory
    found = re.fullmatch(r"(\d{1,9})\s*(KiB|MiB|GiB|pages)", memory)
    if not found:
        raise UsageError(f"machine.memory '{memory}': expected a size such as '128MiB', or a number of pages")
    unit = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "pages": PAGE_SIZE}[found[2]]
    return int(found[1]) * unit // PAGE_SIZE


def background_skbs(scenario: Scenario, device: DeviceTable) -> int:
    """How many of a device's ring buffers sockets outside the capture hold when play starts."""
    asked = scenario.pressure.background_skbs
    return device.ring - RING_BUFFERS_LEFT if asked is None else asked


def writers(scenario: Scenario) -> str:
    """Whether blocked writers take what appears above pages_min."""
    return scenario.pressure.writers or ("blocked" if scenario.pressure.start == "crunch" else "none")


def tcp_rmem(scenario: Scenario) -> list[int]:
    """TCP's receive buffers: least, default, most; smaller on a machine whose bind hash is (2.6.12 tcp_init)."""
    if scenario.tcp.rmem is not None:
        return scenario.tcp.rmem
    if tcp_bind_hash_order(memory_pages(scenario)) < SMALL_BIND_HASH_ORDER:
        return [4096, 43_689, 2 * 43_689]
    default = GEOMETRIES[scenario.machine.geometry].tcp_rcvbuf
    return [4096, default, 2 * default]


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the scenario: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; a scenario is a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    at: Any = tree
    words = key.split(".")
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if isinstance(at, list):
            index = int(word) if word.isdigit() else -1
            if not 0 <= index <= len(at):
                raise UsageError(f"--set {key}: '{word}' is not an element from 0 to {len(at)}")
            if index == len(at):
                at.append({})
            if not following:
                at[index] = value
                return
            at = at[index]
            continue
        if not isinstance(at, dict):
            raise UsageError(f"--set {key}: '{word}' lies inside a value that is not a table")
        if not following:
            at[word] = value
            return
        at = at.setdefault(word, [{}] if following.isdigit() else {})


def _readable(message: str) -> str:
    found = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message, re.DOTALL)
    assert found is not None
    place = re.sub(r"\[(\d+)\]", r".\1", found[2] or "").strip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", found[1])
    if unknown:
        table = f"{place}." if place else ""
        return f"unknown key '{table}{unknown[1]}'; expected one of {', '.join(_keys(place))}"
    return f"{place or 'top level'}: {found[1]}"


def _keys(place: str) -> list[str]:
    """The keys of the table at a dotted place."""
    part: Any = Scenario
    for word in filter(None, place.split(".")):
        if word.isdigit():
            continue
        kind = next(field.type for field in msgspec.structs.fields(part) if field.name == word)
        part = next((table for table in Part.__subclasses__() if table.__name__ in repr(kind)), part)
    return list(part.__struct_fields__)


def _check(scenario: Scenario, origin: str) -> None:
    if scenario.machine.geometry not in GEOMETRIES:
        known = ", ".join(GEOMETRIES)
        raise UsageError(f"{origin}: machine.geometry: '{scenario.machine.geometry}' is not one of {known}")
    if scenario.policy.name not in POLICIES:
        known = ", ".join(POLICIES)
        raise UsageError(f"{origin}: policy.name: '{scenario.policy.name}' is not one of {known}")
    for rule, value in scenario.policy.rules.items():
        question = next((question for question in QUESTIONS if question.field == rule), None)
        if question is None:
            known = ", ".join(question.field for question in QUESTIONS)
            raise UsageError(f"{origin}: policy.rules.{rule}: unknown rule; the rules are {known}")
        top = len(question.answers) - 1 if question.answers else MAX_RING
        if not 0 <= value <= top:
            raise UsageError(f"{origin}: policy.rules.{rule}: {value} is not from 0 to {top}")
    pages = memory_pages(scenario)
    if not 8192 <= pages <= 1 << 24:
        raise UsageError(f"{origin}: machine.memory: {pages} pages; expected 32MiB to 64GiB")
    if len(scenario.device) > 1:
        raise UsageError(
            f"{origin}: device: {len(scenario.device)} devices, but a replay plays one capture on one device"
        )
    for device in scenario.device:
        held = background_skbs(scenario, device)
        if held > device.ring - RING_BUFFERS_LEFT:
            raise UsageError(
                f"{origin}: pressure.background_skbs: {held} leaves the NIC no buffer of {device.name}'s ring of "
                f"{device.ring}: at most {device.ring - RING_BUFFERS_LEFT}"
            )
    parse_flows(scenario.replay.memalloc, f"{origin}: replay.memalloc")
    parse_flows(scenario.replay.closed, f"{origin}: replay.closed")
    for number, socket in enumerate(scenario.socket):
        parse_flows(socket.match, f"{origin}: socket.{number}.match")


def _check_tcp(scenario: Scenario) -> Iterator[tuple[str, str]]:
    for name, limits in (("mem", scenario.tcp.mem), ("rmem", scenario.tcp.rmem)):
        if limits is not None and limits != sorted(limits):
            yield f"tcp.{name}", f"{limits} does not rise"


CHECKS: tuple[Callable[[Scenario], Iterable[tuple[str, str]]], ...] = (_check_tcp,)
