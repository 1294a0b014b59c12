"""Which end of a capture is the host: the user says, or the first frames do."""

import ipaddress
import re
from collections import Counter
from typing import Any, NamedTuple

from emu.errors import UsageError
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, Packet
from emu.traffic.arrivals import BROADCAST_MAC, mac_at
from emu.wire import ethernet
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_TRUST, KIND_ARP, KIND_IPV6, KIND_MALFORMED, KIND_OTHER, KIND_TCP
from emu.wire.octets import Octets

ISCSI_PORT = 3260
MAC = re.compile(r"^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$", re.IGNORECASE)


class Host(NamedTuple):
    """The host's MAC, whether the link layer's direction rules, and how we know."""

    mac: int
    by_direction: bool
    because: str


def mac_text(mac: int) -> str:
    """A MAC address as people write it."""
    return ":".join(f"{mac >> shift & 0xFF:02x}" for shift in range(40, -8, -8))


def choose_host(rows: Any, last: int, octets: Octets, asked: str | None) -> Host:
    """Decide from the first frames, rows[0:last]: as asked, by direction, by port 3260, by the busiest MAC."""
    octets = memoryview(octets)  # plain integers, whatever the engine's view yields
    frames = [p for p in map(_copy, map(rows.__getitem__, range(last))) if p.caplen >= ethernet.HEADER_LEN]
    if asked is not None:
        return _asked_host(frames, octets, asked)
    return _by_direction(frames, octets) or _by_iscsi(frames, octets) or _by_traffic(frames, octets)


def _copy(row: Packet) -> Packet:
    """Where a frame lies, as a row of its own: dissecting it here touches nobody's columns."""
    p = Packet()
    p.offset, p.caplen, p.length = int(row.offset), int(row.caplen), int(row.length)
    p.direction = int(row.direction)
    return p


def _ends(p: Packet, octets: Octets) -> tuple[int, int]:
    return mac_at(octets, p.offset + ethernet.SRC), mac_at(octets, p.offset + ethernet.DST)


def _is_unicast(mac: int) -> bool:
    return mac >> 40 & 1 == 0 and mac != BROADCAST_MAC


def _asked_host(frames: list[Packet], octets: Octets, asked: str) -> Host:
    if MAC.match(asked):
        return Host(int(re.sub("[:-]", "", asked), 16), False, "--host")
    try:
        address = int(ipaddress.IPv4Address(asked))
    except ValueError:
        raise UsageError(f"--host {asked}: expected an IPv4 address or a MAC such as 02:00:00:00:00:01") from None
    for p in frames:
        dissect(p, octets, CHECKSUMS_TRUST)
        if p.kind in (KIND_OTHER, KIND_IPV6, KIND_MALFORMED):
            continue
        source, destination = _ends(p, octets)
        if p.saddr == address:
            return Host(source, False, f"--host {asked}")
        if p.daddr == address and p.kind != KIND_ARP and _is_unicast(destination):
            return Host(destination, False, f"--host {asked}")
    raise UsageError(f"--host {asked}: no frame among the first {len(frames)} has this address; try --host with a MAC")


def _by_direction(frames: list[Packet], octets: Octets) -> Host | None:
    known = [p for p in frames if p.direction in (DIR_INBOUND, DIR_OUTBOUND)]
    if 2 * len(known) <= len(frames):
        return None
    # What the host sends comes from its MAC; what it receives may be for others, in promiscuous mode.
    sent = [_ends(p, octets)[0] for p in known if p.direction == DIR_OUTBOUND]
    received = [_ends(p, octets)[1] for p in known if p.direction == DIR_INBOUND]
    macs = Counter(filter(_is_unicast, sent)) or Counter(filter(_is_unicast, received))
    mac = macs.most_common(1)[0][0] if macs else 0
    return Host(mac, True, "the capture's link-layer direction")


def _by_iscsi(frames: list[Packet], octets: Octets) -> Host | None:
    for p in frames:
        dissect(p, octets, CHECKSUMS_TRUST)
        if p.kind == KIND_TCP and ISCSI_PORT in (p.sport, p.dport) and p.sport != p.dport:
            source, destination = _ends(p, octets)
            return Host(source if p.dport == ISCSI_PORT else destination, False, "it talks to port 3260")
    return None


def _by_traffic(frames: list[Packet], octets: Octets) -> Host:
    seen: Counter[int] = Counter()
    received: Counter[int] = Counter()
    for p in frames:
        source, destination = _ends(p, octets)
        if _is_unicast(destination):
            seen[source] += 1
            seen[destination] += 1
            received[destination] += 1
    if not seen:
        return Host(0, False, "no unicast frame: every broadcast and multicast frame is for the host")
    mac = max(seen, key=lambda mac: (seen[mac], received[mac], mac))
    return Host(mac, False, "its MAC is in most unicast frames")
