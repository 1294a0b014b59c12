"""What a scenario must be beyond the types of its keys: each check yields (dotted key, sentence) for what is wrong."""

from collections.abc import Callable, Iterable, Iterator

from emu.as_posted import parse_as_posted
from emu.errors import UsageError
from emu.kernel.machine import (
    MAX_BACKLOG,
    MAX_DEVICES,
    MAX_RING,
    MAX_RULES,
)
from emu.kernel.policy import POLICIES, QUESTIONS
from emu.kernel.sock import IPPROTO_UDP
from emu.scenario import (
    DRIVER_RINGS,
    GEOMETRIES,
    RING_BUFFERS_LEFT,
    Scenario,
    background_skbs,
    driver_of,
    max_backlog,
    memory_pages,
    readers_of,
    ring_of,
)
from emu.scenario_loop_checks import LOOP_CHECKS
from emu.scenario_parts import time_ns_of
from emu.traffic.beside import parse_beside
from emu.traffic.expression import FlowTerm, parse_address, parse_flows
from emu.verdicts.expect import EVERY_POLICY, expectation_text, parse_expectation


def _check_machine(scenario: Scenario) -> Iterator[tuple[str, str]]:
    if scenario.machine.geometry not in GEOMETRIES:
        yield "machine.geometry", f"'{scenario.machine.geometry}' is not one of {', '.join(GEOMETRIES)}"
    try:
        pages = memory_pages(scenario)
    except ValueError as error:
        yield "machine.memory", str(error)
        return
    if not 8192 <= pages <= 1 << 24:
        yield "machine.memory", f"{pages} pages; expected 32MiB to 64GiB"


def _check_policy(scenario: Scenario) -> Iterator[tuple[str, str]]:
    if scenario.policy.name not in POLICIES:
        yield "policy.name", f"'{scenario.policy.name}' is not one of {', '.join(POLICIES)}"
    for rule, value in scenario.policy.rules.items():
        question = next((question for question in QUESTIONS if question.field == rule), None)
        if question is None:
            known = ", ".join(question.field for question in QUESTIONS)
            yield f"policy.rules.{rule}", f"unknown rule; the rules are {known}"
            continue
        top = len(question.answers) - 1 if question.answers else MAX_RING
        if not 0 <= value <= top:
            yield f"policy.rules.{rule}", f"{value} is not from 0 to {top}"


def _check_devices(scenario: Scenario) -> Iterator[tuple[str, str]]:
    names = [device.name for device in scenario.device]
    for number, device in enumerate(scenario.device):
        if device.name in names[:number]:
            yield f"device.{number}.name", f"'{device.name}' is the name of device {names.index(device.name)} already"
        held = background_skbs(scenario, device)
        ring = ring_of(scenario, device)
        if held > ring - RING_BUFFERS_LEFT:
            most = ring - RING_BUFFERS_LEFT
            no_buffer = f"{held} leaves the NIC no buffer of {device.name}'s ring of {ring}: at most {most}"
            yield "pressure.background_skbs", no_buffer


