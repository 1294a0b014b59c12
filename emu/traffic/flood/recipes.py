"""What each kind of flood sends, as Scapy recipes: the frame of each train, and which of its fields vary.

`plan_of` makes the plan.  Every field whose default Scapy would take from the machine that it runs on (routes, MACs) is
set, so the same recipe gives the same bytes everywhere.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from scapy.contrib.lldp import (
    LLDPDUChassisID,
    LLDPDUEndOfLLDPDU,
    LLDPDUPortID,
    LLDPDUSystemDescription,
    LLDPDUSystemName,
    LLDPDUTimeToLive,
)
from scapy.layers.inet import ICMP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6ExtHdrFragment, fragment6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q
from scapy.packet import Packet, Raw

from emu.traffic.crafted import Crafted, CraftedSocket
from emu.traffic.flood import kinds, values
from emu.traffic.flood.craft import ETHERTYPES, Craft
from emu.traffic.flood.kinds import Flood, ethertype_of, mix_of, ports_of
from emu.traffic.flood.layout import Vary
from emu.traffic.flood.plan import (
    GAPS_EVEN,
    GAPS_POISSON,
    RATE_BPS,
    RATE_PPS,
    VARY_COUNT,
    Plan,
    Rate,
    Train,
    Variable,
)
from emu.traffic.flood.source import Ends
from emu.traffic.flood.template import trains_of_template
from emu.traffic.host import mac_text

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
LLDP_MAC = "01:80:c2:00:00:0e"  # nearest bridge (IEEE 802.1AB)
PROTO_UDP = 17
LINUX_OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (0, 0)), ("NOP", None), ("WScale", 7)]


# --- the kinds --------------------------------------------------------------------------------------------------------


def _udp(craft: Craft) -> list[Train]:
    craft.vary_ip()
    craft.vary_ports()
    return craft.filled_trains(craft.ether() / craft.ip() / UDP(**craft.ports()))


def _multicast(craft: Craft) -> list[Train]:
    craft.vary_ip()
    craft.vary_ports()
    hops = {"ttl": 1} if craft.family == 4 else {"hlim": 1}
    return craft.filled_trains(craft.ether(group_mac(craft.to)) / craft.ip(**hops) / UDP(**craft.ports()))


def group_mac(group: str) -> str:
    """The MAC of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    address = ipaddress.ip_address(group)
    if address.version == 4:
        return mac_text(0x01005E000000 | int(address) & 0x7FFFFF)
    return mac_text(0x333300000000 | int(address) & 0xFFFFFFFF)


def _broadcast(craft: Craft) -> list[Train]:
    craft.vary_ip()
    craft.vary_ports()
    return craft.filled_trains(craft.ether(BROADCAST_MAC) / craft.ip() / UDP(**craft.ports()))


def _tcp_bulk(craft: Craft) -> list[Train]:
    craft.vary_ip()
    craft.vary_ports()
    craft.vary_seq()
    acked = craft.drawn("ack", 1 << 32)
    headers = craft.ether() / craft.ip() / TCP(**craft.ports(), flags="A", seq=0, ack=acked, window=64_240)
    return craft.filled_trains(headers, seq_bytes=0)


def _synflood(craft: Craft) -> list[Train]:
    options: dict[str, list[tuple[str, Any]]] = {"linux": list(LINUX_OPTIONS), "mss": LINUX_OPTIONS[:1], "none": []}
    craft.vary_ip()
    craft.vary_ports()
    craft.vary_opening()
    tcp = TCP(
        dport=ports_of(craft.options).first, sport=0, flags="S", window=64_240, options=options[craft.options.options]
    )
    return craft.plain_trains(craft.ether() / craft.ip() / tcp)


def _tcp_closed_port(craft: Craft) -> list[Train]:
    syn = craft.options.segment == "syn"
    craft.vary_ip()
    craft.vary_ports()
    craft.vary_opening()
    tcp = TCP(
        dport=ports_of(craft.options).first,
        sport=0,
        flags="S" if syn else "A",
        ack=0 if syn else craft.drawn("ack", 1 << 32),
        window=64_240,
        options=LINUX_OPTIONS[:1] if syn else [],
    )
    return craft.plain_trains(craft.ether() / craft.ip() / tcp)


