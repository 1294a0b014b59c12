"""What a scenario of the closed loop must be beyond the types of its keys: (dotted key, sentence) for what is wrong."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from emu.errors import UsageError
from emu.kernel.closed_loop import MAX_AGES
from emu.kernel.machine import PAGE_SIZE
from emu.scenario import LOOP_TABLES, ReplayTable, Scenario, memory_pages, vlans_of
from emu.scenario_loop import HOST_ADDRESS, SessionTable
from emu.scenario_parts import bit_rate_of, byte_rate_of, size_bytes_of, time_ns_of
from emu.traffic.beside import parse_beside
from emu.traffic.expression import parse_address

BLOCK_BYTES = 512
MOST_WRITE_BYTES = 16 << 20  # WRITE(10) names its length in 16 bits of blocks
MOST_LENGTH_BYTES = 1 << 24  # of what RFC 7143 13.13 and 13.14 negotiate, in whole blocks
MOST_DATA_SEGMENT_BYTES = 262_144  # Wireshark takes more for damage (iscsi.bogus_pdu_max_data_len)
LEAST_SAMPLE_NS = 1_000
LEAST_WRITEBACK_NS = 10_000_000  # the sysctl counts in 1/100 s
HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
MOST_EXPIRE_NS = (MAX_AGES - 4) * 10**9  # the ages of dirty pages are told apart that far

Problems = Iterator[tuple[str, str]]


def _of(key: str, value: Any, parse: Callable[[Any], int], least: int, most: int, unit: str) -> Problems:
    """A number with a unit that parses and is within bounds."""
    try:
        number = parse(value)
    except ValueError as error:
        yield key, str(error)
        return
    if not least <= number <= most:
        yield key, f"'{value}' is {number} {unit}; expected {least} to {most}"


def _time(key: str, value: Any, least: int = 0, most: int = HOUR_NS) -> Problems:
    yield from _of(key, value, time_ns_of, least, most, "ns")


def _time_or_never(key: str, value: Any, least: int) -> Problems:
    """A time of at least so many ns, or 0 for never."""
    problems = list(_time(key, value))
    yield from problems
    if not problems and 0 < time_ns_of(value) < least:
        yield key, f"'{value}' is {time_ns_of(value)} ns; expected 0 for never, or {least} to {HOUR_NS}"


def _device(scenario: Scenario, key: str, name: str, vlans: bool = False) -> Problems:
    """The name of a NIC, or where they are welcome of an 802.1Q VLAN over one."""
    names = [device.name for device in scenario.device] + (list(vlans_of(scenario)) if vlans else [])
    if name and name not in names:
        yield key, f"'{name}' is not one of {', '.join(names)}"


def check_no_loop(scenario: Scenario) -> Problems:
    """A replay has no tables of the closed loop, and a run none of a replay's."""
    if not scenario.is_run:
        for table in LOOP_TABLES:
            if getattr(scenario, table):
                yield table, "belongs to a run of the closed loop: needs [run] or [[session]]"
        return
    replay, usual = scenario.replay, ReplayTable()
    for key, instead in (
        ("flood", "run.flood"),
        ("memalloc", "session.*.memalloc"),
        ("drain_ns", "run.for"),
    ):
        if getattr(replay, key) != getattr(usual, key):
            yield f"replay.{key}", f"is a replay's; a run has {instead}"


def check_run(scenario: Scenario) -> Problems:
    """How long, how often, and which floods."""
    run = scenario.run
    if run is None:
        return
    yield from _time("run.for", run.duration, 1, DAY_NS)
    yield from _time("run.sample", run.sample, LEAST_SAMPLE_NS)
    devices = [device.name for device in scenario.device]
    for number, text in enumerate(run.flood):
        try:
            parse_beside(text, "", devices)
        except UsageError as error:
            yield f"run.flood.{number}", str(error).strip()
    if scenario.ip.local_addrs and HOST_ADDRESS not in scenario.ip.local_addrs:
        yield "ip.local_addrs", f"{HOST_ADDRESS} is missing: the address of a run's host"


def check_vm(scenario: Scenario) -> Problems:
    """Ratios and times of dirty memory; what is held when play starts must fit."""
    vm = scenario.vm
    if vm is None:
        return
    yield from _time("vm.dirty_expire", vm.dirty_expire, 1, MOST_EXPIRE_NS)
    yield from _time_or_never("vm.dirty_writeback", vm.dirty_writeback, LEAST_WRITEBACK_NS)
    sizes = {key: getattr(vm, key) for key in ("anonymous", "clean")}
    problems = [each for key in sizes for each in _of(f"vm.{key}", sizes[key], size_bytes_of, 0, 1 << 40, "bytes")]
    yield from problems
    if problems:
        return
    held = sum(map(size_bytes_of, sizes.values()))
    with suppress(ValueError):  # which the check of the machine tells
        most = memory_pages(scenario) * PAGE_SIZE
        if held > most > 0:
            yield "vm", f"anonymous and clean are {held} bytes; the machine has {most}"


