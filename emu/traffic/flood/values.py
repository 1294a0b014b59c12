"""The words in which a flood is asked for, as exact numbers: rates, times, sizes, ports, networks, payloads.

Every parser raises ValueError with a sentence that says what was expected; who calls knows the option's name.
"""

import hashlib
import ipaddress
import re
from fractions import Fraction
from typing import NamedTuple

from emu.scenario_parts import time_ns_of
from emu.traffic.flood.plan import Sizes
from emu.traffic.host import MAC, mac_number, mac_text

RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([kMG]?)")
UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}
PPS = (Fraction(1, 1000), Fraction(10**10))  # slowest and fastest
MBPS = (Fraction(1, 10**6), Fraction(10**6))
MOST_PORTS = 1024
IMIX = ((60, 7), (590, 4), (1514, 1))  # IP packets of 40, 576 and 1500 bytes, as frames: the usual "simple IMIX"
LIST_SEPARATORS = re.compile(r"[+;,]")
PAYLOADS = ("text", "zeros", "random")
PAYLOAD_TEXT = b"This frame was crafted by emu; nobody waits for an answer to it. "

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Ramp(NamedTuple):
    """A rate, and the one that it grows or falls to; both the same: no ramp."""

    first: Fraction
    last: Fraction


class PortRange(NamedTuple):
    """So many ports from `first` on."""

    first: int
    ports: int


def parse_pps(text: str) -> Ramp:
    """Frames per second such as `200k` or `1.5M`, or `10k..1M`: from the one to the other.

    Errors: ValueError; 0 is none.
    """
    return _ramp(text, *PPS, "0.001 to 10G frames per second")


def parse_mbps(text: str) -> Ramp:
    """Megabits per second, written in the same way.

    Errors: ValueError.
    """
    return _ramp(text, *MBPS, "0.000001 to 1M Mbit/s")


def _ramp(text: str, slowest: Fraction, fastest: Fraction, bounds: str) -> Ramp:
    rates = []
    for word in text.split("..", 1):
        found = RATE.fullmatch(word)
        rates.append(Fraction(found[1]) * UNITS[found[2]] if found else Fraction(0))
        if not slowest <= rates[-1] <= fastest:
            raise ValueError(f"expected a rate above 0 such as 0.5, 200k, 1.5M or a ramp such as 10k..1M; {bounds}")
    return Ramp(rates[0], rates[-1])


def parse_duration_ns(text: str) -> int:
    """A time such as `10s`, `1.5ms` or `250us`, in ns.

    Errors: ValueError, for 0 too.
    """
    try:
        duration = time_ns_of(text)
    except ValueError:
        duration = 0
    if not 0 < duration < 1 << 60:
        raise ValueError("expected a time above 0 with its unit (ns, us, ms, s, min, h), such as 10s or 1.5ms")
    return duration


def parse_burst_ns(text: str) -> tuple[int, int]:
    """Bursts such as `10ms/90ms`: for how long frames are sent, and for how long then none, in ns.

    Errors: ValueError.
    """
    on, _, off = text.partition("/")
    try:
        return parse_duration_ns(on), parse_duration_ns(off)
    except ValueError:
        raise ValueError("expected two times ON/OFF above 0, such as 10ms/90ms") from None


def parse_sizes(text: str) -> tuple[Sizes, ...]:
    """Frame sizes: `64`, `64..1500` (evenly), `imix`, or a list with weights such as `64:7+576..600:4+1514`.

    The list's separator is `+` or `;` (a comma where the text stands alone).  Bytes without FCS.
    Errors: ValueError; whether the protocol fits in is not asked here.
    """
    if text == "imix":
        return tuple(Sizes(size, size, weight) for size, weight in IMIX)
    return tuple(_sizes(part.strip()) for part in LIST_SEPARATORS.split(text))


