"""What a user asks to have rewritten, from the texts of the options to a checked `Rewrite`.

A map is applied once to each address or port, so `A=B` and `B=A` together swap two ends.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import combinations
from typing import TypeVar

from msgspec import Struct

from emu.errors import UsageError
from emu.traffic.host import mac_number

NS = 1_000_000_000
END_OF_TIMES_NS = 1 << 62  # no reader gives a later time
MOST_ROUNDS = 1_000_000_000

DISTINCT = ("none", "addresses", "ports", "seq")
FIELD_ROUNDS = {"addresses": 65_535, "ports": 64_512}  # how many rounds the field that is moved can tell apart

ANY_PROTOCOL = 0
PROTOCOLS = {"tcp": 6, "udp": 17}

MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}", re.IGNORECASE)
PORTS = re.compile(r"(?:(tcp|udp):)?(\d{1,5})(?:-(\d{1,5}))?=(\d{1,5})(?:-(\d{1,5}))?")
TIME = re.compile(r"([+-]?)(\d{1,12}(?:\.\d{1,9})?)(ns|us|ms|s|m|h|d)?")
UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86_400 * NS}
ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?)?")
EPOCH = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?")

T = TypeVar("T")


class MacMap(Struct, frozen=True):
    """Ethernet address `old` becomes `new`; 48 bits each."""

    old: int
    new: int


class NetMap(Struct, frozen=True):
    """The addresses of network `old` become those of `new`, their host bits kept; `family` is 4 or 6."""

    family: int
    prefix: int
    old: int
    new: int

    def contains(self, other: "NetMap") -> bool:
        """Whether all addresses that `other` maps are of this network too."""
        return self.family == other.family and self.prefix <= other.prefix and not (self.old ^ other.old) >> self.host

    @property
    def host(self) -> int:
        """How many bits are kept."""
        return (32 if self.family == 4 else 128) - self.prefix

    def mapped(self, address: int) -> int:
        """What one of the network's addresses becomes."""
        return self.new | address & ((1 << self.host) - 1)


class PortMap(Struct, frozen=True):
    """Ports `first` to `last` become those from `to` on; `protocol` is TCP's, UDP's, or ANY_PROTOCOL for both."""

    protocol: int
    first: int
    last: int
    to: int


class Rewrite(Struct, frozen=True, kw_only=True):
    """What to rewrite; nothing by default.  Networks are ordered such that the first that fits is the longest."""

    macs: tuple[MacMap, ...] = ()
    nets: tuple[NetMap, ...] = ()
    ports: tuple[PortMap, ...] = ()
    shift_ns: int = 0
    rebase_ns: int | None = None  # the time of the first frame
    truncate: int | None = None  # bytes that are kept of each frame
    fix_checksums: bool = False
    loop: int = 1  # how many times the source is played
    loop_gap_ns: int | None = None  # between two rounds; None: the mean gap between frames
    loop_distinct: str = "seq"  # of DISTINCT: what tells one round from another

    @property
    def is_empty(self) -> bool:
        """Whether frames pass as they are."""
        return self == Rewrite()


NOTHING = Rewrite()