def _icmp_echo(craft: Craft) -> list[Train]:
    craft.vary_ip()
    return craft.filled_trains(craft.ether() / craft.ip() / _echo(craft))


def _echo(craft: Craft) -> Packet:
    """An echo request (RFC 792, RFC 4443 section 4.1)."""
    kind = ICMP if craft.family == 4 else ICMPv6EchoRequest
    craft.vary_echo()
    return kind(id=craft.drawn("echo id", 1 << 16))


def _arp(craft: Craft) -> list[Train]:
    asks = craft.options.op
    craft.vary_source((ARP,), "psrc")
    if asks == "gratuitous":  # both are the sender's (RFC 5227 section 2.3), one variable
        craft.varied += [vary._replace(field="pdst") for vary in craft.varied]
    ether = craft.ether("" if asks == "reply" else BROADCAST_MAC, 0x0806)
    packet = ARP(
        op=2 if asks == "reply" else 1,
        hwsrc=ether.src,
        psrc=craft.source,
        hwdst=ether.dst if asks == "reply" else "00:00:00:00:00:00",
        pdst=craft.source if asks == "gratuitous" else craft.to,
    )
    return craft.plain_trains(ether / packet)


def _fragments(craft: Craft) -> list[Train]:
    o = craft.options
    udp = UDP(**craft.ports()) / Raw(craft.payload(o.datagram))
    if craft.family == 4:
        craft.vary_ip()
        room = (o.mtu - kinds.IP_BYTES[4]) // 8 * 8
        parts = fragment(craft.ip(proto=PROTO_UDP) / udp, room)
    else:
        craft.vary_ip()
        craft.vary((IPv6ExtHdrFragment,), "id", Variable(VARY_COUNT, craft.drawn("ip id", 1 << 32), 1 << 32))
        parts = fragment6(craft.ip() / IPv6ExtHdrFragment(id=0, nh=PROTO_UDP) / udp, o.mtu)
    everywhere = list(craft.varied)
    craft.vary_ports()  # which only the first fragment has
    frames = [bytes(craft.ether() / part) for part in parts]
    templates = [craft.template(frames[0]), *(craft.template(frame, everywhere) for frame in frames[1:])]
    lacking = templates[:-1] if o.missing == "last" else templates[1:]
    step = -1 if o.order == "reverse" else 1
    trains = [
        Train(tuple(templates[::step]), 100 - o.incomplete),
        Train(tuple(lacking[::step]), o.incomplete),
    ]
    return [train for train in trains if train.weight]


def _vlan(craft: Craft) -> list[Train]:
    o = craft.options
    craft.vary_ip()
    craft.vary_ports()
    inner = Dot1Q(vlan=o.id, prio=o.priority, type=ETHERTYPES[craft.family])
    if o.outer is None:
        tagged = craft.ether(ethertype=0x8100) / inner
    else:
        tagged = craft.ether(ethertype=0x88A8) / Dot1AD(vlan=o.outer, prio=o.priority, type=0x8100) / inner
    return craft.filled_trains(tagged / craft.ip() / UDP(**craft.ports()))


def _other_ethertype(craft: Craft) -> list[Train]:
    number = ethertype_of(craft.options)
    if number:
        return craft.filled_trains(craft.ether(ethertype=number))
    ether = craft.ether(LLDP_MAC, 0x88CC)
    chassis = LLDPDUChassisID(subtype=4, id=ether.src)  # a MAC (IEEE 802.1AB section 8.5.2)
    port = LLDPDUPortID(subtype=5, id=b"eth0")  # an interface's name
    names = LLDPDUSystemName(system_name=b"peer") / LLDPDUSystemDescription(description=b"a flood that emu crafted")
    return craft.plain_trains(ether / chassis / port / LLDPDUTimeToLive(ttl=120) / names / LLDPDUEndOfLLDPDU())


