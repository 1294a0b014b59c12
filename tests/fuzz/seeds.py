"""Writes the fuzzers' first inputs, tests/fuzz/corpus: small captures of each format, frames, scenarios, streams."""

import gzip
import struct
from pathlib import Path

from fuzz_kit import HOST, PEER, tiny_pcap, udp_frame
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

CORPUS = Path(__file__).parent / "corpus"
FRAMES = [udp_frame(53, b"abcdef"), udp_frame(9, b"")]
LINKTYPES = (1, 0, 108, 101, 12, 14, 228, 229, 113, 276)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + length + body + length


def pcapng(order: str = "<") -> bytes:
    """A section with an interface, two packets, a comment and a block that nobody knows."""
    option = struct.pack(f"{order}HH", 1, 3) + b"why\0" + bytes(4)
    section = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1) + option, order)
    name = struct.pack(f"{order}HH4sHHB3x", 2, 4, b"eth0", 9, 1, 9) + bytes(4)
    interface = block(1, struct.pack(f"{order}HHI", 1, 0, 0) + name, order)
    packets = b""
    for number, frame in enumerate(FRAMES):
        head = struct.pack(f"{order}IIIII", 0, 0, 1000 * number, len(frame), len(frame))
        flags = struct.pack(f"{order}HHI", 2, 4, 1) + bytes(4)
        packets += block(6, head + frame + bytes(-len(frame) % 4) + flags, order)
    simple = block(3, struct.pack(f"{order}I", len(FRAMES[0])) + FRAMES[0], order)
    return section + interface + packets + simple + block(0x0BAD, b"whatever", order)


def captures() -> dict[str, bytes]:
    """Captures by name."""
    found = {f"pcap-linktype-{linktype}": tiny_pcap(FRAMES, linktype=linktype) for linktype in LINKTYPES}
    found |= {"pcap-cut": tiny_pcap(FRAMES)[:-5], "pcap-usec": tiny_pcap(FRAMES, magic=0xA1B2C3D4)}
    found |= {"pcap-kuznetzov": tiny_pcap(FRAMES, magic=0xA1B2CD34), "empty": b"", "pcap-none": tiny_pcap([])}
    found |= {"pcapng-little": pcapng(), "pcapng-big": pcapng(">"), "pcapng-two-sections": pcapng() + pcapng(">")}
    big = struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack(">IIII", 1, 2, 4, 60) + b"abcd"
    found |= {"pcap-big": big, "pcap.gz": gzip.compress(tiny_pcap(FRAMES), mtime=0)}
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    return found | {"pcapng.zst": zstd.compress(pcapng())}


def frames() -> dict[str, bytes]:
    """Frames by name, each behind the 8 bytes that choose how it is read."""
    ether = Ether(src=PEER.hex(":"), dst=HOST.hex(":"))
    four, six = IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")
    quoted = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=53)
    made = {
        "udp": ether / four / UDP(dport=53) / Raw(b"hello"),
        "tcp": ether / four / TCP(dport=3260, flags="PA") / Raw(bytes(20)),
        "tcp-options": ether / four / TCP(options=[("MSS", 1460), ("NOP", None), ("WScale", 7)]),
        "icmp": ether / four / ICMP() / Raw(b"ping"),
        "icmp-unreachable": ether / four / ICMP(type=3, code=3) / quoted,
        "arp": ether / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
        "fragment": ether / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF", proto=17) / Raw(bytes(24)),
        "vlan": ether / Dot1Q(vlan=5) / Dot1Q(vlan=7) / four / UDP() / Raw(b"x"),
        "ipv6-udp": ether / six / UDP(dport=53) / Raw(b"hello"),
        "ipv6-tcp": ether / six / TCP(dport=80),
        "ipv6-echo": ether / six / ICMPv6EchoRequest(),
        "ipv6-fragment": ether / six / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(nh=17, m=1) / Raw(bytes(16)),
        "options": ether / IP(src="10.0.0.1", dst="10.0.0.2", options=b"\x07\x04\x05\x00") / UDP(),
        "lldp": Ether(dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(20)),
    }
    found = {name: bytes(8) + bytes(frame) for name, frame in made.items()}
    bare = {"raw": 3, "null": 1, "sll": 8, "sll2": 9}
    for name, linktype in bare.items():
        found[name] = bytes((linktype,)) + bytes(7) + bytes(16) + bytes(made["udp"])[14:]
    return found


def scenarios() -> dict[str, bytes]:
    """Scenarios by name."""
    return {
        "empty": b"",
        "tables": b'schema = 1\nwhy = "a test"\n[machine]\nmemory = "64MiB"\n[[device]]\nname = "eth1"\nring = 80\n'
        b'[pressure]\nstart = "quiet"\nbackground_skbs = 0\n[[socket]]\nmatch = "udp port 53"\nclosed = true\n',
        "dotted": b"policy.name = 'mainline'\npolicy.rules = {check_tcp = 0}\nexpect = [\"frames == 1\", # one\n]\n",
        "bad": b"nothing = 1\n[readers]\nrate = 'fast'\n[[socket]]\n",
        "strings": b"why = \"\"\"\n[machine]\n\"\"\"\n'quoted key' = '''\n'''\n",
        "settings": b"\n###\nmachine.memory=32MiB\ndevice.0.ring=80\npressure.background_skbs=0\n",
    }


def streams() -> dict[str, bytes]:
    """Event streams by name."""
    first = (
        b'["poll-begin", 3, 1000010000, 0, 4]\n["packets", 3, 1000010000, 0, 3]\n["poll-end", 3, 1000010000, 0, 0]\n'
    )
    rest = b'["read", 9, 1000080000, 1, 2]\n["pages", 9, 1000080000, 1, 5]\n["pages", 9, 1000080001, 1, -5]\n'
    timers = b'["reap", 12, 2000000000, 0, 0]\n["tick", 12, 2000000000, 0, 0]\n["context", 12, 2000000000, 0, 0]\n'
    not_held = b'["pages", 3, 1000010000, 1, 7]\n["pages", 3, 1000010000, 1, -16777216]\n'
    return {
        "pages-not-held": not_held,
        "polls": first,
        "memory": first + rest,
        "timers": timers,
        "header": b'{"emu_events": 1}\n' + rest,
    }


def main() -> None:
    """Write them all."""
    for target, made in (
        ("capture", captures()),
        ("dissect", frames()),
        ("scenario", scenarios()),
        ("events", streams()),
    ):
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, octets in made.items():
            (folder / name).write_bytes(octets)


if __name__ == "__main__":
    main()
