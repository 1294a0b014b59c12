"""Crafted traffic beside captures: floods that are made on the fly, aimed at the captures' host.

A flood begins with the first frame of the captures, or `start` later, and comes in at the device `device`; one without
`count` and `for` lasts until the captures end.  Where there is no capture, the floods are all there is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emu.capture.frames import FrameSource
from emu.capture.merge import MergedReader, Waiting, merged
from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.scenario import Scenario
from emu.scenario_parts import time_ns_of
from emu.tables import ANY_COUNT
from emu.traffic.crafted import START_NS, crafted_of
from emu.traffic.expression import parse_address
from emu.traffic.flood.kinds import Flood, Timed, flood_of, naming_within, recipe_text, split_flood
from emu.traffic.flood.source import Ends, open_flood
from emu.traffic.flood.values import parse_duration_ns, parse_mbps, parse_pps
from emu.traffic.host import NO_ADDRESS, Host, ends_met, hosts_by_device, mac_number, mac_text
from emu.traffic.inlets import device_table
from emu.verdicts.address import address_text

USUAL_FRAMES = 10_000  # of a flood that nobody and nothing ends
USUAL_FRAME_BYTES = 400  # to guess by
FRAMES_PER_WRITE, USUAL_WRITES = 4, 1000  # of a crafted session, to guess by


class Beside(NamedTuple):
    """A flood beside captures: how long after their first frame it starts, and on which device."""

    flood: Flood
    start_ns: int
    device: str

    @property
    def endless(self) -> bool:
        """Whether the captures' end is its own."""
        return is_endless(self.flood)


class Playing(NamedTuple):
    """A flood that is being played."""

    recipe: str
    asked: str
    device: str
    source: FrameSource
    iface: int  # its number among the interfaces of all


class Company(NamedTuple):
    """What is played: the captures and the floods in one, who the host is as far as the floods are aimed at it."""

    reader: FrameSource
    floods: tuple[Playing, ...] = ()
    hosts: Mapping[int, Host] = {}


def is_endless(flood: Flood) -> bool:
    """Whether neither `count` nor `for` ends it."""
    return isinstance(flood.options, Timed) and flood.options.count is None and flood.options.duration is None


def ended_after(flood: Flood, frames: int) -> Flood:
    """The flood with a `count`."""
    return flood_of(flood.kind, given_options(flood) | {"count": frames}, lambda key: f"{flood.kind}: {key}")


def expected_frames(flood: Flood) -> int:
    """About how many frames a flood will have, for the choice of an engine; ANY_COUNT: without end."""
    options = flood.options
    if not isinstance(options, Timed):
        return int(options.count or FRAMES_PER_WRITE * (options.writes or USUAL_WRITES))
    frames = options.count or ANY_COUNT
    if options.duration is not None:
        if options.mbps is None:
            per_second = max(parse_pps(options.pps))
        else:
            per_second = max(parse_mbps(options.mbps)) * 1_000_000 / (8 * USUAL_FRAME_BYTES)
        frames = min(frames, int(per_second * parse_duration_ns(options.duration) / 10**9) + 1)
    return frames


def given_options(flood: Flood) -> dict[str, Any]:
    """The options that the user gave, by their names."""
    options = flood.options
    fields = dict(zip(options.__struct_encode_fields__, options.__struct_fields__, strict=True))
    return {key: getattr(options, fields[key]) for key in flood.given}


def asked_rate(flood: Flood) -> str:
    """The rate that was asked for, in words."""
    options = flood.options
    if not isinstance(options, Timed):
        return f"{options.pps} writes/s" if options.pps else ""
    words = [f"{options.pps} pps" if options.mbps is None else f"{options.mbps} Mbit/s"]
    words += [f"within {options.ramp or options.duration}"] if ".." in words[0] else []
    words += ["Poisson"] if options.poisson else []
    words += [f"in bursts {options.burst}"] if options.burst else []
    return ", ".join(words)


def parse_beside(text: str, what: str, devices: Sequence[str]) -> Beside:
    """A flood as `--flood` takes it: `KIND:key=value,...` with `start` and `device` too.

    `what` names the origin, `devices` are those that there are.  Errors: UsageError.
    """
    kind, settings = split_flood(text, what)
    naming = naming_within(text, what)
    start, device = settings.pop("start", "0s"), settings.pop("device", devices[0])
    try:
        start_ns = time_ns_of(start)
    except ValueError as error:
        raise UsageError(f"{naming('start')}: {error}") from None
    if device not in devices:
        raise UsageError(f"{naming('device')}: '{device}' is not one of {', '.join(devices)}")
    return Beside(flood_of(kind, settings, naming), start_ns, device)


