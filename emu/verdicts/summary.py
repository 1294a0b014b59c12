"""The summary of a run: one object for `--json`, for expectations and for the screen."""

from typing import Any

from msgspec import structs

from emu.kernel.drop_reason import POINTS, REASONS
from emu.kernel.iscsi_write_back import responses_lost
from emu.kernel.machine import VLAN_ANY, ZONES, Counters
from emu.kernel.policy import RX_NEVER
from emu.kernel.record import fields_of
from emu.kernel.vlan import ETH_P_8021Q, VLAN_VID_MASK
from emu.machine_of import crafted_sockets
from emu.scenario import Scenario, background_skbs, memory_pages, notes_on_geometry, readers_of, ring_of, writers
from emu.tables import shown
from emu.task import Outcome
from emu.traffic.host import Host, mac_text
from emu.traffic.pace import PACE_CAPTURED
from emu.traffic.tally import Totals
from emu.verdicts.address import address_text

SUMMARY_VERSION = 1

OPEN_LOOP = (
    "replay is open loop: packets come whatever happens, windows are not obeyed, and a hole that a drop of ours leaves "
    "counts as filled"
)

COMES_AGAIN = (
    "replay is open loop: packets come whatever happens, and windows are not obeyed; what was dropped of memalloc "
    "flows comes again after 200 ms, then doubling (no fast retransmit), and of other flows counts as received"
)

REAL_PEERS = (
    "the peers are real: what is dropped is lost, and they send it again; what the real host sends leaves, however "
    "little emulated memory there is"
)

REAL_READERS = (
    "real readers cannot be blocked: their programs read when they like, however short of memory the emulated machine "
    "is (those of emu live demo ask first)"
)

# How the host's own tools spell the counters whose name here carries a prefix.
TOOL_NAMES = {"TcpExtPFMemallocDrop": "PFMemallocDrop"}


def summarise(outcome: Outcome) -> dict[str, Any]:
    """The summary of a replay; everything but `run` depends on the input, the scenario and the version alone."""
    m, scenario = outcome.machine, outcome.task.scenario
    total = m.total
    return {
        "emu_summary": SUMMARY_VERSION,
        "capture": outcome.task.name,
        "policy": scenario.policy.name,
        "scenario_sha256": scenario.digest(),
        "frames": int(total.frames),
        "filtered": int(total.filtered),
        "received": int(total.received),
        "not_received": int(total.not_received),
        "not_played": int(total.not_played),
        **verdict_facts(m, outcome.oops_frame),
        "retransmitted": _retransmitted(m),
        "floods": [flood_facts(flood.recipe, flood.asked, totals, flood.device) for flood, totals in outcome.floods],
        "crafted_sockets": _crafted(outcome),
        "devices": {device.name: device_facts(m, d) for d, device in enumerate(scenario.device)},
        "upper_devices": upper_devices(m, scenario),
        "memory": memory_facts(m),
        "iscsi": _iscsi(m),
        "sockets": socket_facts(m),
        "counters": counters_of(m),
        "duration_ns": int(outcome.feed.last_time_ns) - outcome.first_ns if int(total.frames) else 0,
        "host": _host(outcome.host),
        "hosts": {scenario.device[d].name: _host(host) for d, host in sorted(outcome.hosts.items())},
        "input": _input(outcome),
        "rewritten": outcome.rewritten._asdict() if outcome.rewritten else None,
        "inputs": [{"device": given.device or None, "capture": given.name} for given in outcome.task.inputs],
        "findings": findings(outcome),
        "assumptions": assumptions(outcome),
        "incomplete": outcome.incomplete,
        "run": _run(outcome),
    }


def flood_facts(recipe: str, asked: str, totals: Totals, device: str | None = None) -> dict[str, Any]:
    """What a flood was to be and what it was; sizes are bytes without FCS, rates are over the time of its frames."""
    return {
        "recipe": recipe,
        "device": device,
        "frames": totals.frames,
        "bytes": totals.octets,
        "smallest_bytes": totals.least,
        "largest_bytes": totals.most,
        "mean_bytes": round(totals.octets / totals.frames, 3) if totals.frames else 0.0,
        "start_ns": totals.first_ns,
        "duration_ns": totals.last_ns - totals.first_ns,
        "asked": asked,
        "achieved_pps": totals.milli_pps / 1000,
        "achieved_mbps": totals.bits_per_second / 1_000_000,
    }