def _sizes(text: str) -> Sizes:
    found = re.fullmatch(r"([0-9]{1,6})(?:\.\.([0-9]{1,6}))?(?::([0-9]{1,6}))?", text)
    if found is None:
        raise ValueError("expected bytes such as 64, 64..1500, imix, or a list with weights such as 64:7+576:4+1514:1")
    least, most, weight = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
    if most < least:
        raise ValueError(f"{least}..{most} counts down; expected the smaller size first")
    if weight == 0:
        raise ValueError(f"{text}: expected a weight of at least 1")
    return Sizes(least, most, weight)


def parse_ports(text: str, first: int) -> PortRange:
    """Ports: `9000-9015`, or `16`: how many, from the port `first` on.

    Errors: ValueError: not of that form, not within 1 to 65535, counting down, or more than 1024.
    """
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    if found is None:
        raise ValueError("expected a range of ports such as 9000-9015, or how many, such as 16")
    ports = PortRange(first, int(found[1]))
    if found[2] is not None:
        if int(found[2]) < int(found[1]):
            raise ValueError("the range counts down; expected the smaller port first")
        ports = PortRange(int(found[1]), int(found[2]) - int(found[1]) + 1)
    if ports.ports == 0:
        raise ValueError("no port at all; expected a range of ports such as 9000-9015, or how many, such as 16")
    last = ports.first + ports.ports - 1
    if not 1 <= ports.first <= last <= 65535:
        raise ValueError(f"ports {ports.first} to {last}; expected ports from 1 to 65535")
    if ports.ports > MOST_PORTS:
        hint = "" if found[2] else f"; `port` names the first, or write {text}-{text} for the one port {text}"
        raise ValueError(f"{ports.ports} ports; expected at most {MOST_PORTS}{hint}")
    return ports


def parse_ip(text: str) -> IpAddress:
    """An IPv4 or IPv6 address without a zone.

    Errors: ValueError.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or (isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None):
        raise ValueError("expected an IPv4 or IPv6 address, such as 10.0.0.2 or fd00::2")
    return address


def parse_network(text: str) -> Network:
    """A network such as `198.18.0.0/15` or `fd00:bad::/64`.

    Errors: ValueError, also where bits are set that the prefix leaves out, or senders cannot be of it (multicast).
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        hint = ": host bits are set" if "host bits" in str(error) else ""
        raise ValueError(f"expected a network such as 198.18.0.0/15 or fd00:bad::/64{hint}") from None
    if network.is_multicast:
        raise ValueError("nobody sends from a multicast address; expected a network of hosts, such as 198.18.0.0/15")
    return network


def parse_mac(text: str) -> str:
    """A MAC address, as we write it.

    Errors: ValueError.
    """
    if not MAC.match(text):
        raise ValueError("expected a MAC address such as 02:00:00:00:00:02")
    return mac_text(mac_number(text))


def parse_payload(text: str) -> str:
    """A payload's name, checked: text, zeros, random (drawn from the seed) or `hex:` with bytes that repeat.

    Errors: ValueError.
    """
    digits = text.removeprefix("hex:")
    if text in PAYLOADS or (text.startswith("hex:") and re.fullmatch(r"(?:[0-9a-fA-F]{2}){1,1024}", digits)):
        return text
    raise ValueError(f"expected {', '.join(PAYLOADS)}, or hex: with 1 to 1024 bytes, such as hex:deadbeef")


def payload_bytes(name: str, size_bytes: int, seed: int) -> bytes:
    """So many bytes of a payload that `parse_payload` has checked."""
    if name == "random":
        return hashlib.shake_128(f"emu payload {seed}".encode()).digest(size_bytes)
    pattern = {"text": PAYLOAD_TEXT, "zeros": bytes(1)}.get(name) or bytes.fromhex(name.removeprefix("hex:"))
    return (pattern * (size_bytes // len(pattern) + 1))[:size_bytes]


def drawn(seed: int, what: str, span: int) -> int:
    """A number below `span` that hangs on the seed alone: what a recipe draws once, such as an initial sequence number.

    The bias is below span / 2**128.
    """
    return int.from_bytes(hashlib.shake_128(f"emu {what} {seed}".encode()).digest(16)) % span