def parse_rewrite(
    *,
    map_mac: Sequence[str] | None = None,
    map_ip: Sequence[str] | None = None,
    map_port: Sequence[str] | None = None,
    shift_time: str | None = None,
    rebase_time: str | None = None,
    truncate: int | None = None,
    fix_checksums: bool = False,
    loop: int | None = None,
    loop_gap: str | None = None,
    loop_distinct: str | None = None,
) -> Rewrite:
    """The options of rewriting as one `Rewrite`; each argument is called as its option.

    Errors: UsageError naming the option where a text cannot be understood, where maps contradict one another (the same
    address or port twice, two that would become one), where address families are mixed, where options exclude each
    other or have nothing to work on.
    """
    if shift_time is not None and rebase_time is not None:
        raise UsageError("--shift-time and --rebase-time exclude each other")
    if truncate is not None and truncate < 1:
        raise UsageError(f"--truncate {truncate}: expected a number of bytes from 1 up")
    rounds = 1 if loop is None else loop
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"--loop {loop}: expected a number of rounds from 1 to {MOST_ROUNDS}")
    for option, text in (("--loop-gap", loop_gap), ("--loop-distinct", loop_distinct)):
        if text is not None and rounds == 1:
            raise UsageError(f"{option} {text}: there is no loop; expected --loop N with N from 2 up beside it")
    return Rewrite(
        macs=_mac_maps(map_mac or ()),
        nets=_net_maps(map_ip or ()),
        ports=_port_maps(map_port or ()),
        shift_ns=0 if shift_time is None else duration_ns("--shift-time", shift_time, signed=True),
        rebase_ns=None if rebase_time is None else _instant_ns("--rebase-time", rebase_time),
        truncate=truncate,
        fix_checksums=fix_checksums,
        loop=rounds,
        loop_gap_ns=None if loop_gap is None else duration_ns("--loop-gap", loop_gap),
        loop_distinct="seq" if loop_distinct is None else _distinct(loop_distinct, rounds),
    )


def _distinct(text: str, rounds: int) -> str:
    if text not in DISTINCT:
        raise UsageError(f"--loop-distinct {text}: expected one of {', '.join(DISTINCT)}")
    most = FIELD_ROUNDS.get(text, MOST_ROUNDS)
    if rounds > most:
        raise UsageError(f"--loop {rounds}: --loop-distinct {text} can tell {most} rounds apart; expected no more")
    return text


def _maps(option: str, texts: Iterable[str], parse: Callable[[str, str], T], clash: Callable[..., str]) -> list[T]:
    """Parse each text, and compare every two: `clash` says what is wrong with a pair, among all of them, or nothing."""
    found = [(text, parse(option, text)) for text in texts]
    every = [one for _, one in found]
    for (text, one), (other_text, other) in combinations(found, 2):
        if wrong := clash(one, other, every):
            raise UsageError(f"{option} {other_text}: {wrong} as {option} {text}; expected maps apart from each other")
    return every


def _mac_maps(texts: Iterable[str]) -> tuple[MacMap, ...]:
    return tuple(_maps("--map-mac", texts, _mac_map, lambda one, other, _: "same source" * (one.old == other.old)))


def _mac_map(option: str, text: str) -> MacMap:
    old, _, new = text.partition("=")
    if not (MAC.fullmatch(old) and MAC.fullmatch(new)):
        raise UsageError(f"{option} {text}: expected MAC=MAC, such as 02:00:00:00:00:01=02:00:00:00:00:09")
    return MacMap(*(mac_number(mac) for mac in (old, new)))


def _net_maps(texts: Iterable[str]) -> tuple[NetMap, ...]:
    found = _maps("--map-ip", texts, _net_map, _nets_clash)
    return tuple(sorted(found, key=lambda net: -net.prefix))


def _net_map(option: str, text: str) -> NetMap:
    old, new = (_network(option, text, side) for side in _sides(option, text))
    if old.version != new.version:
        raise UsageError(f"{option} {text}: IPv{old.version} on the left, IPv{new.version} on the right; expected one")
    if old.prefixlen != new.prefixlen:
        raise UsageError(f"{option} {text}: /{old.prefixlen} on the left, /{new.prefixlen} on the right; expected one")
    return NetMap(old.version, old.prefixlen, int(old.network_address), int(new.network_address))