def _crafted(outcome: Outcome) -> list[dict[str, Any]]:
    """The sockets that crafted traffic speaks of and nobody else."""
    return [
        {"recipe": traffic.recipe} | structs.asdict(socket)
        for traffic, socket in crafted_sockets(outcome.task.scenario, outcome.crafted)
    ]


def _said_by_crafted(outcome: Outcome) -> list[str]:
    said = []
    for row in _crafted(outcome):
        port = f" at local port {row['local_port']}" if row["local_port"] else ""
        words = [word for word in ("memalloc", "closed") if row[word]]
        said.append(
            f"{shown(row['match'])}{port} is {' and '.join(words)}: crafted traffic says so ({shown(row['recipe'])})"
        )
    return said


def _host(host: Host) -> dict[str, str]:
    """Who the host is on a device: its MAC, or its address where frames have no MAC; empty: nobody knows."""
    family, high, low = host.address
    address = "" if not family else address_text(family, high, low)
    return {"mac": mac_text(host.mac) if host.mac else "", "address": address, "because": host.because}


def _said_of_hosts(outcome: Outcome) -> list[str]:
    known = {outcome.task.scenario.device[d].name: _host(host) for d, host in sorted(outcome.hosts.items())}
    return [
        f"the host{f' on {name}' if len(known) > 1 else ''} is {host['mac'] or host['address'] or 'unknown'}: "
        f"{host['because']}"
        for name, host in known.items()
    ]


def by_reason(by_number: Any) -> dict[str, int]:
    """Counts by the names of reasons; those that did not occur are left out."""
    counts = {reason.name: int(by_number[reason.number]) for reason in REASONS if reason.name}
    return {name: count for name, count in counts.items() if count}


def verdict_facts(m: Any, oops_frame: int) -> dict[str, Any]:
    """What became of the packets, all together and by what block I/O has to do with them."""
    total = m.total
    return {
        "delivered": int(total.delivered),
        "dropped": int(total.dropped),
        "in_flight": int(total.in_flight),
        "oops": int(total.oops),
        "oops_bug": oops_facts(m, oops_frame),
        "drops_by_reason": by_reason(total.drops_by_reason),
        "events_by_reason": by_reason(total.events_by_reason),
        "memalloc": fates_of(total.memalloc),
        "other": fates_of(total.other),
    }


def oops_facts(m: Any, oops_frame: int) -> dict[str, Any] | None:
    """What killed the kernel; `frame`: the last one that had arrived, 0: it died while booting."""
    if not int(m.oops):
        return None
    return {
        "bug": int(m.oops),
        "point": POINTS[int(m.oops_point)],
        "time_ns": int(m.oops_ns),
        "frame": oops_frame,
    }


def fates_of(fates: Any) -> dict[str, int]:
    """What became of the packets of some flows."""
    return {name: int(getattr(fates, name)) for name in ("received", "delivered", "dropped")}


def _retransmitted(m: Any) -> dict[str, int] | None:
    """Segments that came again, as often as they came; `waiting` are still to come.  None where none may."""
    if not int(m.config.retransmit):
        return None
    again = m.total.again
    counts = {"arrivals": int(again.received), "delivered": int(again.delivered), "dropped": int(again.dropped)}
    return counts | {"waiting": int(m.agains)}


def device_facts(m: Any, d: int) -> dict[str, int]:
    """A NIC in numbers."""
    dev = m.dev[d]
    return {
        "rx_packets": int(dev.rx_packets),
        "rx_bytes": int(dev.rx_bytes),
        "rx_missed": int(dev.rx_missed),
        "rx_missed_ring_dry": int(dev.rx_missed_frames_dry),
        "rx_missed_errors": int(dev.rx_missed),
        "rx_length_errors": int(dev.rx_length_errors),
        "rx_dropped": int(dev.rx_dropped),
        "alloc_rx_buff_failed": int(dev.alloc_rx_buff_failed),
        "reserve_allocations": int(dev.reserve_allocations),
        "rx_reserve_cap": int(dev.rx_reserve) if m.policy.caps_reserve else 0,
        "rx_reserve_used": int(dev.rx_reserve_used),
        "rx_reserve_used_max": int(dev.rx_reserve_used_max),
        "memalloc_pages": int(dev.memalloc_pages),
        "ring_size": int(dev.ring_size),
        "ring_free_min": int(dev.ring_free_min),
        "polls": int(dev.polls),
    }


