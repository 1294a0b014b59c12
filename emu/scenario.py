"""The experiment as data: machine, policy, devices, sockets, pressure, what to expect.

A scenario is a TOML file, checked against `Scenario` (schema 1): an unknown key is an error that names it.  What the
file leaves out has the default written here, which is the default crunch of a replay.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from emu.errors import UsageError
from emu.kernel.e1000 import E1000_RXBUFFER_256
from emu.kernel.machine import MAX_BACKLOG, MAX_DEVICES, MAX_ORDER, MAX_PLAN, MAX_RING, MAX_RULES, PAGE_SIZE
from emu.kernel.netdevice import PS_PAGE_BUFFERS
from emu.kernel.policy import DEFAULT_POLICY, POLICIES, QUESTIONS
from emu.kernel.replace import CP_MAX_MTU, CP_RX_RING_SIZE, CP_WEIGHT, TG3_RX_RING_MAX, TG3_RX_RING_PENDING
from emu.kernel.sock import READERS
from emu.traffic.arrivals import OFFLOADS
from emu.traffic.expression import parse_flows
from emu.wire.headers import CHECKSUMS

SCHEMA = 1
RING_BUFFERS_LEFT = 32  # what the background leaves in the ring: the driver shows the NIC one step of 16 of them

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


class DriverRing(NamedTuple):
    """A driver's receive ring: its usual size, its bounds and steps, and how many packets one poll takes at most."""

    usual: int
    least: int
    most: int
    step: int
    weight: int
    most_mtu: int


DRIVER_RINGS = {
    "e1000": DriverRing(256, 80, MAX_RING, 16, 64, 16_110),
    "e1000-ps": DriverRing(256, 80, MAX_RING, 16, 64, PS_PAGE_BUFFERS * PAGE_SIZE + E1000_RXBUFFER_256 - 1),
    "8139cp": DriverRing(CP_RX_RING_SIZE, CP_RX_RING_SIZE, CP_RX_RING_SIZE, 1, CP_WEIGHT, CP_MAX_MTU),
    "tg3": DriverRing(TG3_RX_RING_PENDING, 1, TG3_RX_RING_MAX, 1, 64, 1500),
    "e1000e": DriverRing(256, 80, MAX_RING, 16, 64, 16_110),
}


class DeviceTable(Part, frozen=True):
    """A network device."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9._]{0,14}$")] = "eth0"
    driver: Literal["e1000", "e1000-ps", "8139cp", "tg3", "e1000e"] = "e1000"
    napi: bool = True
    promisc: bool = False
    mtu: Annotated[int, Meta(ge=68, le=16_110)] = 1500
    ring: Annotated[int, Meta(ge=1, le=MAX_RING)] | None = None
    weight: Annotated[int, Meta(ge=1, le=4096)] | None = None
    rx_reserve: Annotated[int, Meta(ge=0, le=MAX_RING)] | None = None


class UpperTable(Part, frozen=True):
    """A device over devices that stand before it; only a VLAN has an id."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9._]{0,14}$")]
    kind: Literal["vlan", "bond", "bridge"]
    lower: Annotated[list[str], Meta(min_length=1, max_length=MAX_DEVICES)]
    vlan_id: Annotated[int, Meta(ge=0, le=4094)] | None = None
    vlan_protocol: Literal["802.1q", "802.1ad"] = "802.1q"
    promisc: bool = False


class AtTable(Part, frozen=True):
    """Something that happens at a time after the first frame: an interface down, up or with another MTU, a sysctl, or
    pages of the normal zone that others take (negative: give back)."""

    time: str | Annotated[int, Meta(ge=0, le=1 << 60)]
    action: Literal["down", "up", "mtu", "min_free_kbytes", "pages"]
    device: str | None = None
    value: Annotated[int, Meta(ge=-(1 << 24), le=1 << 24)] | None = None


class PressureTable(Part, frozen=True):
    """Who else wants memory when play starts; writers are blocked in a crunch, and there are none in a quiet.

    `memalloc_socket`: a SOCK_MEMALLOC socket that the capture does not show is open already (mainline's static key).
    """

    start: Literal["crunch", "quiet"] = "crunch"
    free_pages_above_floor: Count = 0
    free_blocks: Annotated[list[Annotated[int, Meta(ge=0, le=1 << 24)]], Meta(max_length=MAX_ORDER)] | None = None
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
    vlans: Literal["infer", "listed"] = "infer"
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
    upper: Annotated[list[UpperTable], Meta(max_length=MAX_DEVICES - 1)] = []
    at: Annotated[list[AtTable], Meta(max_length=MAX_PLAN)] = []
    pressure: PressureTable = PressureTable()
    readers: ReadersTable = ReadersTable()
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


def ring_of(device: DeviceTable) -> int:
    """How many receive descriptors a device has: as said, else its driver's default."""
    return DRIVER_RINGS[device.driver].usual if device.ring is None else device.ring


def weight_of(device: DeviceTable) -> int:
    """How many packets one poll of a device takes at most: as said, else its driver's default."""
    return DRIVER_RINGS[device.driver].weight if device.weight is None else device.weight


def time_ns_of(time: str | int) -> int:
    """A time after the first frame, in ns; a bare number is ns.  Errors: ValueError."""
    if isinstance(time, int):
        return time
    found = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?\s*(ns|us|ms|s|min|h)", time)
    if not found:
        raise ValueError(f"'{time}': expected a time such as '1.5s' or '200ms'")
    unit = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}[found[3]]
    part = found[2] or "0"
    return int(found[1]) * unit + int(part) * unit // int(10 ** len(part))


