"""A user's own frames as the templates of a flood, from a capture or from a Python file.

They are sent in their order, again and again, and changed where options say: MACs, addresses, ports, spoofed senders,
sizes with the payload that fills them.  What a kind varies of itself varies in them too: sequence numbers of tcp-bulk,
ports and sequence numbers of synflood and tcp-closed-port, numbers of icmp-echo; all else stays, IP ids and timestamps
too.  Once through the file is a train of the plan: for each, sizes and senders are drawn and ports go on.

Limits: Ethernet frames, complete, at most 256, of at most 9014 bytes; headers are followed as `layout` says.
"""

import runpy
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from typing import Any, NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.packet import Packet
from scapy.plist import PacketList

from emu.capture.compression import open_source
from emu.capture.reader import CaptureReader
from emu.engine.plain import PlainEngine
from emu.errors import CaptureError, UsageError
from emu.kernel.machine import Packet as PacketRow
from emu.traffic.flood import values
from emu.traffic.flood.craft import Craft
from emu.traffic.flood.kinds import (
    ETHERNET_BYTES,
    MOST_JUMBO_FRAME,
    Flood,
    from_ports_of,
    option,
    ports_of,
    sizes_of,
)
from emu.traffic.flood.layout import (
    ETHERNETS,
    ICMPV6_ECHOES,
    PORTED,
    MissingLayerError,
    find_layer,
    header_bytes,
    headers_end,
    layers_of,
    packet_end,
    with_field,
    with_payload,
)
from emu.traffic.flood.plan import Template, Train
from emu.traffic.host import mac_number
from emu.wire.headers import LINKTYPE_ETHERNET

MOST_TEMPLATES = 256
NEEDED: dict[str, tuple[tuple[type[Packet], ...], ...]] = {
    "udp": ((UDP,),),
    "tcp-bulk": ((TCP,),),
    "synflood": ((TCP,),),
    "tcp-closed-port": ((TCP,),),
    "icmp-echo": ((ICMP, *ICMPV6_ECHOES),),
    "arp": ((ARP,),),
    "ipv6-udp": ((IPv6,), (UDP,)),
    "multicast": ((UDP,),),
    "broadcast": ((UDP,),),
    "vlan": ((Dot1Q, Dot1AD),),
    "other-ethertype": (),
    "jumbo": ((UDP,),),
}
TCP_SYN, TCP_FIN = 2, 1


class Field(NamedTuple):
    """A field that an option sets, by the header that has it."""

    layers: tuple[type[Packet], ...]
    name: str
    value: bytes


def trains_of_template(flood: Flood, craft: Craft) -> list[Train]:
    """The frames of the flood's template file as one train; `craft` learns what varies.

    Errors: UsageError, which names the file, the frame and the header that is missing.
    """
    path = flood.options.template
    _vary(flood, craft)
    templates = []
    for number, octets in enumerate(_frames(path), 1):
        where = f"template {path}: frame {number}"
        try:
            templates.append(_template(flood, craft, octets, where))
        except MissingLayerError as missing:
            raise UsageError(f"{where} has no {missing} header, which {flood.kind} or its options need") from None
        if number > MOST_TEMPLATES:
            raise UsageError(f"template {path}: more than {MOST_TEMPLATES} frames; cut it (editcap -r)")
    if not templates:
        raise UsageError(f"template {path}: no frame in it")
    return [Train(tuple(templates))]


def _vary(flood: Flood, craft: Craft) -> None:
    """What differs from frame to frame: what options say, and what the kind does of itself."""
    o = flood.options
    if {"port", "ports"} & {*flood.given}:
        craft.vary_port("dport", ports_of(o))
    if {"from_port", "from_ports"} & {*flood.given}:
        craft.vary_port("sport", from_ports_of(o))
    if "spoof" in flood.given:
        if flood.kind == "arp":
            craft.vary_source((ARP,), "psrc")
        else:
            craft.vary_source((IP, IPv6), "src")
    if flood.kind == "tcp-bulk":
        craft.vary_seq()
    if flood.kind in ("synflood", "tcp-closed-port"):
        craft.vary_opening()
    if flood.kind == "icmp-echo":
        craft.vary_echo()


def _template(flood: Flood, craft: Craft, octets: bytes, where: str) -> Template:
    """One frame, with its constant changes made."""
    if not ETHERNET_BYTES <= len(octets) <= MOST_JUMBO_FRAME:
        raise UsageError(f"{where}: {len(octets)} bytes; expected {ETHERNET_BYTES} to {MOST_JUMBO_FRAME}")
    layers = layers_of(octets)
    if headers_end(layers) > len(octets):
        raise UsageError(f"{where} is cut within its headers, which take {headers_end(layers)} bytes")
    for kinds in NEEDED[flood.kind]:
        find_layer(layers, kinds)
    _check_family(flood, layers, where)
    for field in _fields(flood):
        octets = with_field(octets, field.layers, field.name, field.value)
    if "size" in flood.given:
        octets = _resized(craft, octets, where)
    seq_bytes = -1
    if flood.kind == "tcp-bulk":
        seq_bytes = _seq_bytes(octets, where)
    return craft.template(octets, seq_bytes=seq_bytes, sized="size" in flood.given and bool(craft.sizes))


