"""Small plans for the tests of floods, and how they are played; templates are Scapy's."""

from typing import Any, NamedTuple

from emu.capture.frames import FrameSource
from emu.engine.plain import Engine
from emu.kernel.machine import Packet
from emu.traffic.flood.plan import (
    VARY_COUNT,
    VARY_FLOW,
    VARY_RANDOM,
    VARY_SEQ,
    Change,
    Checksum,
    Length,
    Plan,
    Rate,
    Sizes,
    Template,
    Train,
    Variable,
)

COUNTED_ID, RANDOM_SOURCE, FLOW_PORT, SEQ, ANY_BYTE = range(5)


class Frame(NamedTuple):
    """A frame as a source gave it."""

    time_ns: int
    octets: bytes


def variables(first_port: int = 9000, ports: int = 7) -> tuple[Variable, ...]:
    """The numbers that templates of this kit vary: COUNTED_ID, RANDOM_SOURCE, FLOW_PORT, SEQ, ANY_BYTE."""
    return (
        Variable(VARY_COUNT, 65_000, 65_536),
        Variable(VARY_RANDOM, 0x0A000001, 1 << 24),
        Variable(VARY_FLOW, first_port, ports),
        Variable(VARY_SEQ, 0xFFFFF000),
        Variable(VARY_RANDOM, 0, 256),
    )


def text_of(length: int) -> bytes:
    """A payload in which no two words are alike by design."""
    return bytes((at * 37 + at // 251 * 11) & 0xFF for at in range(length))


def ipv4_template(protocol: str, largest: int, smallest: int = 0) -> Template:
    """A UDP or TCP frame over IPv4 of `largest` bytes: id, source, port, sequence number and one odd byte vary."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether

    ethernet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    upper = UDP(sport=4000, dport=9000) if protocol == "udp" else TCP(sport=4000, dport=9000, flags="PA", ack=99)
    head = 42 if protocol == "udp" else 54
    octets = bytes(ethernet / IP(src="10.0.0.1", dst="10.0.0.2", id=65_000) / upper / text_of(largest - head))
    changes = [Change(COUNTED_ID, 18, 2, (0,)), Change(RANDOM_SOURCE, 26, 4, (0, 1)), Change(FLOW_PORT, 36, 2, (1,))]
    if protocol == "udp":
        checksums = (Checksum(24), Checksum(40, covers_payload=True, zero_is_none=True))
        lengths = (Length(16, 14, (0,)), Length(38, 34, (1, 1)))
    else:
        checksums = (Checksum(24), Checksum(50, covers_payload=True))
        lengths = (Length(16, 14, (0,)), Length(-1, 34, (1,)))
        changes += [Change(SEQ, 38, 4, (1,)), Change(ANY_BYTE, 49, 1, (1,))]
    return Template(
        octets,
        head,
        tuple(changes),
        checksums,
        lengths if smallest else (),
        smallest,
        seq_bytes=0 if protocol == "tcp" else -1,
    )


def ipv6_template(largest: int, smallest: int = 0) -> Template:
    """A UDP frame over IPv6 of `largest` bytes: low bytes of the source and the port vary."""
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    ethernet = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    upper = UDP(sport=4000, dport=9000) / text_of(largest - 62)
    octets = bytes(ethernet / IPv6(src="fd00::1", dst="fd00::2") / upper)
    changes = (Change(RANDOM_SOURCE, 33, 5, (0,)), Change(FLOW_PORT, 56, 2, (0,)))
    lengths = (Length(18, 54), Length(58, 54, (0, 0)))
    checksums = (Checksum(60, covers_payload=True, zero_is_none=True),)
    return Template(octets, 62, changes, checksums, lengths if smallest else (), smallest)


def plan_of(*templates: Template, sizes: tuple[Sizes, ...] = (), **values: Any) -> Plan:
    """A plan with each template as a train; one of fixed size has no use for `sizes`."""
    varied = any(template.smallest for template in templates)
    values.setdefault("flows", 7)
    return Plan(tuple(Train((template,)) for template in templates), variables(), sizes if varied else (), **values)


def mixed_plan(**values: Any) -> Plan:
    """All templates of the kit, at all sizes from what must be padded to 300 bytes."""
    templates = (ipv4_template("udp", 300, 42), ipv4_template("tcp", 301, 54), ipv6_template(300, 62))
    sizes = (Sizes(62, 299, 3), Sizes(62, 70))
    return plan_of(*templates, ipv4_template("udp", 43), ipv4_template("tcp", 97), sizes=sizes, **values)


def even_plan(rate: Rate, **values: Any) -> Plan:
    """Frames of one size at a rate."""
    return plan_of(ipv4_template("udp", 64), rate=rate, **values)


def frames_of(source: FrameSource, engine: Engine, batch: int = 256, most: int = 1 << 62) -> list[Frame]:
    """Up to `most` frames of a source, read `batch` at a time; what has been read is discarded."""
    rows = engine.rows(Packet, batch)
    found: list[Frame] = []
    while len(found) < most:
        count = source.read(rows, 0, min(batch, most - len(found)))
        if not count:
            break
        window = bytes(memoryview(source.octets)[: source.position])
        for at in range(count):
            row = rows[at]
            found.append(Frame(int(row.file_time_ns), window[int(row.offset) : int(row.offset) + int(row.caplen)]))
        source.discard(source.position)
    return found


def recomputed(octets: bytes) -> bytes:
    """The frame as Scapy builds it when it has to compute lengths and checksums itself."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Padding

    packet = Ether(octets)
    padding = packet[Padding].load if Padding in packet else b""
    if padding:
        packet[Padding].underlayer.remove_payload()
    for layer, fields in ((IP, ("chksum", "len")), (IPv6, ("plen",)), (UDP, ("chksum", "len")), (TCP, ("chksum",))):
        for field in fields if layer in packet else ():
            delattr(packet[layer], field)
    return bytes(packet) + padding
