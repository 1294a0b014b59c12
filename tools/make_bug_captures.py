"""Make the small captures of pcaps/bugs: the same bytes every time, all of them crafted, none captured.

crowd.pcap      40 rounds: two datagrams that nobody reads, one iSCSI segment, now and then web, ping and ARP
vlan.pcap       the same rounds behind a VLAN tag
time-wait.pcap  datagrams, and an iSCSI target that repeats its last FIN to a host in TIME_WAIT
twelve.pcap     twelve frames, for the tables that are worked out by hand in tests/kernel/golden
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import PcapWriter

FOLDER = Path(__file__).parent.parent / "pcaps" / "bugs"
START_US = 1_123_459_200_000_000  # 8 August 2005, 00:00 UTC: the day of v5
GAP_US = 100
ROUNDS = 40

HOST, PEER = "10.0.0.2", "10.0.0.1"
HOST_MAC, PEER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
ISCSI = 3260
BODY = bytes(48)  # a PDU header's length


def link(vlan: int) -> Any:
    """The frame to the host up to IP, tagged if `vlan` is not 0."""
    tag = Dot1Q(vlan=vlan) if vlan else None
    ether = Ether(src=PEER_MAC, dst=HOST_MAC)
    return ether / tag if tag is not None else ether


def to_host(layer: Any, vlan: int = 0) -> Any:
    """A packet from the peer to the host."""
    return link(vlan) / IP(src=PEER, dst=HOST, id=1) / layer


def datagram(port: int, vlan: int = 0) -> Any:
    """A datagram to a socket that nobody reads."""
    return to_host(UDP(sport=40_000, dport=port) / bytes(18), vlan)


def segment(sport: int, number: int, vlan: int = 0) -> Any:
    """The `number`-th segment of a connection; its port says whose."""
    seq = 1 + number * len(BODY)
    return to_host(TCP(sport=sport, dport=50_000, seq=seq, ack=1, flags="PA", window=8192) / BODY, vlan)


def ping() -> Any:
    """An echo request."""
    return to_host(ICMP(id=7, seq=1) / bytes(18))


def arp() -> Any:
    """Somebody asks for the host's address."""
    ask = ARP(op=1, hwsrc=PEER_MAC, psrc=PEER, pdst=HOST)
    return Ether(src=PEER_MAC, dst="ff:ff:ff:ff:ff:ff") / ask / bytes(18)


def crowd(vlan: int = 0) -> Iterator[Any]:
    """Music and block I/O."""
    for number in range(ROUNDS):
        yield datagram(9000, vlan)
        yield datagram(9001, vlan)
        yield segment(ISCSI, number, vlan)
        if number % 5 == 2:
            yield segment(80, number // 5, vlan)
        if number % 10 == 7 and not vlan:
            yield ping()
            yield arp()


def time_wait() -> Iterator[Any]:
    """The host closes first; under pressure the target's FIN comes again and again."""
    flow = {"sport": ISCSI, "dport": 50_000, "window": 8192}
    back = Ether(src=HOST_MAC, dst=PEER_MAC) / IP(src=HOST, dst=PEER, id=1)
    answer = {"sport": 50_000, "dport": ISCSI, "window": 8192}
    yield back / TCP(**answer, seq=0, flags="S")
    yield to_host(TCP(**flow, seq=0, ack=1, flags="SA"))
    yield back / TCP(**answer, seq=1, ack=1, flags="A")
    yield back / TCP(**answer, seq=1, ack=1, flags="FA")
    yield to_host(TCP(**flow, seq=1, ack=2, flags="FA"))
    yield back / TCP(**answer, seq=2, ack=2, flags="A")
    for _ in range(40):
        yield datagram(9000)
    for _ in range(5):
        yield datagram(9000)
        yield to_host(TCP(**flow, seq=1, ack=2, flags="FA"))


def twelve() -> Iterator[Any]:
    """One frame of every kind that the revisions tell apart."""
    yield datagram(9000)
    yield segment(ISCSI, 0)
    yield datagram(9000)
    yield ping()
    yield segment(80, 0)
    yield arp()
    yield datagram(9000)
    yield segment(ISCSI, 1)
    yield segment(80, 1)
    yield ping()
    yield datagram(9000)
    yield segment(ISCSI, 2)


def write(folder: Path, name: str, packets: Iterator[Any]) -> None:
    """Write packets GAP_US apart."""
    with PcapWriter(str(folder / name), linktype=1) as capture:
        capture.write_header(None)
        for number, packet in enumerate(packets):
            octets = bytes(packet)
            seconds, micros = divmod(START_US + number * GAP_US, 1_000_000)
            capture.write_packet(octets, sec=seconds, usec=micros)


def make(folder: Path) -> None:
    """Make them all."""
    write(folder, "crowd.pcap", crowd())
    write(folder, "vlan.pcap", crowd(vlan=5))
    write(folder, "time-wait.pcap", time_wait())
    write(folder, "twelve.pcap", twelve())


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