def _sides(option: str, text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not (old and new) or "=" in new or "%" in text:
        raise UsageError(f"{option} {text}: expected NET=NET, such as 10.0.0.0/24=192.168.7.0/24 or fd00::1=fd00::9")
    return old, new


def _network(option: str, text: str, side: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(side, strict=False)
    except ValueError:
        raise UsageError(f"{option} {text}: {side} is no IPv4 or IPv6 address or network") from None
    if "/" in side and network.network_address != ipaddress.ip_address(side.partition("/")[0]):
        raise UsageError(f"{option} {text}: {side} has host bits; expected the network {network}")
    return network


def _nets_clash(one: NetMap, other: NetMap, every: Sequence[NetMap]) -> str:
    """Networks may lie in one another, the longer wins; but no two addresses may become one."""
    if one.family != other.family:
        return ""
    outer, inner = (one, other) if one.prefix <= other.prefix else (other, one)
    if outer.contains(inner):
        if outer.prefix == inner.prefix:
            return "same source"
        if outer.mapped(inner.old) == inner.new:
            return ""
    if (outer.new ^ inner.new) >> outer.host:
        return ""
    # What the outer map would put there may be mapped elsewhere by a longer one.
    rival = NetMap(outer.family, inner.prefix, outer.old | inner.new & ((1 << outer.host) - 1), inner.new)
    freed = any(each.prefix > outer.prefix and each.contains(rival) for each in every)
    return "" if freed else "same target"


def _port_maps(texts: Iterable[str]) -> tuple[PortMap, ...]:
    return tuple(_maps("--map-port", texts, _port_map, _ports_clash))


def _port_map(option: str, text: str) -> PortMap:
    found = PORTS.fullmatch(text)
    ports = [int(port) for port in found.group(2, 3, 4, 5) if port is not None] if found else []
    if found is None or max(ports) > 65_535:
        raise UsageError(f"{option} {text}: expected [tcp:|udp:]PORT=PORT or ranges, such as 80=8080, udp:1-9=101-109")
    first, to = int(found[2]), int(found[4])
    last, to_last = int(found[3] or first), int(found[5] or to)
    if last < first or to_last - to != last - first:
        raise UsageError(f"{option} {text}: expected two ranges of equal length that count up")
    return PortMap(PROTOCOLS.get(found[1], ANY_PROTOCOL), first, last, to)


def _ports_clash(one: PortMap, other: PortMap, _: Sequence[PortMap]) -> str:
    if ANY_PROTOCOL not in (one.protocol, other.protocol) and one.protocol != other.protocol:
        return ""
    if one.first <= other.last and other.first <= one.last:
        return "same source"
    ends = one.to + one.last - one.first, other.to + other.last - other.first
    return "same target" if one.to <= ends[1] and other.to <= ends[0] else ""


def duration_ns(option: str, text: str, *, signed: bool = False) -> int:
    """A duration such as 1.5s or -20ms in nanoseconds, exactly; without a unit, seconds.

    Errors: UsageError naming `option` where it is none, has a sign that is not `signed`, or a fraction of 1 ns.
    """
    found = TIME.fullmatch(text)
    value = Fraction(found[2]) * UNITS_NS[found[3] or "s"] if found else Fraction(0)
    example = "+1.5s or -20ms" if signed else "1.5s or 20ms"
    if found is None or (found[1] and not signed):
        raise UsageError(f"{option} {text}: expected a time such as {example} (ns, us, ms, s, m, h, d)")
    if value.denominator != 1 or value >= END_OF_TIMES_NS:
        raise UsageError(f"{option} {text}: expected whole nanoseconds, and less than 146 years")
    return int(value) * (-1 if found[1] == "-" else 1)


def _instant_ns(option: str, text: str) -> int:
    """Nanoseconds since 1970 of an ISO time (UTC unless it says otherwise) or of seconds since then."""
    if found := EPOCH.fullmatch(text):
        seconds, fraction = int(found[1]), found[2]
    elif found := ISO.fullmatch(text):
        fraction = found[3]
        zone = (found[4] or "Z").replace("Z", "+00:00")
        try:
            instant = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00'}{zone}")
        except ValueError as error:
            raise UsageError(f"{option} {text}: {error}") from None
        seconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
    else:
        raise UsageError(f"{option} {text}: expected a time such as 2005-08-12T00:00:00Z, or seconds since 1970")
    time_ns = seconds * NS + int((fraction or "0").ljust(9, "0"))
    if not 0 <= time_ns < END_OF_TIMES_NS:
        raise UsageError(f"{option} {text}: expected a time from 1970 to 2116")
    return time_ns
