"""Where things are in a frame that Scapy has built: from frame and field names to a template of the plan.

Recipes and templates of the user's own go through here.  Nothing is known of any kind's frame: it is dissected, and the
place of a field is found by setting it.  Headers are followed from Ethernet over VLAN tags, ARP, IPv4 or IPv6 (with a
fragment header) to UDP, TCP or an echo; what lies behind, tunnels too, is payload.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any, NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet

from emu.traffic.flood.plan import SHORTEST_FRAME, Change, Checksum, Length, Template
from emu.traffic.host import MAC, mac_text
from emu.wire.checksum import ones_sum

ETHERNETS = (Ether, Dot3)
LINKS = (*ETHERNETS, Dot1AD, Dot1Q)
NETWORKS = (IP, IPv6)
ICMPV6_ECHOES = (ICMPv6EchoRequest, ICMPv6EchoReply)
TRANSPORTS = (UDP, TCP, ICMP, *ICMPV6_ECHOES)
PORTED = (UDP, TCP)
FOLLOWED = (*LINKS, ARP, *NETWORKS, IPv6ExtHdrFragment, *TRANSPORTS)
HEADER_BYTES = {UDP: 8, ICMP: 8, ICMPv6EchoRequest: 8, ICMPv6EchoReply: 8}
CHECKSUM_FIELDS = {IP: "chksum", UDP: "chksum", TCP: "chksum", ICMP: "chksum"} | dict.fromkeys(ICMPV6_ECHOES, "cksum")
PSEUDO = (UDP, TCP, *ICMPV6_ECHOES)  # whose checksum covers addresses and length (RFC 768, 9293 3.1, 8200 8.1)


class Layer(NamedTuple):
    """A header of a frame, and the offset of its first byte."""

    packet: Any
    offset: int


class Vary(NamedTuple):
    """A field that takes a variable: of the first header that is one of `layers`.

    `skip` and `width` choose bytes of the field (an IPv6 address is four variables); width 0: all of it.
    """

    layers: tuple[type[Packet], ...]
    field: str
    variable: int
    skip: int = 0
    width: int = 0


class MissingLayerError(Exception):
    """A frame has no such header, by name."""


def layers_of(octets: bytes) -> list[Layer]:
    """The headers of an Ethernet frame, outermost first, as far as they are followed."""
    found: list[Layer] = []
    packet, offset = Ether(octets), 0
    while isinstance(packet, FOLLOWED):
        if found and isinstance(found[-1].packet, TRANSPORTS):
            break
        if isinstance(packet, NETWORKS) and any(isinstance(outer.packet, NETWORKS) for outer in found):
            break  # a tunnel
        found.append(Layer(packet, offset))
        offset += header_bytes(packet)
        packet = packet.payload
    return found


def header_bytes(packet: Packet) -> int:
    """How long a dissected header is, with its options and without its payload."""
    if isinstance(packet, TCP):
        return max(int(packet.dataofs), 5) * 4
    for kind, size in HEADER_BYTES.items():
        if isinstance(packet, kind):
            return size
    return len(packet.self_build())


def find_layer(layers: Iterable[Layer], kinds: tuple[type[Packet], ...]) -> Layer:
    """The first header that is one of `kinds`.

    Errors: MissingLayerError.
    """
    for layer in layers:
        if isinstance(layer.packet, kinds):
            return layer
    raise MissingLayerError(" or ".join(kind.__name__ for kind in kinds))


def place_of(layer: Layer, field: str) -> tuple[int, int]:
    """Offset and width of a field in its frame, in bytes: those that change when all of its bits do.

    A field of less than a byte, or across bytes, is given whole bytes: it cannot take a variable by itself.
    """
    headers = []
    for value in _extremes(layer.packet, field):
        packet = layer.packet.copy()
        packet.remove_payload()
        packet.setfieldval(field, value)
        headers.append(packet.self_build())
    differ = [at for at, (low, high) in enumerate(zip(*headers, strict=True)) if low != high]
    return layer.offset + differ[0], differ[-1] - differ[0] + 1


def _extremes(packet: Packet, field: str) -> tuple[Any, Any]:
    """The values of a field that has no bit set, and all; addresses are known by how they read."""
    value = packet.getfieldval(field)
    if not isinstance(value, str):
        return 0, (1 << 8 * int(packet.get_field(field).sz)) - 1
    if MAC.match(value):
        return mac_text(0), mac_text((1 << 48) - 1)
    address = ipaddress.ip_address(value)
    return str(type(address)(0)), str(type(address)((1 << address.max_prefixlen) - 1))


def template_of(octets: bytes, varied: Iterable[Vary], *, sized: bool, seq_bytes: int = -1) -> Template:
    """The frame as a template: its checksums, its lengths if its size varies (`sized`), the places of its variables.

    `seq_bytes` as in Template.  Errors: MissingLayerError when a variable's header is not there.
    """
    layers = layers_of(octets)
    checksums, numbers = _checksums_of(layers)
    end = headers_end(layers)
    return Template(
        octets=octets.ljust(SHORTEST_FRAME, b"\0"),
        payload=end,
        changes=tuple(_change_of(layers, numbers, vary) for vary in varied),
        checksums=tuple(checksums),
        lengths=tuple(_lengths_of(layers, numbers)) if sized else (),
        smallest=end if sized else 0,
        seq_bytes=seq_bytes,
    )


def headers_end(layers: list[Layer]) -> int:
    """Where the payload begins."""
    return layers[-1].offset + header_bytes(layers[-1].packet)


def _checksums_of(layers: list[Layer]) -> tuple[list[Checksum], dict[int, int]]:
    """The checksums of a frame, and the number of each by its header's offset."""
    checksums: list[Checksum] = []
    numbers: dict[int, int] = {}
    for layer in layers:
        checksum = _checksum_of(layer)
        if checksum is not None:
            numbers[layer.offset] = len(checksums)
            checksums.append(checksum)
    return checksums, numbers


