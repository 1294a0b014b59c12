"""What real networks carry, one frame or datagram of each kind, by name; built by Scapy, or bytes where it cannot."""

import struct
from typing import Any

from scapy.contrib.igmp import IGMP
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    IPv6ExtHdrSegmentRouting,
    Jumbo,
    PadN,
    RouterAlert,
    fragment6,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw
from wire_kit import cooked, cooked2

V4 = {"src": "10.0.0.1", "dst": "10.0.0.2"}
V6 = {"src": "2001:db8::1", "dst": "fe80::ffff:2"}
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
DATA = Raw(bytes(range(100)))
SEGMENT = TCP(sport=3260, dport=40_000, seq=0xFEDCBA98, ack=0x89ABCDEF, flags="PA", options=[("NOP", None)] * 12) / DATA
DATAGRAM = UDP(sport=53, dport=65_000) / DATA
LONG = Raw(bytes(index * 7 & 0xFF for index in range(4000)))

EXTENSIONS: dict[str, Packet] = {
    "hop-by-hop": IPv6ExtHdrHopByHop(options=[RouterAlert()]),
    "destination": IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(12))]),
    "routing": IPv6ExtHdrRouting(addresses=["2001:db8::5", "2001:db8::6"], segleft=0),
    "routing, two left": IPv6ExtHdrRouting(addresses=["2001:db8::5", "2001:db8::6"], segleft=2),
    "home address": IPv6ExtHdrRouting(type=2, addresses=["2001:db8::7"], segleft=1),
    "segments": IPv6ExtHdrSegmentRouting(addresses=["2001:db8::8", "2001:db8::9"], segleft=1, lastentry=1),
    "atomic fragment": IPv6ExtHdrFragment(id=7),
}
CHAIN = (
    IPv6ExtHdrHopByHop()
    / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))])
    / IPv6ExtHdrRouting(addresses=["2001:db8::5"], segleft=0)
    / IPv6ExtHdrFragment(id=9)
    / IPv6ExtHdrDestOpt()
)

UPPER: dict[str, Packet] = {
    "tcp": SEGMENT,
    "udp": DATAGRAM,
    "echo request": ICMPv6EchoRequest(id=1, seq=2, data=b"odd"),
    "echo reply": ICMPv6EchoReply(id=1, seq=2),
    "neighbour solicitation": ICMPv6ND_NS(tgt="fe80::1"),
    "port unreachable": ICMPv6DestUnreach(code=4) / IPv6(**V6) / UDP(sport=5, dport=1234) / DATA,
    "no route": ICMPv6DestUnreach(code=0) / IPv6(**V6) / UDP(sport=5, dport=1234) / DATA,
    "esp": ESP(spi=1, seq=2, data=bytes(24)),
}


def packets_v4() -> dict[str, Packet]:
    """IPv4 packets."""
    unreachable = ICMP(type=3, code=3) / IPerror(**V4, proto=17) / UDPerror(sport=5, dport=1234)
    return {
        "v4 tcp": IP(**V4) / SEGMENT,
        "v4 udp": IP(**V4) / DATAGRAM,
        "v4 udp without checksum": IP(**V4) / UDP(sport=1, dport=2, chksum=0) / DATA,
        "v4 echo request": IP(**V4) / ICMP(id=1, seq=2) / DATA,
        "v4 port unreachable": IP(**V4) / unreachable,
        "v4 igmp": IP(src="10.0.0.1", dst="224.0.0.1", ttl=1) / IGMP(type=0x16, gaddr="239.1.2.3"),
        "v4 sctp": IP(**V4, proto=132) / Raw(bytes(16)),
        "v4 bad tcp checksum": IP(**V4) / TCP(chksum=0x1234) / DATA,
        "v4 bad ip checksum": IP(**V4, chksum=0x1234) / TCP() / DATA,
        "v4 bad icmp checksum": IP(**V4) / ICMP(chksum=0x1234) / DATA,
        "v4 all-zero echo reply": IP(**V4) / ICMP(type=0, id=0, seq=0, chksum=0) / Raw(bytes(32)),
        "v4 echo reply of zeros": IP(**V4) / ICMP(type=0, id=0, seq=0) / Raw(bytes(32)),
    }


def packets_v6() -> dict[str, Packet]:
    """IPv6 packets: every upper protocol, behind every extension header and behind a chain of them."""
    made = {"v6 sctp": IPv6(**V6, nh=132) / Raw(bytes(16))}
    for name, upper in UPPER.items():
        made[f"v6 {name}"] = IPv6(**V6) / upper
        made[f"v6 chain, {name}"] = IPv6(**V6) / CHAIN / upper
        for header, extension in EXTENSIONS.items():
            made[f"v6 {header}, {name}"] = IPv6(**V6) / extension / upper
    made["v6 no next header"] = IPv6(**V6, nh=59) / Raw(bytes(20))
    made["v6 bad tcp checksum"] = IPv6(**V6) / TCP(chksum=0x1234) / DATA
    made["v6 udp without checksum"] = IPv6(**V6) / UDP(sport=1, dport=2, chksum=0) / DATA
    made["v6 bad icmpv6 checksum"] = IPv6(**V6) / ICMPv6EchoRequest(cksum=0x1234)
    made["v6 ah"] = IPv6(**V6, nh=51) / AH(nh=59, payloadlen=4, spi=1, seq=1, icv=bytes(12)) / Raw(b"")
    return made