def besides_of(scenario: Scenario) -> list[Beside]:
    """The floods of a scenario, which has been checked."""
    devices = [device.name for device in scenario.device]
    return [parse_beside(text, "replay.flood", devices) for text in scenario.replay.flood]


def in_a_run(floods: Sequence[Beside], engine: Engine, devices: Sequence[str], start_ns: int, seed: int) -> Company:
    """Floods that last until the run ends; one without a seed of its own has the run's."""
    seeded = [each._replace(flood=_seeded(each.flood, seed)) for each in floods]
    sources = [_open(each, engine, devices, start_ns, Ends()) for each in seeded]
    return _company(merged(sources, engine), seeded, sources, {})


def _seeded(flood: Flood, seed: int) -> Flood:
    given = given_options(flood)
    return flood_of(flood.kind, {"seed": seed} | given, lambda key: f"{flood.kind}: {key}")


def alone(floods: Sequence[Beside], engine: Engine, devices: Sequence[str]) -> Company:
    """Floods without a capture, none of them endless."""
    assert not any(each.endless for each in floods)
    sources = [_open(each, engine, devices, START_NS, None) for each in floods]
    return _company(merged(sources, engine), floods, sources, {})


def beside(
    capture: FrameSource,
    floods: Sequence[Beside],
    engine: Engine,
    scenario: Scenario,
    asked_host: str | None,
) -> Company:
    """The captures (`capture`) and the floods that are aimed at their host; waits for the captures' first frames."""
    devices = [device.name for device in scenario.device]
    waiting = Waiting(capture, engine)
    count = waiting.fill_up()
    rows, octets = waiting.rows, capture.octets
    macs = [said.host_mac for said in crafted_of(capture.section_comments)]
    table = device_table(capture.interfaces, devices)
    hosts, which = hosts_by_device(rows, count, octets, table.__getitem__, asked_host, macs)
    start_ns = int(rows[0].file_time_ns) if count else START_NS
    ends: dict[str, Ends] = {}
    for each in floods:
        at = devices.index(each.device)
        if each.device not in ends:
            hosts[at], ends[each.device] = _aim(rows, which.get(at, []), octets, hosts.get(at), scenario)
    sources = [_open(each, engine, devices, start_ns, ends[each.device]) for each in floods]
    endless = [source for source, each in zip(sources, floods, strict=True) if each.endless]
    finite = [source for source, each in zip(sources, floods, strict=True) if not each.endless]
    mixed: FrameSource | Waiting = waiting
    if endless:
        mixed = MergedReader(mixed, merged(endless, engine), engine, until_one_ends=True)
    if finite:
        mixed = MergedReader(mixed, merged(finite, engine), engine)
    assert isinstance(mixed, MergedReader)
    return _company(mixed, floods, sources, hosts)


def _open(each: Beside, engine: Engine, devices: Sequence[str], start_ns: int, ends: Ends | None) -> FrameSource:
    device = devices.index(each.device)
    return open_flood(each.flood, engine, start_ns=start_ns + each.start_ns, device=device, ends=ends)


def _company(
    reader: FrameSource, floods: Sequence[Beside], sources: Sequence[FrameSource], hosts: Mapping[int, Host]
) -> Company:
    numbers = [reader.number_of(source, 0) if isinstance(reader, MergedReader) else 0 for source in sources]
    playing = [
        Playing(recipe_text(each.flood), asked_rate(each.flood), each.device, source, number)
        for each, source, number in zip(floods, sources, numbers, strict=True)
    ]
    return Company(reader, tuple(playing), hosts)


def _aim(rows: Any, which: Sequence[int], octets: Any, host: Host | None, scenario: Scenario) -> tuple[Host, Ends]:
    """Who the host of a device is for a flood, and at which addresses it is met.

    A host without a MAC (frames of no Ethernet, or no unicast frame) gets the usual one: the flood's frames have one.
    """
    if host is None:
        host = Host(0, False, "crafted traffic is for it")
    met = ends_met(rows, which, octets, host)
    ends = Ends()
    usual_mac = mac_number(ends.host_mac)
    own = [parse_address(text) for text in scenario.ip.local_addrs]
    host4, host6 = (
        next((address for address in own if address.family == family), address)
        for family, address in ((4, met.host4), (6, met.host6))
    )
    ends = ends._replace(host_mac=mac_text(host.mac or usual_mac))
    if met.peer_mac:
        ends = ends._replace(peer_mac=mac_text(met.peer_mac))
    if host4 != NO_ADDRESS:
        ends = ends._replace(host_ipv4=address_text(*host4))
    if host6 != NO_ADDRESS:
        ends = ends._replace(host_ipv6=address_text(*host6))
    return host._replace(mac=host.mac or usual_mac), ends