def netdev_names(m: Any, scenario: Scenario) -> list[str]:
    """The names of all devices by their row; an inferred VLAN is named after the device below it."""
    names = [device.name for device in scenario.device] + [upper.name for upper in scenario.upper]
    for d in range(len(names), int(m.netdevs)):
        tag = int(m.dev[d].vlan_tag)
        below = names[int(m.dev[d].lower_mask).bit_length() - 1]
        kind = "" if tag >> 16 == ETH_P_8021Q else "ad"
        names.append("vlan*" if tag == VLAN_ANY else f"{below}.{tag & VLAN_VID_MASK}{kind}")
    return names


def upper_devices(m: Any, scenario: Scenario) -> dict[str, dict[str, int]]:
    """What came in over VLANs, bonds and bridges."""
    names = netdev_names(m, scenario)
    return {
        names[d]: {"rx_packets": int(m.dev[d].rx_packets), "rx_bytes": int(m.dev[d].rx_bytes)}
        for d in range(int(m.devices), int(m.netdevs))
    }


def memory_facts(m: Any) -> dict[str, Any]:
    """The machine's memory as it stands, and the least that was free."""
    zones = {ZONES[zone]: _zone(m.zone[zone]) for zone in range(int(m.zones))}
    return {
        "min_free_kbytes": int(m.min_free_kbytes) + int(m.var_free_kbytes),
        "free_pages": sum(zone["free_pages"] for zone in zones.values()),
        "free_pages_min": sum(zone["free_pages_min"] for zone in zones.values()),
        "writer_pages": sum(zone["writer_pages"] for zone in zones.values()),
        "skbs_max": int(m.total.skbs_max),
        "zones": zones,
    }


def _iscsi(m: Any) -> dict[str, int] | None:
    """What was followed of iSCSI; None when there was none."""
    follow = m.follow
    if not int(follow.flows):
        return None
    counted: tuple[str, ...] = ("flows", "commands", "writes", "responses", "unmatched")
    counted += ("pages_written", "pages_short", "pages_freed", "pages_stuck")
    counted += ("resyncs", "skipped_bytes", "truncated")
    return {name: int(getattr(follow, name)) for name in counted} | {"responses_lost": int(responses_lost(m))}


def _said_of_iscsi(follow: Any) -> list[str]:
    """What became of the writes that the capture shows."""
    if not int(follow.flows):
        return []
    writes, pages, freed = (int(getattr(follow, name)) for name in ("writes", "pages_written", "pages_freed"))
    back = f"iSCSI is followed: {writes} writes put {pages} pages under write-back; {freed} of them became free"
    said = [f"{back}, each when the SCSI Response of its write was delivered"]
    if int(follow.pages_short):
        said.append(f"{int(follow.pages_short)} pages that iSCSI writes name were nobody's to begin with: all was free")
    if int(follow.resyncs) or int(follow.skipped_bytes):
        said.append(
            f"the capture lacks bytes of iSCSI: PDU boundaries were lost {int(follow.resyncs)} times, and "
            f"{int(follow.skipped_bytes)} bytes were passed over"
        )
    return said


def _zone(zone: Any) -> dict[str, int]:
    names = ("present_pages", "pages_min", "pages_low", "pages_high", "free_pages", "free_pages_min")
    values = {name: int(getattr(zone, name)) for name in names}
    return values | {
        "per_cpu_pages": int(zone.pcp_count),
        "slab_pages": int(zone.slab_pages),
        "writer_pages": int(zone.writer_pages),
    }


def socket_facts(m: Any) -> dict[str, int]:
    """How many sockets there were."""
    return {
        "made": int(m.total.sockets_made),
        "live": int(m.sk_live),
        "memalloc": int(m.memalloc_socks),
        "evicted": int(m.total.sockets_evicted),
        "holes_filled": int(m.total.holes_filled),
    }


def counters_of(m: Any) -> dict[str, int]:
    """What the host's own tools would show."""
    names = [field.name for field in fields_of(Counters)]
    return {TOOL_NAMES.get(name, name): int(getattr(m.mib, name)) for name in names}


def _input(outcome: Outcome) -> dict[str, Any]:
    feed = outcome.feed
    return {
        "compression": outcome.compression,
        "interfaces": outcome.interfaces,
        "skipped_blocks": outcome.skipped_blocks,
        "truncated_frames": int(feed.truncated),
        "aggregated_frames": int(feed.aggregated),
        "partial_checksums": int(feed.csum_partial),
        "unverifiable_checksums": int(feed.csum_unknown),
        "reversed_timestamps": int(feed.time_reversed),
        "limited": outcome.limited,
        "damage": str(outcome.damage) if outcome.damage else None,
    }