def _check_real_readers(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Only sockets of a live host have real readers: not packet taps, raw sockets, nor anything of a closed loop."""
    nobodys = "has no real reader; expected immediate, rate, needs-memory or never"
    for table, sockets in (("tap", scenario.tap), ("raw", scenario.raw)):
        for number, socket in enumerate(sockets):
            if (socket.reader or scenario.readers.ordinary) == "real":
                yield f"{table}.{number}.reader", nobodys
    if scenario.is_run:
        for key, reader in readers_of(scenario).items():
            if reader == "real":
                yield key, nobodys
    for number, download in enumerate(scenario.download):
        if download.reader == "real":
            yield f"download.{number}.reader", nobodys


def _check_flows(scenario: Scenario) -> Iterator[tuple[str, str]]:
    rules = 0
    expressions = [("replay.memalloc", scenario.replay.memalloc), ("replay.closed", scenario.replay.closed)]
    expressions += [(f"socket.{number}.match", socket.match) for number, socket in enumerate(scenario.socket)]
    for key, expression in expressions:
        try:
            rules += len(parse_flows(expression, ""))
        except UsageError as error:
            yield key, str(error).strip()
    if rules > MAX_RULES:
        yield "socket", f"replay.memalloc, replay.closed and socket.*.match name {rules} flows; at most {MAX_RULES}"


def _check_floods(scenario: Scenario) -> Iterator[tuple[str, str]]:
    devices = [device.name for device in scenario.device]
    for number, text in enumerate(scenario.replay.flood):
        try:
            parse_beside(text, "", devices)
        except UsageError as error:
            yield f"replay.flood.{number}", str(error).strip()


def _check_expectations(scenario: Scenario) -> Iterator[tuple[str, str]]:
    expected = scenario.expect
    if isinstance(expected, dict):
        for policy in expected:
            if policy != EVERY_POLICY and policy not in POLICIES:
                yield f"expect.{policy}", f"'{policy}' is not one of {EVERY_POLICY}, {', '.join(POLICIES)}"
        texts = [
            (f"expect.{policy}", expectation_text(path, value))
            for policy, table in expected.items()
            for path, value in table.items()
        ]
    else:
        texts = [(f"expect.{number}", text) for number, text in enumerate(expected)]
    for key, text in texts:
        try:
            parse_expectation(text)
        except UsageError as error:
            yield key, str(error).removeprefix("--expect ")


def _check_zones(scenario: Scenario) -> Iterator[tuple[str, str]]:
    names = [zone.name for zone in scenario.zone]
    for at, zone in enumerate(scenario.zone):
        if zone.name in names[:at]:
            yield f"zone.{at}.name", f"'{zone.name}' is there already"
        marks = [mark for mark in (zone.min_pages, zone.low_pages, zone.high_pages) if mark is not None]
        if marks != sorted(marks):
            yield f"zone.{at}", f"min, low and high are {', '.join(map(str, marks))} pages; expected them to rise"
        for key in ("free_pages", "min_pages"):
            pages = getattr(zone, key)
            if pages is not None and zone.present_pages is not None and pages > zone.present_pages:
                yield f"zone.{at}.{key}", f"{pages} is more than the {zone.present_pages} pages of the zone"


def _flows_of(expression: str) -> tuple[FlowTerm, ...]:
    """The flows of an expression; none of one that `_check_flows` objects to."""
    try:
        return parse_flows(expression, "")
    except UsageError:
        return ()


def _check_ip(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Addresses are addresses, and thresholds are in order."""
    for at, text in enumerate(scenario.ip.local_addrs):
        try:
            parse_address(text)
        except ValueError:
            yield f"ip.local_addrs.{at}", f"'{text}' is not an IPv4 or IPv6 address"
    for name in ("ipfrag", "ip6frag"):
        low = getattr(scenario.ip, f"{name}_low_thresh_bytes")
        high = getattr(scenario.ip, f"{name}_high_thresh_bytes")
        if low > high:
            yield f"ip.{name}_low_thresh_bytes", f"{low} is above {name}_high_thresh_bytes {high}"


def _check_taps(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """A tap is on a device that there is."""
    names = [device.name for device in scenario.device]
    for at, tap in enumerate(scenario.tap):
        if tap.device and tap.device not in names:
            yield f"tap.{at}.device", f"'{tap.device}' is not one of {', '.join(names)}"


def _check_members(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Sockets that share a port are UDP's, on one port."""
    for at, socket in enumerate(scenario.socket):
        if socket.members is None:
            continue
        if socket.local_port == 0:
            yield f"socket.{at}.members", "needs local_port: the port that the sockets share"
        if any(term.protocol != IPPROTO_UDP for term in _flows_of(socket.match)):
            yield f"socket.{at}.members", "only UDP sockets share a port; match must say udp"


def _check_drivers(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Each driver's ring, MTU and way to be polled."""
    for number, device in enumerate(scenario.device):
        limits, ring = DRIVER_RINGS[driver_of(scenario, device)], ring_of(scenario, device)
        if not limits.least <= ring <= limits.most or ring % limits.step:
            steps = f" in steps of {limits.step}" if limits.step > 1 else ""
            yield (
                f"device.{number}.ring",
                f"{ring} descriptors; {driver_of(scenario, device)} has {limits.least} to {limits.most}{steps}",
            )
        yield from _mtu_fits(f"device.{number}.mtu", driver_of(scenario, device), device.mtu)
        if not device.napi and driver_of(scenario, device) not in ("e1000", "e1000-ps"):
            yield f"device.{number}.napi", f"{driver_of(scenario, device)} is always polled; only e1000 can do without"
        if not device.napi and max_backlog(scenario) >= MAX_BACKLOG:
            most = MAX_BACKLOG - 1
            yield (
                "machine.netdev_max_backlog",
                f"{max_backlog(scenario)}; at most {most} with a device without NAPI ({device.name})",
            )


def _mtu_fits(key: str, driver: str, mtu: int) -> Iterator[tuple[str, str]]:
    most = DRIVER_RINGS[driver].most_mtu
    if not 68 <= mtu <= most:
        yield key, f"{mtu}; {driver} takes an MTU of 68 to {most}"


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
            yield from _mtu_fits(f"{place}.value", driver_of(scenario, devices[entry.device]), entry.value or 0)
        elif entry.action == "min_free_kbytes" and (entry.value or 0) < 0:
            yield f"{place}.value", f"{entry.value}; min_free_kbytes is 0 or more"


def _check_free_blocks(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Free blocks lie as said in a crunch only: a quiet machine is free in its largest blocks."""
    if scenario.pressure.free_blocks is not None and scenario.pressure.start == "quiet":
        yield "pressure.free_blocks", "needs start = 'crunch': a quiet machine has all its memory free"


def _check_as_posted(scenario: Scenario) -> Iterator[tuple[str, str]]:
    if scenario.policy.name in POLICIES:
        try:
            parse_as_posted(scenario.policy.as_posted, scenario.policy.name)
        except UsageError as error:
            yield "policy.as_posted", str(error)


def _check_tcp(scenario: Scenario) -> Iterator[tuple[str, str]]:
    for name, limits in (("mem", scenario.tcp.mem), ("rmem", scenario.tcp.rmem)):
        if limits is not None and limits != sorted(limits):
            yield f"tcp.{name}", f"{limits} does not rise"


CHECKS: tuple[Callable[[Scenario], Iterable[tuple[str, str]]], ...] = (
    _check_machine,
    _check_zones,
    _check_policy,
    _check_as_posted,
    _check_devices,
    _check_drivers,
    _check_uppers,
    _check_plan,
    _check_free_blocks,
    _check_real_readers,
    _check_flows,
    _check_floods,
    _check_ip,
    _check_tcp,
    _check_taps,
    _check_members,
    _check_expectations,
    *LOOP_CHECKS,
)
