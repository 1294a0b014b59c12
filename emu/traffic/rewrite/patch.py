"""Checksums that follow a change (RFC 1624), and addresses and ports that are looked up and stored.

A stored checksum is moved by what the words that it covers have changed by, so that a right one stays right and a wrong
one wrong.  Of one's complement's two zeros it becomes the one that a sender would have written.
Functions here run plain and compiled.
"""

from typing import Any

from emu.traffic.rewrite.rules import Rules
from emu.wire.checksum import addresses_sum, ones_sum
from emu.wire.octets import Octets, be16, be32, be64_signed, put_be16, put_be32

UDP_ZERO = 0xFFFF  # the zero that a UDP checksum is written as, for 0 says that there is none (RFC 768)
FROM_REMOTE, TO_REMOTE = 1, 2  # which of a packet's ends a loop moves: bits


def move_checksum(octets: bytearray, at: int, delta: int, zero: int) -> None:
    """Have the checksum at `at` follow words whose sum has grown by `delta`; `zero`: how it is written when it is 0."""
    if delta % 65535 != 0:
        value = (be16(octets, at) - delta) % 65535
        put_be16(octets, at, value if value > 0 else zero)


def is_unfinished(octets: Octets, at: int, length: int, captured: int, where: int, pseudo: int) -> bool:
    """Whether the checksum at offset `where` of the segment octets[at:at + length] covers the pseudo header alone.

    So the sender's NIC gets it.  `pseudo` is the pseudo header's sum, negative where there is none to tell by.
    """
    stored = be16(octets, at + where)
    if pseudo <= 0 or stored == 0 or stored % 65535 != pseudo % 65535:
        return False
    return captured < length or (pseudo + ones_sum(octets, at, at + length)) % 65535 != 0


def move_l4_checksum(octets: bytearray, at: int, unfinished: bool, addresses: int, words: int, zero: int) -> None:
    """Have a transport checksum follow its pseudo header's `addresses` and the `words` of its segment."""
    if not unfinished:
        move_checksum(octets, at, addresses + words, zero)
    elif addresses % 65535 != 0:
        value = (be16(octets, at) + addresses) % 65535
        put_be16(octets, at, value if value > 0 else 0xFFFF)


def map_mac(r: Rules, macs: Any, octets: bytearray, at: int) -> None:
    """Map the Ethernet address at `at`."""
    if r.macs == 0:
        return
    mac = be16(octets, at) << 32 | be32(octets, at + 2)
    for index in range(r.macs):
        if macs[index].old == mac:
            put_be16(octets, at, macs[index].new >> 32)
            put_be32(octets, at + 2, macs[index].new & 0xFFFFFFFF)
            r.hit = 1
            return


def mapped4(r: Rules, nets: Any, address: int) -> int:
    """What an IPv4 address becomes."""
    for index in range(r.nets):
        net = nets[index]
        if net.family == 4 and address & net.mask_lo == net.old_lo:
            return int(net.new_lo | (address & ~net.mask_lo & 0xFFFFFFFF))
    return address


def moved4(address: int, add: int) -> int:
    """A remote IPv4 address in a later round: `add` networks of 256 addresses on, within its first octet's network.

    What is no host's address (0/8, 127/8, multicast and above) stays.
    """
    top = address >> 24
    if top == 0 or top == 127 or top >= 224:
        return address
    return (address & 0xFF0000FF) | ((address >> 8) + add & 0xFFFF) << 8


def map_ends4(r: Rules, nets: Any, octets: bytearray, src: int, dst: int, remote: int) -> int:
    """Map the two IPv4 addresses at `src` and `dst`, move the `remote` ones; by how much their sum has grown."""
    old_source = be32(octets, src)
    old_destination = be32(octets, dst)
    source = mapped4(r, nets, old_source)
    destination = mapped4(r, nets, old_destination)
    if r.address_add:
        alone = source != destination  # an ARP announcement has the same address twice
        if remote & FROM_REMOTE or not alone:
            moved = moved4(source, r.address_add)
            if moved == destination and remote & TO_REMOTE == 0:
                moved = moved4(source, r.address_spare)
            if remote & TO_REMOTE or not alone:
                destination = moved4(destination, r.address_add)
            source = moved
        elif remote & TO_REMOTE:
            moved = moved4(destination, r.address_add)
            destination = moved4(destination, r.address_spare) if moved == source else moved
    if source == old_source and destination == old_destination:
        return 0
    r.hit = 1
    put_be32(octets, src, source)
    put_be32(octets, dst, destination)
    return addresses_sum(source, destination) - addresses_sum(old_source, old_destination)