def _run(outcome: Outcome) -> dict[str, Any]:
    seconds = max(outcome.wall_seconds, 1e-9)
    return {
        "engine": outcome.engine,
        "packets_per_second": round(int(outcome.machine.total.frames) / seconds),
        "wall_seconds": round(outcome.wall_seconds, 6),
        "cpu_seconds": round(outcome.cpu_seconds, 6),
        "rss_peak_bytes": outcome.rss_peak_bytes,
    }


def findings(outcome: Outcome) -> list[str]:
    """What a reader must know to read the figures right."""
    m = outcome.machine
    said = notes_on_geometry(outcome.task.scenario)
    allocations = sum(int(m.dev[d].reserve_allocations) for d in range(int(m.devices)))
    if int(m.policy.rx_memalloc) != RX_NEVER and allocations == 0:
        said.append("the reserve was never touched, so this result proves nothing about it")
    if int(m.total.memalloc.received) == 0:
        said.append("no packet belongs to a memalloc flow: nothing here is what the reserve is for (see --memalloc)")
    if int(m.oops):
        said.append(
            f"the kernel died of bug {int(m.oops)} of the patch as posted, in {POINTS[int(m.oops_point)]}, when "
            f"{outcome.oops_frame} frames had arrived: {int(m.total.oops)} packets died with it, "
            f"{int(m.total.not_played)} frames found nobody"
        )
    if int(m.total.sockets_evicted):
        said.append(f"{int(m.total.sockets_evicted)} sockets were forgotten to make room; they are made anew when seen")
    return said


def assumptions(outcome: Outcome) -> list[str]:
    """What was assumed and not measured, in sentences."""
    scenario, feed = outcome.task.scenario, outcome.feed
    machine, readers = scenario.machine, scenario.readers
    per_byte = f"{machine.cpu_ps_per_byte / 1000:g} ns per byte (an assumption, not a measurement)"
    flows = f"memalloc flows ({scenario.replay.memalloc or 'none'}): {readers.memalloc}"
    said = [
        _loop(scenario),
        f"the CPU needs {machine.cpu_ns_per_packet} ns per packet and {per_byte}",
        _pressure(scenario),
        f"sockets are inferred from the frames{_open_already(scenario)}; readers: {readers.ordinary}, {flows}",
        *([REAL_READERS] if "real" in readers_of(scenario).values() else []),
        *_said_of_hosts(outcome),
        *_said_by_crafted(outcome),
        *_said_of_iscsi(outcome.machine.follow),
        *(outcome.rewritten.sentences() if outcome.rewritten else []),
    ]
    if outcome.task.pace.mode != PACE_CAPTURED:
        said.append("frames arrive at the asked rate, not as captured")
    for count, sentence in (
        (feed.csum_partial, "frames carry an unfinished checksum (offloaded); it counts as valid"),
        (feed.csum_unknown, "frames are cut off, so their checksum counts as valid"),
        (feed.aggregated, "frames are longer than the MTU and are charged as the segments that they stand for"),
        (feed.time_reversed, "timestamps run backwards; the machine's clock does not"),
    ):
        if int(count):
            said.append(f"{int(count)} {sentence}")
    return said


def _loop(scenario: Scenario) -> str:
    """What becomes of what is dropped."""
    if scenario.replay.peers == "real":
        return REAL_PEERS
    return COMES_AGAIN if scenario.replay.retransmit else OPEN_LOOP


def _open_already(scenario: Scenario) -> str:
    return ", and a SOCK_MEMALLOC one is open already" if scenario.pressure.memalloc_socket else ""


def _pressure(scenario: Scenario) -> str:
    pages = memory_pages(scenario)
    machine = f"{scenario.machine.geometry}, {pages} pages ({pages // 256} MiB)"
    if scenario.pressure.start == "quiet":
        return f"play starts quiet: {machine}, all memory free"
    held = background_skbs(scenario, scenario.device[0])
    ring = ring_of(scenario, scenario.device[0])
    return (
        f"play starts mid-crunch: {machine}, every zone at its GFP_ATOMIC floor"
        + (f" plus {scenario.pressure.free_pages_above_floor}" if scenario.pressure.free_pages_above_floor else "")
        + f", no free slab object, {held} of {ring} ring buffers held by sockets outside the "
        f"capture, writers {writers(scenario)}"
    )