def fragments() -> dict[str, Packet]:
    """Datagrams of both families cut into pieces."""
    made = {}
    layers = {"tcp": TCP(sport=1, dport=2, ack=3, seq=4), "udp": UDP(sport=1, dport=2)}
    for name, layer in {**layers, "icmp": ICMP()}.items():
        for at, piece in enumerate(fragment(IP(**V4, id=0xBEEF) / layer / LONG, fragsize=1400)):
            made[f"v4 {name} fragment {at}"] = IP(bytes(piece))
    for name, layer in {**layers, "icmpv6": ICMPv6EchoRequest()}.items():
        whole = IPv6(**V6) / IPv6ExtHdrFragment(id=0xFEEDBEEF) / layer / LONG
        for at, piece in enumerate(fragment6(whole, 1400)):
            made[f"v6 {name} fragment {at}"] = IPv6(bytes(piece))
        options = IPv6(**V6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(id=5) / IPv6ExtHdrDestOpt() / layer / LONG
        for at, piece in enumerate(fragment6(options, 1280)):
            made[f"v6 {name} fragment {at} with options"] = IPv6(bytes(piece))
    return made


def network_packets() -> dict[str, bytes]:
    """Every IP packet of this corpus."""
    return {name: bytes(packet) for name, packet in (packets_v4() | packets_v6() | fragments()).items()}


def ethertype_of(packet: bytes) -> int:
    """The ethertype of an IP packet."""
    return 0x0800 if packet[0] >> 4 == 4 else 0x86DD


def ethernet_frames() -> dict[str, bytes]:
    """All of it over Ethernet, and what only Ethernet carries."""
    made: dict[str, Any] = {
        name: Ether(**MACS, type=ethertype_of(packet)) / Raw(packet) for name, packet in network_packets().items()
    }
    tags = {
        "vlan": Dot1Q(vlan=5, prio=3),
        "qinq": Dot1AD(vlan=100) / Dot1Q(vlan=200),
        "two 802.1Q": Dot1Q(vlan=1) / Dot1Q(vlan=2),
        "five tags": Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / Dot1Q(vlan=4) / Dot1Q(vlan=5),
        "eight tags": Dot1AD() / Dot1Q(vlan=2) / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q() / Dot1Q(vlan=9),
    }
    for name, tag in tags.items():
        made[f"{name}, tcp"] = Ether(**MACS) / tag / IP(**V4) / SEGMENT
        made[f"{name}, v6 udp"] = Ether(**MACS) / tag / IPv6(**V6) / DATAGRAM
        made[f"{name}, arp"] = Ether(**MACS) / tag / ARP(psrc="10.0.0.1", pdst="10.0.0.2")
    made["arp"] = Ether(**MACS) / ARP(psrc="10.0.0.1", pdst="10.0.0.2")
    made["llc"] = Dot3(**MACS) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35))
    made["snap"] = Dot3(**MACS) / LLC() / SNAP(code=0x0800) / IP(**V4) / SEGMENT
    made["lldp"] = Ether(**MACS, type=0x88CC) / Raw(bytes(46))
    return {name: bytes(frame) for name, frame in made.items()}


def frames_of(linktype: int) -> dict[str, bytes]:
    """The corpus as frames of a link type."""
    if linktype == 1:
        return ethernet_frames()
    made: dict[str, bytes] = {}
    for name, packet in network_packets().items():
        v4 = packet[0] >> 4 == 4
        if linktype in (0, 108):
            family = 2 if v4 else (24, 28, 30)[len(made) % 3]
            order = "<" if linktype == 0 and len(made) % 2 else ">"
            made[name] = struct.pack(order + "I", family) + packet
        elif linktype == 113:
            made[name] = cooked(ethertype_of(packet), packet)
        elif linktype == 276:
            made[name] = cooked2(ethertype_of(packet), packet)
        elif linktype in (101, 12, 14) or linktype == (228 if v4 else 229):
            made[name] = packet
    return made


def jumbogram(payload: int = 70_000) -> bytes:
    """An IPv6 packet longer than its length field can say."""
    packet = IPv6(**V6, plen=0) / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=8 + 20 + payload)]) / TCP(flags="A")
    return bytes(packet) + bytes(payload)