def _mixed(craft: Craft) -> list[Train]:
    craft.vary_ip()
    everywhere = list(craft.varied)
    craft.vary_ports()
    ported = list(craft.varied)
    craft.vary_seq()
    numbered = list(craft.varied)
    echo = _echo(craft)
    tcp = TCP(**craft.ports(), flags="A", seq=0, ack=craft.drawn("ack", 1 << 32), window=64_240)
    headers: dict[str, tuple[Packet, list[Vary], int]] = {
        "udp": (UDP(**craft.ports()), ported, -1),
        "tcp": (tcp, numbered, 0),
        "icmp": (echo, [*everywhere, craft.varied[-1]], -1),
    }
    trains = []
    for protocol, weight in mix_of(craft.options):
        header, varied, seq_bytes = headers[protocol]
        octets = craft.filled(craft.ether() / craft.ip() / header)
        trains.append(Train((craft.template(octets, varied, seq_bytes, bool(craft.sizes)),), weight))
    return trains


RECIPES: dict[str, Callable[[Craft], list[Train]]] = {
    "udp": _udp,
    "tcp-bulk": _tcp_bulk,
    "synflood": _synflood,
    "tcp-closed-port": _tcp_closed_port,
    "icmp-echo": _icmp_echo,
    "arp": _arp,
    "ipv6-udp": _udp,
    "multicast": _multicast,
    "broadcast": _broadcast,
    "fragments": _fragments,
    "vlan": _vlan,
    "other-ethertype": _other_ethertype,
    "jumbo": _udp,
    "mixed-imix": _mixed,
}


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan_of(flood: Flood, ends: Ends | None = None) -> Plan:
    """The plan of a flood that `flood_of` has checked; `ends` where its options leave them out.

    Errors: UsageError for a template that cannot be read or lacks a header.
    """
    o = flood.options
    craft = Craft(o, ends)
    trains = trains_of_template(flood, craft) if getattr(o, "template", None) else RECIPES[flood.kind](craft)
    return Plan(
        trains=tuple(trains),
        variables=tuple(craft.variables),
        sizes=craft.sizes if any(template.smallest for train in trains for template in train.templates) else (),
        flows=craft.flows,
        rate=rate_of(o),
        frames=o.count or 0,
        duration_ns=values.parse_duration_ns(o.duration) if o.duration else 0,
        seed=o.seed,
        comment=crafted_of_flood(flood, craft, trains).comment(),
    )


def rate_of(options: kinds.Timed) -> Rate:
    """The rate that was asked for."""
    by_bits = options.mbps is not None
    ramp = values.parse_pps(options.pps) if options.mbps is None else values.parse_mbps(options.mbps)
    first, last = (rate * (1_000_000 if by_bits else 1) for rate in ramp)
    on_ns, off_ns = values.parse_burst_ns(options.burst) if options.burst else (0, 0)
    ramp_text = options.ramp or options.duration
    ramps = first != last and ramp_text is not None
    return Rate(
        unit=RATE_BPS if by_bits else RATE_PPS,
        over=first.numerator,
        under=first.denominator,
        gaps=GAPS_POISSON if options.poisson else GAPS_EVEN,
        on_ns=on_ns,
        off_ns=off_ns,
        ramp_ns=values.parse_duration_ns(ramp_text) if ramps and ramp_text else 0,
        ramp_over=last.numerator if ramps else 0,
        ramp_under=last.denominator if ramps else 1,
    )


def crafted_of_flood(flood: Flood, craft: Craft, trains: Sequence[Train]) -> Crafted:
    """What the file says of itself: the host, and ports where nothing listens."""
    o = flood.options
    host_mac = craft.ends.host_mac
    addresses: list[str] = []
    receiver = int.from_bytes(trains[0].templates[0].octets[:6])
    if not receiver >> 40 & 1:  # to one station
        host_mac = mac_text(receiver)
    if isinstance(o, kinds.Addressed) and not getattr(o, "template", None):
        own = craft.ends.host_ipv4 if craft.family == 4 else craft.ends.host_ipv6
        to_many = isinstance(o, kinds.Multicast | kinds.Broadcast)
        addresses = [str(values.parse_ip(own)) if to_many else craft.to]
    elif isinstance(o, kinds.Addressed) and o.to:
        addresses = [craft.to]
    closed = ports_of(o) if isinstance(o, kinds.TcpClosedPort) else values.PortRange(0, 0)
    sockets = [
        CraftedSocket(match="tcp", local_port=port, closed=True)
        for port in range(closed.first, closed.first + closed.ports)
    ]
    return Crafted(recipe=kinds.recipe_text(flood), host_mac=host_mac, host_addresses=addresses, sockets=sockets)
