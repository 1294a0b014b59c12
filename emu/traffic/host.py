"""Which end of a capture is the host: the user says, or the first frames do.

Frames of an Ethernet have MACs; where a capture has none (raw IP, loopback, cooked) the host is an IP address.  A
capture with both kinds has both.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from emu.errors import UsageError
from emu.kernel.machine import DIR_INBOUND, DIR_OUTBOUND, PACKET_HOST, PACKET_OUTGOING, Packet
from emu.traffic.arrivals import BROADCAST_MAC, IPV4_BROADCAST, NO_PACKET_TYPE, cooked_type, mac_at
from emu.traffic.expression import Address, parse_address
from emu.wire import ethernet
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_TRUST, KIND_ARP, KIND_MALFORMED, KIND_OTHER, KIND_TCP, LINKTYPE_ETHERNET
from emu.wire.octets import Octets

ISCSI_PORT = 3260
HOST_FRAMES = 1024  # how many frames decide which end is the host
MAC = re.compile(r"^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$", re.IGNORECASE)
NO_ADDRESS = Address(0, 0, 0)

T = TypeVar("T", int, Address)


class Host(NamedTuple):
    """The host's MAC (its address where frames have none), whether the link layer's direction rules, how we know."""

    mac: int
    by_direction: bool
    because: str
    address: Address = NO_ADDRESS


def mac_text(mac: int) -> str:
    """A MAC address as people write it."""
    return ":".join(f"{mac >> shift & 0xFF:02x}" for shift in range(40, -8, -8))


def mac_number(text: str) -> int:
    """The MAC address that is written so, with colons or dashes."""
    return int(re.sub("[:-]", "", text), 16)


def choose_host(
    rows: Any, which: Iterable[int], octets: Octets, asked: str | None, crafted: Iterable[str] = ()
) -> Host:
    """Decide from the first frames of a device, rows[i] for i in `which`.

    As asked, else by direction, else as a crafted file says (`crafted`: the hosts' MACs that such files name), else by
    port 3260, else by who is busiest.
    """
    octets = memoryview(octets)  # plain integers, whatever the engine's view yields
    frames = [_copy(rows[at], octets) for at in which]
    with_mac = [p for p in frames if p.linktype == LINKTYPE_ETHERNET and p.caplen >= ethernet.HEADER_LEN]
    bare = [p for p in frames if p.linktype != LINKTYPE_ETHERNET]
    if asked is not None:
        return _asked_host(with_mac, bare, octets, asked)
    directed = _by_direction(with_mac, bare, octets)
    if directed is not None:
        return directed
    named = _by_crafting(with_mac, octets, crafted)
    if named is not None:
        return named
    ethernet_host = _by_iscsi(with_mac, octets) or _by_traffic(with_mac, octets)
    if not bare:
        return ethernet_host
    address, because = _address_of(bare)
    mac = ethernet_host.mac if with_mac else 0
    return Host(mac, False, f"{ethernet_host.because}; {because}" if with_mac else because, address)


class Met(NamedTuple):
    """The ends of a host's traffic as its frames show them: its addresses, and the MAC most of them come from or go
    to; nothing where they show none."""

    host4: Address = NO_ADDRESS
    host6: Address = NO_ADDRESS
    peer_mac: int = 0


def hosts_by_device(
    rows: Any,
    count: int,
    octets: Octets,
    device_of: Callable[[int], int],
    asked: str | None,
    crafted: Iterable[str] = (),
) -> tuple[dict[int, Host], dict[int, list[int]]]:
    """The host of each device that the first frames, rows[:count], show, and which of them are the device's.

    `device_of` gives the device of an interface.  What is asked for need not be met on every device.  Errors:
    UsageError when it is met on none.
    """
    which: dict[int, list[int]] = {}
    for at in range(count):
        which.setdefault(device_of(int(rows[at].iface)), []).append(at)
    macs = list(crafted)
    hosts: dict[int, Host] = {}
    for dev, frames in which.items():
        hosts[dev] = host_beside(hosts, rows, frames, octets, asked, macs)
    return hosts, which


def host_beside(
    known: Mapping[int, Host],
    rows: Any,
    which: Sequence[int],
    octets: Octets,
    asked: str | None,
    crafted: Sequence[str] = (),
) -> Host:
    """The host of a further device, where those of others are `known`: what is asked for need not be met on it."""
    try:
        return choose_host(rows, which, octets, asked, crafted)
    except UsageError:
        if not known:
            raise
        return choose_host(rows, which, octets, None, crafted)


def ends_met(rows: Any, which: Iterable[int], octets: Octets, host: Host) -> Met:
    """At which addresses the host of a device is met in its first frames, rows[i] for i in `which`."""
    octets = memoryview(octets)
    own: dict[int, Counter[Address]] = {4: Counter(), 6: Counter()}
    peers: Counter[int] = Counter()
    for p in (_copy(rows[at], octets) for at in which):
        if p.linktype != LINKTYPE_ETHERNET or p.caplen < ethernet.HEADER_LEN:
            continue
        source, destination = _macs(p, octets)
        sender, receiver = _addresses(p)
        if source == host.mac:
            own.get(sender.family, Counter())[sender] += 1
            peers[destination] += 1
        elif destination == host.mac:
            own.get(receiver.family, Counter())[receiver] += 1
            peers[source] += 1
    if host.address.family:
        own[host.address.family][host.address] += 1
    found = [_most(Counter(filter(_is_unicast_address, own[family].elements()))) or NO_ADDRESS for family in (4, 6)]
    return Met(found[0], found[1], _most(Counter(filter(_is_unicast, peers.elements()))) or 0)


def _copy(row: Packet, octets: Octets) -> Packet:
    """A frame, dissected, as a row of its own: this touches nobody's columns."""
    p = Packet()
    p.offset, p.caplen, p.length = int(row.offset), int(row.caplen), int(row.length)
    p.direction, p.linktype = int(row.direction), int(row.linktype)
    dissect(p, octets, CHECKSUMS_TRUST)
    return p


def _macs(p: Packet, octets: Octets) -> tuple[int, int]:
    return mac_at(octets, p.offset + ethernet.SRC), mac_at(octets, p.offset + ethernet.DST)


def _addresses(p: Packet) -> tuple[Address, Address]:
    return Address(p.ip_version, p.saddr_hi, p.saddr), Address(p.ip_version, p.daddr_hi, p.daddr)


def _is_unicast(mac: int) -> bool:
    return mac >> 40 & 1 == 0 and mac != BROADCAST_MAC


def _is_unicast_address(address: Address) -> bool:
    if address.family == 4:
        return address.lo >> 28 != 0xE and address.lo not in (0, IPV4_BROADCAST)
    return address.family == 6 and address.hi >> 56 & 0xFF != 0xFF and (address.hi, address.lo) != (0, 0)


def _most(votes: Counter[T]) -> T | None:
    return votes.most_common(1)[0][0] if votes else None


def _asked_host(with_mac: list[Packet], bare: list[Packet], octets: Octets, asked: str) -> Host:
    if MAC.match(asked):
        return Host(mac_number(asked), False, "--host")
    try:
        address = parse_address(asked)
    except ValueError:
        expected = "an IPv4 or IPv6 address, or a MAC such as 02:00:00:00:00:01"
        raise UsageError(f"--host {asked}: expected {expected}") from None
    mac = _mac_of(with_mac, octets, address)
    if mac is None and not any(address in _addresses(p) for p in bare):
        frames = len(with_mac) + len(bare)
        raise UsageError(f"--host {asked}: no frame among the first {frames} has this address; try --host with a MAC")
    return Host(mac or 0, False, f"--host {asked}", address if bare else NO_ADDRESS)


def _mac_of(frames: list[Packet], octets: Octets, address: Address) -> int | None:
    """The MAC that goes with an address, from the first frame that tells."""
    for p in frames:
        if p.kind in (KIND_OTHER, KIND_MALFORMED):
            continue
        source, destination = _macs(p, octets)
        family = p.ip_version or 4  # ARP's addresses are IPv4's
        if Address(family, p.saddr_hi, p.saddr) == address:
            return source
        if Address(family, p.daddr_hi, p.daddr) == address and p.kind != KIND_ARP and _is_unicast(destination):
            return destination
    return None


def _by_direction(with_mac: list[Packet], bare: list[Packet], octets: Octets) -> Host | None:
    """The host of a capture most of whose frames state a direction, in the capture or in a cooked header."""
    directed = [p for p in with_mac + bare if p.direction in (DIR_INBOUND, DIR_OUTBOUND)]
    cooked = [p for p in bare if p.direction not in (DIR_INBOUND, DIR_OUTBOUND)]
    stated = [cooked_type(p, octets) for p in cooked]
    if 2 * (len(directed) + len(stated) - stated.count(NO_PACKET_TYPE)) <= len(with_mac) + len(bare):
        return None
    # What the host sends comes from its MAC; what it receives may be for others, in promiscuous mode.
    known = [p for p in directed if p.linktype == LINKTYPE_ETHERNET]
    sent = [_macs(p, octets)[0] for p in known if p.direction == DIR_OUTBOUND]
    received = [_macs(p, octets)[1] for p in known if p.direction == DIR_INBOUND]
    mac = _most(Counter(filter(_is_unicast, sent)) or Counter(filter(_is_unicast, received))) or 0
    address = _stated_address([p for p in directed if p.linktype != LINKTYPE_ETHERNET], cooked, stated)
    because = "the capture's link-layer direction" if directed else "the packet type of its cooked frames"
    return Host(mac, bool(directed), because, address)


def _stated_address(directed: list[Packet], cooked: list[Packet], stated: list[int]) -> Address:
    """The host's address where frames without a MAC say who sent them: what it sends from, else what is sent to it."""
    ours = [_addresses(p)[0] for p in directed if p.direction == DIR_OUTBOUND]
    ours += [_addresses(p)[0] for p, way in zip(cooked, stated, strict=True) if way == PACKET_OUTGOING]
    theirs = [_addresses(p)[1] for p in directed if p.direction == DIR_INBOUND]
    theirs += [_addresses(p)[1] for p, way in zip(cooked, stated, strict=True) if way == PACKET_HOST]
    votes = Counter(filter(_is_unicast_address, ours)) or Counter(filter(_is_unicast_address, theirs))
    return _most(votes) or NO_ADDRESS


def _by_crafting(frames: list[Packet], octets: Octets, macs: Iterable[str]) -> Host | None:
    """The host that a crafted file names, where its frames are met."""
    met = {mac for p in frames for mac in _macs(p, octets)}
    for text in macs:
        mac = mac_number(text) if MAC.match(text) else 0
        if mac in met:
            return Host(mac, False, "the crafted file says so")
    return None


def _talks_iscsi(p: Packet) -> bool:
    return p.kind == KIND_TCP and ISCSI_PORT in (p.sport, p.dport) and p.sport != p.dport


def _by_iscsi(frames: list[Packet], octets: Octets) -> Host | None:
    for p in frames:
        if _talks_iscsi(p):
            source, destination = _macs(p, octets)
            return Host(source if p.dport == ISCSI_PORT else destination, False, "it talks to port 3260")
    return None


def _by_traffic(frames: list[Packet], octets: Octets) -> Host:
    ends = [_macs(p, octets) for p in frames]
    mac = _busiest([pair for pair in ends if _is_unicast(pair[1])])
    if mac is None:
        return Host(0, False, "no unicast frame: every broadcast and multicast frame is for the host")
    return Host(mac, False, "its MAC is in most unicast frames")


def _busiest(ends: list[tuple[T, T]]) -> T | None:
    """Who is in most of the frames; between equals who receives more, then the larger one."""
    seen: Counter[T] = Counter()
    received: Counter[T] = Counter()
    for source, destination in ends:
        seen[source] += 1
        seen[destination] += 1
        received[destination] += 1
    return max(seen, key=lambda end: (seen[end], received[end], end), default=None)


def _address_of(frames: list[Packet]) -> tuple[Address, str]:
    """The host's address from frames without a MAC, and how we know."""
    for p in frames:
        if _talks_iscsi(p):
            source, destination = _addresses(p)
            return source if p.dport == ISCSI_PORT else destination, "it talks to port 3260"
    busiest = _busiest([pair for pair in map(_addresses, frames) if all(map(_is_unicast_address, pair))])
    if busiest is None:
        return NO_ADDRESS, "no unicast frame: every broadcast and multicast frame is for the host"
    return busiest, "its address is in most unicast packets"
