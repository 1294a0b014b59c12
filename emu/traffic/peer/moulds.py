"""What Scapy and the seed make for the world: moulds of segments, texts of logins, the pool of data."""

import ipaddress
from fractions import Fraction
from typing import NamedTuple

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Dot1Q, Ether

from emu.traffic.iscsi.options import Terms
from emu.traffic.iscsi.templates import (
    HOST_MAX_RECV_BYTES,
    SEGMENT_OPTIONS,
    STAMPS,
    TARGET_NAMES,
    TTL,
    ipv4_sums,
    login_keys,
    login_names,
    octets_of_seed,
)
from emu.traffic.peer.setup import BASIC_HEADER_BYTES, BULK_BYTES, PeerSetup, TargetSetup, Texts, WorldSetup
from emu.wire import ethernet, ipv4, tcp
from emu.wire.ipv4 import PROTO_TCP
from emu.wire.iscsi import LoginRequest

VLAN_TAG_BYTES = 4
TIMESTAMP_BYTES = 12
DRAWN = 8  # numbers of four bytes for each connection


class Numbers(NamedTuple):
    """What the seed decides for a connection: fields of its `End`, and of its `Target`."""

    end: dict[str, int]
    target: dict[str, int]


def numbers_of(seed: int, conn: int) -> Numbers:
    """Numbers that a connection's ends begin with."""
    octets = octets_of_seed(seed, f"peer {conn}", 4 * DRAWN)
    words = [int.from_bytes(octets[4 * n : 4 * n + 4], "big") for n in range(DRAWN)]
    end = {
        "isn": words[0],
        "ip_id": words[1] & 0xFFFF,
        "stamp0": words[2],
        "host_ip_id": words[3] & 0xFFFF,
        "host_stamp0": words[4],
    }
    target = {"jitter": words[5] & 0x7FFFFFFF, "tsih": words[6] % 0xFFFF + 1, "ttt": words[7] & 0x7FFFFFFF}
    return Numbers(end, target)


def address_number(text: str) -> int:
    """An IPv4 address as a number."""
    return int(ipaddress.IPv4Address(text))


def mac_number(text: str) -> int:
    """A MAC address as a number."""
    return int(text.replace(":", ""), 16)


def mac_of(address: str) -> str:
    """The MAC of a peer: locally administered, made of its address."""
    return "02:01:" + ":".join(f"{octet:02x}" for octet in ipaddress.IPv4Address(address).packed)


def moulds_of(
    moulds: bytearray, peer: PeerSetup, host_mac: str, host_scale: int, peer_scale: int
) -> list[dict[str, int]]:
    """Append a connection's four moulds, in the order of `state.MOULDS_OF_CONN`; the fields of each `Mould`."""
    host = (host_mac, peer.host_address, 0)
    other = (mac_of(peer.address), peer.address, peer.port)
    found = []
    for source, sink, scale in ((host, other, host_scale), (other, host, peer_scale)):
        mss = peer.mss + TIMESTAMP_BYTES
        for options in ([("MSS", mss), STAMPS, ("NOP", None), ("WScale", scale)], SEGMENT_OPTIONS):
            link = Ether(src=source[0], dst=sink[0])
            if peer.vlan:
                link = link / Dot1Q(vlan=peer.vlan)
            network = IP(src=source[1], dst=sink[1], ttl=TTL, flags="DF", id=0, len=0, chksum=0, proto=PROTO_TCP)
            transport = TCP(sport=source[2], dport=sink[2], seq=0, ack=0, flags=0, window=0, chksum=0, options=options)
            head = bytes(link / network / transport)
            ip_at = ethernet.HEADER_LEN + (VLAN_TAG_BYTES if peer.vlan else 0)
            ip_sum, pseudo_sum = ipv4_sums(head, ip_at)
            stamp_at = ip_at + ipv4.HEADER_LEN + tcp.HEADER_LEN + (6 if options is not SEGMENT_OPTIONS else 4)
            found.append(
                {
                    "head_at": len(moulds),
                    "head_bytes": len(head),
                    "ip_at": ip_at,
                    "ip_sum": ip_sum,
                    "pseudo_sum": pseudo_sum,
                    "stamp_at": stamp_at,
                }
            )
            moulds += head
    return found


def terms_of(target: TargetSetup) -> Terms:
    """What both ends of a session agree on, as a crafted session has it."""
    return Terms(
        family=4,
        initiator=target.peer.host_address,
        target=target.peer.address,
        writes=0,
        write_bytes=0,
        immediate_bytes=int(target.immediate_data),
        first_burst_bytes=target.first_burst_bytes,
        max_burst_bytes=target.max_burst_bytes,
        max_recv_bytes=target.max_recv_bytes,
        mss=target.peer.mss,
        header_digest=False,
        data_digest=False,
        service_ns=target.service_ns,
        rtt_ns=0,
        pps=Fraction(0),
        nop_ns=0,
    )


def text_of(pairs: list[tuple[str, str]]) -> bytes:
    """The data segment of a login PDU with these keys, without padding."""
    pdu = bytes(LoginRequest(KeyValues=pairs))
    return pdu[BASIC_HEADER_BYTES : BASIC_HEADER_BYTES + int.from_bytes(pdu[5:8], "big")]


def pool_of(setup: WorldSetup, sense: bytes) -> tuple[bytearray, list[Texts], int]:
    """The pool: data from the seed, then texts and sense data; where each session's texts are, and the sense data."""
    room = BULK_BYTES + max((target.max_recv_bytes for target in setup.targets), default=0)
    pool = bytearray(octets_of_seed(setup.seed, "pool", room))
    texts = []
    for s, target in enumerate(setup.targets):
        terms = terms_of(target)
        said = (
            login_names(s),
            login_keys(terms, HOST_MAX_RECV_BYTES, False, target.initial_r2t),
            TARGET_NAMES,
            login_keys(terms, terms.max_recv_bytes, True, target.initial_r2t),
        )
        places = []
        for pairs in said:
            text = text_of(pairs)
            places.append((len(pool), len(text)))
            pool += text
        texts.append(Texts((places[0], places[1]), (places[2], places[3])))
    sense_at = len(pool)
    pool += sense
    return pool, texts, sense_at