def _checksum_of(layer: Layer) -> Checksum | None:
    packet = layer.packet
    for kind, field in CHECKSUM_FIELDS.items():
        if isinstance(packet, kind):
            if kind is UDP and packet.chksum == 0:
                return None  # the sender did not compute one (RFC 768)
            return Checksum(place_of(layer, field)[0], covers_payload=kind is not IP, zero_is_none=kind is UDP)
    return None


def _covering(layers: list[Layer], numbers: dict[int, int], layer: Layer, field: str) -> tuple[int, ...]:
    """The checksums that cover a field of `layer`."""
    own = [numbers[layer.offset]] if layer.offset in numbers else []
    if isinstance(layer.packet, NETWORKS) and field in ("src", "dst"):
        own += [
            numbers[inner.offset] for inner in layers if inner.offset in numbers and isinstance(inner.packet, PSEUDO)
        ]
    return tuple(own)


def _change_of(layers: list[Layer], numbers: dict[int, int], vary: Vary) -> Change:
    layer = find_layer(layers, vary.layers)
    offset, width = place_of(layer, vary.field)
    checksums = _covering(layers, numbers, layer, vary.field)
    return Change(vary.variable, offset + vary.skip, vary.width or width, checksums)


def _lengths_of(layers: list[Layer], numbers: dict[int, int]) -> list[Length]:
    """The length fields that follow the frame's size, and the pseudo headers' share of it."""
    lengths = []
    for layer in layers:
        packet, offset = layer.packet, layer.offset
        own = (numbers[offset],) if offset in numbers else ()
        if isinstance(packet, Dot3):
            lengths.append(Length(place_of(layer, "len")[0], offset + header_bytes(packet)))
        elif isinstance(packet, IP):
            lengths.append(Length(place_of(layer, "len")[0], offset, own))
        elif isinstance(packet, IPv6):
            lengths.append(Length(place_of(layer, "plen")[0], offset + header_bytes(packet)))
        elif isinstance(packet, UDP):
            lengths.append(Length(place_of(layer, "len")[0], offset, own * 2))  # in header and pseudo header
        elif isinstance(packet, PSEUDO):
            lengths.append(Length(-1, offset, own))
    return lengths


# --- frames of the user's own ---


def with_field(octets: bytes, kinds: tuple[type[Packet], ...], field: str, value: bytes) -> bytes:
    """The frame with another value in a field of the first header that is one of `kinds`, and checksums that follow.

    A checksum that was wrong stays as wrong as it was.  Errors: MissingLayerError.
    """
    layers = layers_of(octets)
    checksums, numbers = _checksums_of(layers)
    layer = find_layer(layers, kinds)
    offset, width = place_of(layer, field)
    changed = bytearray(octets)
    for number in _covering(layers, numbers, layer, field):
        _follow(changed, checksums[number], octets[offset : offset + width], value)
    changed[offset : offset + width] = value
    return bytes(changed)


def with_payload(octets: bytes, payload: bytes) -> bytes:
    """The frame with another payload: lengths and checksums follow, what stood behind its packet goes."""
    layers = layers_of(octets)
    checksums, numbers = _checksums_of(layers)
    end = headers_end(layers)
    packet = octets[: packet_end(octets, layers)]
    changed = bytearray(packet[:end] + payload)
    for checksum in checksums:
        if checksum.covers_payload:
            _follow(changed, checksum, packet[end:], payload)
    for length in _lengths_of(layers, numbers):
        old = (len(packet) - length.bias).to_bytes(2)
        new = (len(changed) - length.bias).to_bytes(2)
        for number in length.checksums:
            _follow(changed, checksums[number], old, new)
        if length.offset >= 0:
            changed[length.offset : length.offset + 2] = new
    return bytes(changed)


def packet_end(octets: bytes, layers: list[Layer]) -> int:
    """Where a frame's IP packet ends and padding begins; without IP, the frame's end."""
    for layer in layers:
        if isinstance(layer.packet, IP):
            return min(layer.offset + int(layer.packet.len), len(octets))
        if isinstance(layer.packet, IPv6):
            return min(layer.offset + header_bytes(layer.packet) + int(layer.packet.plen), len(octets))
    return len(octets)


def _follow(octets: bytearray, checksum: Checksum, old: bytes, new: bytes) -> None:
    """RFC 1624, equation 3, for bytes at an even distance from where the sum begins."""
    at = checksum.offset
    before = int.from_bytes(octets[at : at + 2])
    after = -((before ^ 0xFFFF) - ones_sum(old, 0, len(old)) + ones_sum(new, 0, len(new))) % 0xFFFF
    octets[at : at + 2] = (0xFFFF if checksum.zero_is_none and after == 0 else after).to_bytes(2)