def map_address6(r: Rules, nets: Any, octets: bytearray, at: int) -> None:
    """Map the IPv6 address at `at`."""
    if r.nets == 0:
        return
    high = be64_signed(octets, at)
    low = be64_signed(octets, at + 8)
    for index in range(r.nets):
        net = nets[index]
        if net.family == 6 and high & net.mask_hi == net.old_hi and low & net.mask_lo == net.old_lo:
            high = net.new_hi | (high & ~net.mask_hi)
            low = net.new_lo | (low & ~net.mask_lo)
            put_be32(octets, at, high >> 32 & 0xFFFFFFFF)
            put_be32(octets, at + 4, high & 0xFFFFFFFF)
            put_be32(octets, at + 8, low >> 32 & 0xFFFFFFFF)
            put_be32(octets, at + 12, low & 0xFFFFFFFF)
            r.hit = 1
            return


def move_address6(r: Rules, octets: bytearray, at: int, other: int) -> None:
    """Move the remote IPv6 address at `at` into this round: its bits 16 to 31 count it.

    What is no host's address (multicast, ::/64) stays; it never becomes the one at `other`, -1: whatever.
    """
    high = be64_signed(octets, at)
    if high == 0 or high >> 56 & 0xFF == 0xFF:
        return
    word = be16(octets, at + 12)
    put_be16(octets, at + 12, word + r.address_add & 0xFFFF)
    if (
        other >= 0
        and high == be64_signed(octets, other)
        and be64_signed(octets, at + 8) == be64_signed(octets, other + 8)
    ):
        put_be16(octets, at + 12, word + r.address_spare & 0xFFFF)
    r.hit = 1


def map_ends6(r: Rules, nets: Any, octets: bytearray, src: int, dst: int, remote: int) -> None:
    """Map the two IPv6 addresses at `src` and `dst`, move the `remote` ones."""
    map_address6(r, nets, octets, src)
    map_address6(r, nets, octets, dst)
    if r.address_add and remote & FROM_REMOTE:
        move_address6(r, octets, src, -1 if remote & TO_REMOTE else dst)
    if r.address_add and remote & TO_REMOTE:
        move_address6(r, octets, dst, -1 if remote & FROM_REMOTE else src)


def mapped_port(r: Rules, ports: Any, protocol: int, port: int) -> int:
    """What a port of TCP or UDP becomes."""
    for index in range(r.ports):
        row = ports[index]
        if (row.protocol == 0 or row.protocol == protocol) and row.first <= port <= row.last:
            return int(row.to + port - row.first)
    return port


def moved_port(port: int, add: int) -> int:
    """A client's port in a later round: within 1024 to 65535; the system's own ports stay."""
    return port if port < 1024 else 1024 + (port - 1024 + add) % 64512


def map_ports(r: Rules, ports: Any, octets: bytearray, at: int, protocol: int) -> None:
    """Map the two ports at `at`; of a pair, a loop moves the larger one, the client's as a rule."""
    old_source = be16(octets, at)
    old_destination = be16(octets, at + 2)
    source = mapped_port(r, ports, protocol, old_source)
    destination = mapped_port(r, ports, protocol, old_destination)
    if r.port_add and source > destination:
        source = moved_port(source, r.port_add)
    elif r.port_add and destination > source:
        destination = moved_port(destination, r.port_add)
    if source != old_source or destination != old_destination:
        r.hit = 1
        put_be16(octets, at, source)
        put_be16(octets, at + 2, destination)