def background_skbs(scenario: Scenario, device: DeviceTable) -> int:
    """How many of a device's ring buffers sockets outside the capture hold when play starts."""
    asked = scenario.pressure.background_skbs
    return ring_of(device) - RING_BUFFERS_LEFT if asked is None else asked


def writers(scenario: Scenario) -> str:
    """Whether blocked writers take what appears above pages_min."""
    return scenario.pressure.writers or ("blocked" if scenario.pressure.start == "crunch" else "none")


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
        ring = ring_of(device)
        held = background_skbs(scenario, device)
        if held > ring - RING_BUFFERS_LEFT:
            raise UsageError(
                f"{origin}: pressure.background_skbs: {held} leaves the NIC no buffer of {device.name}'s ring of "
                f"{ring}: at most {ring - RING_BUFFERS_LEFT}"
            )
    parse_flows(scenario.replay.memalloc, f"{origin}: replay.memalloc")
    parse_flows(scenario.replay.closed, f"{origin}: replay.closed")
    for number, socket in enumerate(scenario.socket):
        parse_flows(socket.match, f"{origin}: socket.{number}.match")


def _check_drivers(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Each driver's ring, MTU and way to be polled."""
    for number, device in enumerate(scenario.device):
        limits, ring = DRIVER_RINGS[device.driver], ring_of(device)
        if not limits.least <= ring <= limits.most or ring % limits.step:
            steps = f" in steps of {limits.step}" if limits.step > 1 else ""
            yield (
                f"device.{number}.ring",
                f"{ring} descriptors; {device.driver} has {limits.least} to {limits.most}{steps}",
            )
        yield from _mtu_fits(f"device.{number}.mtu", device, device.mtu)
        if not device.napi and not device.driver.startswith("e1000"):
            yield f"device.{number}.napi", f"{device.driver} is always polled; only e1000 can do without NAPI"
        if not device.napi and scenario.machine.netdev_max_backlog >= MAX_BACKLOG:
            most = MAX_BACKLOG - 1
            yield (
                "machine.netdev_max_backlog",
                f"{scenario.machine.netdev_max_backlog}; at most {most} with a device without NAPI ({device.name})",
            )


def _mtu_fits(key: str, device: DeviceTable, mtu: int) -> Iterator[tuple[str, str]]:
    most = DRIVER_RINGS[device.driver].most_mtu
    if not 68 <= mtu <= most:
        yield key, f"{mtu}; {device.driver} takes an MTU of 68 to {most}"


def _check_uppers(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Upper devices lie over devices that stand before them, each of which has one master or bridge at most."""
    known = [device.name for device in scenario.device]
    taken: set[str] = set()
    if len(scenario.device) + len(scenario.upper) > MAX_DEVICES:
        yield "upper", f"{len(known) + len(scenario.upper)} devices in all; at most {MAX_DEVICES}"
    for number, upper in enumerate(scenario.upper):
        place = f"upper.{number}"
        for name in upper.lower:
            if name not in known:
                yield f"{place}.lower", f"'{name}' is no device that stands before {upper.name}"
            if upper.kind != "vlan" and name in taken:
                yield f"{place}.lower", f"'{name}' is in a bond or bridge already"
        if upper.kind != "vlan":
            taken.update(upper.lower)
        if (upper.kind == "vlan") != (upper.vlan_id is not None):
            yield f"{place}.vlan_id", "needed for a VLAN, and only there"
        if upper.kind == "vlan" and len(upper.lower) != 1:
            yield f"{place}.lower", "a VLAN lies over one device"
        if upper.name in known:
            yield f"{place}.name", f"there is another device '{upper.name}'"
        known.append(upper.name)


def _check_plan(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Each entry of the timeline has the device or the value that its action needs."""
    devices = {device.name: device for device in scenario.device}
    for number, entry in enumerate(scenario.at):
        place = f"at.{number}"
        try:
            time_ns_of(entry.time)
        except ValueError as error:
            yield f"{place}.time", str(error)
        of_device, valued = entry.action in ("down", "up", "mtu"), entry.action in ("mtu", "min_free_kbytes", "pages")
        if of_device and entry.device not in devices:
            yield f"{place}.device", f"'{entry.device}' is not one of {', '.join(devices)}"
        elif not of_device and entry.device is not None:
            yield f"{place}.device", f"'{entry.action}' has no device"
        if valued != (entry.value is not None):
            yield f"{place}.value", f"'{entry.action}' {'needs' if valued else 'has no'} value"
        elif entry.action == "mtu" and entry.device in devices:
            yield from _mtu_fits(f"{place}.value", devices[entry.device], entry.value or 0)
        elif entry.action == "min_free_kbytes" and (entry.value or 0) < 0:
            yield f"{place}.value", f"{entry.value}; min_free_kbytes is 0 or more"


def _check_free_blocks(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Free blocks lie as said in a crunch only: a quiet machine is free in its largest blocks."""
    if scenario.pressure.free_blocks is not None and scenario.pressure.start == "quiet":
        yield "pressure.free_blocks", "needs start = 'crunch': a quiet machine has all its memory free"


CHECKS: tuple[Callable[[Scenario], Iterable[tuple[str, str]]], ...] = (
    _check_drivers,
    _check_uppers,
    _check_plan,
    _check_free_blocks,
)