def _fields(flood: Flood) -> Iterator[Field]:
    """What options set in every frame."""
    o = flood.options
    for key, name in (("to_mac", "dst"), ("from_mac", "src")):
        if key in flood.given:
            yield Field(ETHERNETS, name, mac_number(option(flood, key)).to_bytes(6))
    for key, name, arp_name in (("to", "dst", "pdst"), ("from", "src", "psrc")):
        if key in flood.given:
            layers, field = ((ARP,), arp_name) if flood.kind == "arp" else ((IP, IPv6), name)
            yield Field(layers, field, values.parse_ip(option(flood, key)).packed)
    for keys, name, parse in (
        ({"port", "ports"}, "dport", ports_of),
        ({"from_port", "from_ports"}, "sport", from_ports_of),
    ):
        if keys & {*flood.given}:
            yield Field(PORTED, name, parse(o).first.to_bytes(2))


def _check_family(flood: Flood, layers: list[Any], where: str) -> None:
    """Addresses that are put into the frame must be of its family."""
    for key in ("to", "from", "spoof"):
        if key not in flood.given:
            continue
        text = option(flood, key)
        asked = (values.parse_network(text) if key == "spoof" else values.parse_ip(text)).version
        found = find_layer(layers, (ARP,) if flood.kind == "arp" else (IP, IPv6)).packet
        if asked != (6 if isinstance(found, IPv6) else 4):
            raise UsageError(f"{where} is not IPv{asked}, but {key} {text} is; expected one family")


def _resized(craft: Craft, octets: bytes, where: str) -> bytes:
    """The frame at the largest size asked for, filled with payload."""
    layers = layers_of(octets)
    end = headers_end(layers)
    sizes = sizes_of(craft.options)
    least, most = min(size.least for size in sizes), max(size.most for size in sizes)
    if least < end:
        raise UsageError(f"{where}: its headers take {end} bytes; size {craft.options.size} has no room for them")
    network = [layer.packet for layer in layers if isinstance(layer.packet, IP)]
    if (network and (network[0].frag or network[0].flags.MF)) or any(
        type(layer.packet).__name__ == "IPv6ExtHdrFragment" for layer in layers
    ):
        raise UsageError(f"{where} is a fragment, whose size cannot change")
    filled = with_payload(octets, craft.payload(most - end))
    if headers_end(layers_of(filled)) != end:
        raise UsageError(f"{where} ends where a header is missing, so its payload cannot be told; expected it complete")
    return filled


def _seq_bytes(octets: bytes, where: str) -> int:
    """What a segment adds to its sequence number besides its payload: SYN and FIN count one each (RFC 9293 3.4)."""
    layers = layers_of(octets)
    tcp = find_layer(layers, (TCP,))
    if packet_end(octets, layers) != len(octets) or len(octets) == tcp.offset + header_bytes(tcp.packet):
        raise UsageError(f"{where} has no data, or padding behind it; expected a TCP segment with data for tcp-bulk")
    flags = int(tcp.packet.flags)
    return bool(flags & TCP_SYN) + bool(flags & TCP_FIN)


# --- files ------------------------------------------------------------------------------------------------------------


def _frames(path: str) -> Iterator[bytes]:
    return _scapy_frames(path) if path.endswith(".py") else _captured_frames(path)


def _scapy_frames(path: str) -> Iterator[bytes]:
    """The frames of a Python file's `template`: a Scapy packet that begins with Ether, or a list of such.

    The file runs with all rights of the user: it is the user's own.  What it prints goes to stderr: stdout may be the
    capture's.
    """
    try:
        with redirect_stdout(sys.stderr):
            found = runpy.run_path(path).get("template")
            packets = found if isinstance(found, list | tuple | PacketList) else [] if found is None else [found]
            frames = [bytes(packet) if isinstance(packet, ETHERNETS) else None for packet in packets]
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's file raises
        raise UsageError(f"template {path}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    if not frames:
        raise UsageError(f"template {path}: expected that it sets `template` to a Scapy packet, or a list of them")
    for number, frame in enumerate(frames, 1):
        if frame is None:
            raise UsageError(f"template {path}: frame {number} does not begin with Ether(), expected a Scapy frame")
        yield frame


def _captured_frames(path: str) -> Iterator[bytes]:
    """The frames of a capture, without FCS."""
    engine = PlainEngine()
    rows = engine.rows(PacketRow, 1)
    try:
        with closing(open_source(path)) as source:
            reader = CaptureReader(source, path, engine)
            while reader.read(rows, 0, 1):
                row = rows[0]
                where = f"template {path}: frame {reader.frames}"
                if row.linktype != LINKTYPE_ETHERNET:
                    raise UsageError(f"{where} is of another link type; expected Ethernet")
                if row.caplen != row.length:
                    raise UsageError(f"{where} was cut by the capture: {row.caplen} of {row.length} bytes")
                yield bytes(reader.octets[row.offset : row.offset + row.caplen - row.fcs_caplen])
                reader.discard(reader.position)
            if reader.damage is not None:
                raise reader.damage
    except CaptureError as error:
        raise UsageError(f"template: {error}") from None