def check_writers(scenario: Scenario) -> Problems:
    """Writers have somewhere to write to, and stop after they start."""
    for number, writer in enumerate(scenario.writer):
        place = f"writer.{number}"
        yield from _of(f"{place}.rate", writer.rate, byte_rate_of, 0, 1 << 40, "B/s")
        yield from _time(f"{place}.start", writer.start, 0, DAY_NS)
        if writer.stop != "":
            yield from _time(f"{place}.stop", writer.stop, 0, DAY_NS)
            with suppress(ValueError):  # which is told above
                if time_ns_of(writer.stop) <= time_ns_of(writer.start):
                    yield f"{place}.stop", f"'{writer.stop}' is not after its start '{writer.start}'"
        if scenario.is_run and not scenario.session:
            yield place, "has no block device to write to: needs a [[session]]"


def check_sessions(scenario: Scenario) -> Problems:
    """What is negotiated can be, and the numbers are numbers."""
    for number, session in enumerate(scenario.session):
        place = f"session.{number}"
        yield from _device(scenario, f"{place}.device", session.device, vlans=True)
        yield from _peer(f"{place}.target", session.target)
        yield from _bytes(session, place, "write_size", PAGE_SIZE, MOST_WRITE_BYTES)
        yield from _bytes(session, place, "max_recv", BLOCK_BYTES, MOST_DATA_SEGMENT_BYTES)
        bursts = [
            *_bytes(session, place, "first_burst", BLOCK_BYTES, MOST_LENGTH_BYTES - BLOCK_BYTES),
            *_bytes(session, place, "max_burst", BLOCK_BYTES, MOST_LENGTH_BYTES - BLOCK_BYTES),
        ]
        yield from bursts
        if not bursts and size_bytes_of(session.first_burst) > size_bytes_of(session.max_burst):
            yield f"{place}.first_burst", "is more than max_burst (RFC 7143 13.14)"
        yield from _time(f"{place}.service", session.service)
        yield from _time(f"{place}.nop_interval", session.nop_interval)
        yield from _time(f"{place}.nop_timeout", session.nop_timeout, 1)


def _bytes(session: SessionTable, place: str, key: str, unit: int, most: int) -> Problems:
    """A size in whole units of bytes: pages, or blocks."""
    value = getattr(session, key)
    problems = list(_of(f"{place}.{key}", value, size_bytes_of, unit, most, "bytes"))
    yield from problems
    if not problems and size_bytes_of(value) % unit:
        yield f"{place}.{key}", f"'{value}' is not a multiple of {unit} bytes"


def _peer(key: str, text: str) -> Problems:
    try:
        address = parse_address(text)
    except ValueError:
        yield key, f"'{text}' is not an IPv4 address"
        return
    first = address.lo >> 24
    if address.family != 4 or not 1 <= first < 224:
        yield key, f"'{text}' is not the IPv4 address of one host"
    elif text == HOST_ADDRESS:
        yield key, f"'{text}' is the emulated host's own address"


def check_downloads(scenario: Scenario) -> Problems:
    """Servers are hosts, and each address is on one device."""
    for number, download in enumerate(scenario.download):
        place = f"download.{number}"
        yield from _device(scenario, f"{place}.device", download.device, vlans=True)
        yield from _peer(f"{place}.server", download.server)
        yield from _time(f"{place}.start", download.start, 0, DAY_NS)
        yield from _of(f"{place}.bytes", download.bytes, size_bytes_of, 0, 1 << 40, "bytes")
        if download.rate is not None and download.reader != "rate":
            yield f"{place}.rate", f"needs reader = 'rate', found '{download.reader}'"
    first = scenario.device[0].name
    met: dict[str, str] = {}
    peers = [(f"session.{n}.target", each.target, each.device) for n, each in enumerate(scenario.session)]
    peers += [(f"download.{n}.server", each.server, each.device) for n, each in enumerate(scenario.download)]
    for key, address, device in peers:
        where = met.setdefault(address, device or first)
        if where != (device or first):
            yield key, f"{address} is on {where} already; a peer is on one device"


def check_wires(scenario: Scenario) -> Problems:
    """A device has one wire, and a blackout lasts."""
    first = scenario.device[0].name
    met: list[str] = []
    for number, wire in enumerate(scenario.wire):
        place = f"wire.{number}"
        yield from _device(scenario, f"{place}.device", wire.device)
        yield from _time(f"{place}.latency", wire.latency)
        yield from _of(f"{place}.rate", wire.rate, bit_rate_of, 1, 1 << 40, "bit/s")
        name = wire.device or first
        if name in met:
            yield f"{place}.device", f"{name} has a wire already"
        met.append(name)
    for number, blackout in enumerate(scenario.blackout):
        place = f"blackout.{number}"
        yield from _device(scenario, f"{place}.device", blackout.device)
        yield from _time(f"{place}.start", blackout.start, 0, DAY_NS)
        yield from _time(f"{place}.for", blackout.duration, 1, DAY_NS)


LOOP_CHECKS: Sequence[Callable[[Scenario], Iterable[tuple[str, str]]]] = (
    check_no_loop,
    check_run,
    check_vm,
    check_writers,
    check_sessions,
    check_downloads,
    check_wires,
)
