"""Every kind of flood and its options: one table for the command line, `--flood`, scenarios and the docs.

A kind is a `Struct`; its docstring's first sentence is what it sends, its fields are the options as a user writes them.
`flood_of` checks them, `parse_flood` reads `KIND:key=value,key=value`, `recipe_text` writes that again.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from msgspec import Meta, inspect

from emu.errors import UsageError
from emu.scenario_parts import Part, about
from emu.tables import ANY_COUNT, convert_tables, dotted
from emu.traffic.flood import values
from emu.traffic.flood.plan import SHORTEST_FRAME, Sizes
from emu.traffic.flood.values import UNITS, IpAddress, Network, PortRange
from emu.traffic.iscsi.options import IscsiAcks
from emu.traffic.iscsi.options import check as check_session

ETHERNET_BYTES = 14
TAG_BYTES = 4
IP_BYTES = {4: 20, 6: 40}
TRANSPORT_BYTES = {"": 0, "udp": 8, "tcp": 20, "icmp": 8}
MOST_FRAME = 1514  # MTU 1500
MOST_JUMBO_FRAME = 9014  # MTU 9000
MOST_FLOWS = 65_536
MOST_CLOSED_PORTS = 16  # each is a socket rule of the machine, which has 64
LEAST_ETHERTYPE = 0x600  # below: a length (IEEE 802.3)
KNOWN_ETHERTYPES = {  # frames of these with an arbitrary payload would be malformed
    0x0800: "udp",
    0x0806: "arp",
    0x86DD: "ipv6-udp",
    0x8100: "vlan",
    0x88A8: "vlan",
    0x88CC: "other-ethertype with ethertype=lldp",
}

PortNumber = Annotated[int, Meta(ge=1, le=65535)]
VlanId = Annotated[int, Meta(ge=1, le=4094)]
Text = Annotated[str, Meta(min_length=1)]


class Timed(Part, frozen=True):
    """How fast and for how long."""

    pps: Annotated[Text, about("Frames per second, or a ramp such as 10k..1M.", "frames/s")] = "10k"
    mbps: Annotated[
        Text | None, about("Instead of pps: the bit rate, each frame with 24 bytes of framing.", "Mbit/s")
    ] = None
    ramp: Annotated[Text | None, about("How long a ramp of the rate takes; left out: as `for` says.")] = None
    poisson: Annotated[bool, about("Random gaps of that mean (a Poisson process) instead of even ones.")] = False
    burst: Annotated[Text | None, about("ON/OFF times such as 10ms/90ms: at this rate, then silence, and again.")] = (
        None
    )
    count: Annotated[
        Annotated[int, Meta(ge=1, le=ANY_COUNT)] | None,
        about("Stop after so many frames; with `for` too, whichever comes first.", "frames"),
    ] = None
    duration: Annotated[Text | None, about("For how long frames are sent, such as 10s.")] = msgspec.field(
        name="for", default=None
    )
    seed: Annotated[
        int, Meta(ge=0, le=(1 << 62) - 1), about("What everything is drawn from: same seed, same bytes.")
    ] = 1


class Linked(Timed, frozen=True):
    """Frames of an Ethernet."""

    TRANSPORT: ClassVar[str] = ""
    FAMILY: ClassVar[int] = 0  # of IP: 4, 6, or 0: none
    FAMILIES: ClassVar[tuple[int, ...]] = ()
    MOST: ClassVar[int] = MOST_FRAME

    to_mac: Annotated[Text | None, about("The receiver's MAC; left out: the host's, or what `to` asks for.")] = None
    from_mac: Annotated[Text | None, about("The sender's MAC; left out: the peer's.")] = None


class Addressed(Linked, frozen=True):
    """Frames from one IP address to another."""

    FAMILY: ClassVar[int] = 4
    FAMILIES: ClassVar[tuple[int, ...]] = (4, 6)

    to: Annotated[Text | None, about("The receiver's IP address; left out: the host's.")] = None
    source: Annotated[Text | None, about("The sender's IP address; left out: the peer's.")] = msgspec.field(
        name="from", default=None
    )
    spoof: Annotated[Text | None, about("Instead of `from`: a network; each frame's sender is drawn from it anew.")] = (
        None
    )


class Ported(Addressed, frozen=True):
    """Frames from ports to ports: every pair of them is a flow, and flows take turns."""

    TRANSPORT: ClassVar[str] = "udp"

    port: Annotated[PortNumber, about("The receiver's port, the first of several.")] = 9000
    ports: Annotated[Text, about("The receiver's ports: a range such as 9000-9015, or how many from `port` on.")] = "1"
    from_port: Annotated[PortNumber, about("The sender's port, the first of several.")] = 40_000
    from_ports: Annotated[Text, about("The sender's ports: a range, or how many from `from_port` on.")] = "1"


SizeText = Annotated[
    Text,
    about("Frames without FCS: 64, 64..1500 evenly, imix, or weights such as 64:7+576:4+1514:1.", "B"),
]
PayloadText = Annotated[
    Text, about("What fills the frames, the same in each: text, zeros, random (by the seed), or hex:deadbeef.")
]
TemplateFile = Annotated[
    Text | None,
    about("A pcap, or a Python file that sets `template` (Scapy): its frames instead, changed as options say."),
]


class Udp(Ported, frozen=True):
    """UDP datagrams to the host's ports, over IPv4 or IPv6 as `to` is."""

    size: SizeText = "64"
    payload: PayloadText = "text"
    template: TemplateFile = None


class TcpBulk(Ported, frozen=True):
    """Data segments of downloads by the host, one connection to each of its ports.

    Sequence numbers advance by the bytes sent, in each connection.  It is the data of established connections as a
    trace shows it that began in their midst: no handshake, no end, no retransmission, none of the host's own frames.
    """

    TRANSPORT: ClassVar[str] = "tcp"

    port: Annotated[PortNumber, about("The host's port of the first connection.")] = 40_000
    ports: Annotated[Text, about("The host's ports: a range, or how many connections from `port` on.")] = "4"
    from_port: Annotated[PortNumber, about("The server's port, the first of several.")] = 8000
    size: SizeText = "1514"
    payload: PayloadText = "text"
    template: TemplateFile = None


class SynFlood(Addressed, frozen=True):
    """Requests for TCP connections that are never completed, from random ports."""

    TRANSPORT: ClassVar[str] = "tcp"

    port: Annotated[PortNumber, about("The host's port, the first of several.")] = 80
    ports: Annotated[Text, about("The host's ports: a range, or how many from `port` on.")] = "1"
    options: Annotated[
        Literal["linux", "mss", "none"],
        about("TCP options: as Linux sends (MSS, SACK, timestamps, window scale), MSS alone, or none."),
    ] = "linux"
    template: TemplateFile = None


class TcpClosedPort(Addressed, frozen=True):
    """TCP segments to ports of the host where nothing listens: each asks for a reset."""

    TRANSPORT: ClassVar[str] = "tcp"

    port: Annotated[PortNumber, about("The host's closed port, the first of several.")] = 81
    ports: Annotated[Text, about("The host's closed ports: a range, or how many from `port` on; at most 16.")] = "1"
    segment: Annotated[Literal["syn", "ack"], about("Requests for a connection, or segments of one long gone.")] = "syn"
    template: TemplateFile = None


class IcmpEcho(Addressed, frozen=True):
    """Echo requests (ping) to the host, ICMP or ICMPv6 as `to` is."""

    TRANSPORT: ClassVar[str] = "icmp"

    size: SizeText = "98"
    payload: PayloadText = "text"
    template: TemplateFile = None


class Arp(Addressed, frozen=True):
    """ARP packets for the host: requests for its address, to all."""

    FAMILIES: ClassVar[tuple[int, ...]] = (4,)

    op: Annotated[
        Literal["request", "reply", "gratuitous"],
        about("Requests for the host, replies to it, or announcements of the sender's own address."),
    ] = "request"
    template: TemplateFile = None


class Ipv6Udp(Ported, frozen=True):
    """UDP datagrams to the host's ports over IPv6."""

    FAMILY: ClassVar[int] = 6
    FAMILIES: ClassVar[tuple[int, ...]] = (6,)

    size: SizeText = "86"
    payload: PayloadText = "text"
    template: TemplateFile = None


class Multicast(Ported, frozen=True):
    """UDP datagrams to a multicast group, with the group's MAC."""

    to: Annotated[Text, about("The group, IPv4 or IPv6.")] = "239.1.2.3"
    size: SizeText = "64"
    payload: PayloadText = "text"
    template: TemplateFile = None


class Broadcast(Ported, frozen=True):
    """UDP datagrams to everybody on the link."""

    FAMILIES: ClassVar[tuple[int, ...]] = (4,)

    to: Annotated[Text, about("The broadcast address, of the link or of a network.")] = "255.255.255.255"
    size: SizeText = "64"
    payload: PayloadText = "text"
    template: TemplateFile = None


class Fragments(Ported, frozen=True):
    """UDP datagrams in fragments, some of them never completed."""

    datagram: Annotated[int, Meta(ge=9, le=65_507), about("What each datagram carries, without UDP's header.", "B")] = (
        4000
    )
    mtu: Annotated[
        int, Meta(ge=68, le=9000), about("The largest fragment with its IP header; IPv6: at least 1280.", "B")
    ] = 1500
    incomplete: Annotated[
        int, Meta(ge=0, le=100), about("How many of a hundred datagrams lack a fragment, on average.", "%")
    ] = 50
    missing: Annotated[Literal["first", "last"], about("Which fragment those lack.")] = "last"
    order: Annotated[Literal["forward", "reverse"], about("Which fragment comes first: the first or the last.")] = (
        "forward"
    )
    payload: PayloadText = "text"


class Vlan(Ported, frozen=True):
    """UDP datagrams with a VLAN tag, or two (QinQ)."""

    MOST: ClassVar[int] = MOST_FRAME + TAG_BYTES

    id: Annotated[VlanId, about("The VLAN's id.")] = 100
    outer: Annotated[VlanId | None, about("QinQ: the id of a tag 802.1ad around it.")] = None
    priority: Annotated[int, Meta(ge=0, le=7), about("The priority in the tag (PCP).")] = 0
    size: SizeText = "68"
    payload: PayloadText = "text"
    template: TemplateFile = None


class OtherEthertype(Linked, frozen=True):
    """Frames of a protocol that the host does not know."""

    ethertype: Annotated[
        Text, about("The protocol: a number such as 0x88b5 (local experiments), or lldp: LLDP announcements.")
    ] = "0x88b5"
    size: SizeText = "64"
    payload: PayloadText = "text"
    template: TemplateFile = None


class Jumbo(Ported, frozen=True):
    """UDP datagrams in frames for an MTU of up to 9000."""

    MOST: ClassVar[int] = MOST_JUMBO_FRAME

    size: SizeText = "9014"
    payload: PayloadText = "text"
    template: TemplateFile = None


class MixedImix(Ported, frozen=True):
    """UDP, TCP and ICMP mixed, in the sizes of the Internet mix."""

    TRANSPORT: ClassVar[str] = "tcp"  # the largest header of the three

    ports: Annotated[Text, about("The receiver's ports: a range such as 9000-9015, or how many from `port` on.")] = "16"
    mix: Annotated[Text, about("The weights of the protocols among the frames.")] = "udp:7+tcp:4+icmp:1"
    size: SizeText = "imix"
    payload: PayloadText = "text"


KINDS: dict[str, type[Part]] = {
    "udp": Udp,
    "tcp-bulk": TcpBulk,
    "synflood": SynFlood,
    "tcp-closed-port": TcpClosedPort,
    "icmp-echo": IcmpEcho,
    "arp": Arp,
    "ipv6-udp": Ipv6Udp,
    "multicast": Multicast,
    "broadcast": Broadcast,
    "fragments": Fragments,
    "vlan": Vlan,
    "other-ethertype": OtherEthertype,
    "jumbo": Jumbo,
    "mixed-imix": MixedImix,
    "iscsi-acks": IscsiAcks,
}


class Flood(NamedTuple):
    """A flood that was asked for and checked; `given` are the keys that the user wrote, in the kind's order."""

    kind: str
    options: Any  # an instance of KINDS[kind]
    given: tuple[str, ...] = ()


class WrongOption(Exception):  # noqa: N818 - says which option, for `flood_of` to tell
    """What is wrong with an option; the sentence follows its name and value."""

    def __init__(self, key: str, sentence: str) -> None:
        """The option's key, and the sentence."""
        super().__init__(sentence)
        self.key = key


def meaning_of(kind: str) -> str:
    """What a kind sends, in one sentence."""
    return " ".join((KINDS[kind].__doc__ or "").split("\n\n")[0].split())


# --- asking -----------------------------------------------------------------------------------------------------------


def flood_of(kind: str, settings: Mapping[str, str | int | bool], naming: Callable[[str], str]) -> Flood:
    """A flood from its options, typed and checked.

    `naming` says how the user wrote a key, such as `--size`.  Errors: UsageError, which names the option.
    """
    options_class = KINDS[kind]
    described = inspect.type_info(options_class)
    assert isinstance(described, inspect.StructType)
    fields = {field.encode_name: field for field in described.fields}
    tree = {key: _typed(value, fields[key].type) if key in fields else value for key, value in settings.items()}
    options, problems = convert_tables(tree, options_class)
    if problems:
        path, sentence = problems[0]
        raise UsageError(f"{naming(dotted(path))}: {sentence}")
    flood = Flood(kind, options, tuple(key for key in fields if key in settings))
    try:
        if isinstance(options, IscsiAcks):
            check_session(options)
        else:
            _check(flood)
    except UsageError as error:  # the session's, in the form KIND: KEY: SENTENCE
        _, key, sentence = str(error).split(": ", 2)
        raise UsageError(f"{naming(key)}: {sentence}") from None
    except WrongOption as wrong:
        value = option(flood, wrong.key)
        said = f"{naming(wrong.key)} {_on_one_line(str(value))}" if value is not None else naming(wrong.key)
        raise UsageError(f"{said}: {wrong}") from None
    return flood


def option(flood: Flood, key: str) -> Any:
    """An option's value by the name that users know it by."""
    struct = type(flood.options)
    return getattr(flood.options, struct.__struct_fields__[struct.__struct_encode_fields__.index(key)])


def _typed(value: Any, described: Any) -> Any:
    """A word as the type of its field; what does not read as one stays as it is, for the check to tell."""
    kinds = [kind.type if isinstance(kind, inspect.Metadata) else kind for kind in _alternatives(described)]
    if isinstance(value, str):
        if any(isinstance(kind, inspect.BoolType) for kind in kinds):
            return {"true": True, "yes": True, "false": False, "no": False}.get(value, value)
        number = re.fullmatch(r"(-?[0-9]{1,20})([kMG]?)", value)
        if number and any(isinstance(kind, inspect.IntType) for kind in kinds):
            return int(number[1]) * UNITS[number[2]]
    elif type(value) in (int, float) and any(isinstance(kind, inspect.StrType) for kind in kinds):
        return str(value)
    return value


def _alternatives(described: Any) -> list[Any]:
    while isinstance(described, inspect.Metadata):
        described = described.type
    return list(described.types) if isinstance(described, inspect.UnionType) else [described]


def parse_flood(text: str, what: str) -> Flood:
    """A flood written as `KIND:key=value,key=value`; a list within a value has `+` or `;` between its elements.

    A comma that belongs to a value is written `\\,`, a backslash `\\\\`.  A key without a value is true.  `what` names
    the origin in an error, such as `--flood`.  Errors: UsageError.
    """
    kind, settings = split_flood(text, what)
    return flood_of(kind, settings, naming_within(text, what))


def split_flood(text: str, what: str) -> tuple[str, dict[str, str]]:
    """The kind and the settings of such a text, the settings not yet checked.

    Errors: UsageError: no such kind, or no key where one must be.
    """
    kind, _, rest = text.partition(":")
    where = f"{what} '{_on_one_line(text)}'"
    check_kind(_on_one_line(kind), where)
    settings: dict[str, str] = {}
    for part in re.findall(r"(?:[^\\,]|\\.)+", rest) if rest else []:
        key, equals, value = part.partition("=")
        key = key.strip().replace("-", "_")
        if not key:
            raise UsageError(f"{where}: '{_on_one_line(part)}': expected key=value, such as count=1000")
        if key in settings:
            raise UsageError(f"{where}: {_on_one_line(key)}: given twice")
        settings[key] = re.sub(r"\\(.)", r"\1", value) if equals else "true"
    return kind, settings


def check_kind(kind: str, where: str) -> None:
    """Refuse a word that is no kind of flood; `where` begins the line.  Errors: UsageError."""
    if kind not in KINDS:
        kind = _on_one_line(kind)
        near = difflib.get_close_matches(kind, KINDS, 1, 0.6)
        hint = f"did you mean '{near[0]}'? Expected" if near else "expected"
        raise UsageError(f"{where}: no kind of flood '{kind}'; {hint} one of {', '.join(KINDS)}")


def naming_within(text: str, what: str) -> Callable[[str], str]:
    """How errors name a key of such a text."""
    return lambda key: f"{what} '{_on_one_line(text)}': {_on_one_line(key)}"


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def recipe_text(flood: Flood) -> str:
    """The flood as `parse_flood` reads it: what the user gave, nothing else."""
    given = ",".join(f"{key}={_word(option(flood, key))}" for key in flood.given)
    return f"{flood.kind}:{given}" if given else flood.kind


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else re.sub(r"([\\,])", r"\\\1", str(value))


# --- what the options say ---------------------------------------------------------------------------------------------


def family_of(options: Linked) -> int:
    """IPv4 or IPv6 (4 or 6), as the addresses say, else the kind; 0: neither."""
    if isinstance(options, Addressed):
        if options.to:
            return values.parse_ip(options.to).version
        if options.source:
            return values.parse_ip(options.source).version
        if options.spoof:
            return values.parse_network(options.spoof).version
    return options.FAMILY


def header_bytes(options: Linked) -> int:
    """How many bytes of a frame its headers take, the Ethernet's too."""
    tags = 0 if not isinstance(options, Vlan) else TAG_BYTES if options.outer is None else 2 * TAG_BYTES
    family = family_of(options)
    return ETHERNET_BYTES + tags + IP_BYTES.get(family, 0) + TRANSPORT_BYTES[options.TRANSPORT]


def sizes_of(options: Any) -> tuple[Sizes, ...]:
    """The sizes of frames; those of the Internet mix are at least what the headers take.

    Errors: WrongOption when the protocol does not fit in, or the frame not on the link.
    """
    sizes = values.parse_sizes(options.size)
    headers = header_bytes(options)
    least = max(SHORTEST_FRAME, headers)
    most = options.MOST + (TAG_BYTES if isinstance(options, Vlan) and options.outer is not None else 0)
    if options.size == "imix":
        return tuple(Sizes(max(size.least, least), max(size.most, least), size.weight) for size in sizes)
    for size in sizes:
        if size.least < least or size.most > most:
            what = {0: "Ethernet", 4: "IPv4", 6: "IPv6"}[family_of(options)]
            over = f"{options.TRANSPORT} over {what}" if options.TRANSPORT else what
            hint = " (kind jumbo: to 9014)" if size.most > most and not isinstance(options, Jumbo) else ""
            raise WrongOption(
                "size",
                f"{over} needs {headers} bytes, and a frame without FCS has {least} to {most} here{hint}",
            )
    return sizes


def ports_of(options: Any) -> PortRange:
    """The receiver's ports."""
    return values.parse_ports(options.ports, options.port)


def from_ports_of(options: Any) -> PortRange:
    """The sender's ports."""
    return values.parse_ports(options.from_ports, options.from_port)


def mix_of(options: MixedImix) -> tuple[tuple[str, int], ...]:
    """The protocols of a mix with their weights.

    Errors: WrongOption.
    """
    mix: dict[str, int] = {}
    for part in values.LIST_SEPARATORS.split(options.mix):
        found = re.fullmatch(r"(udp|tcp|icmp)(?::([0-9]{1,6}))?", part.strip())
        if found is None or found[1] in mix or found[2] == "0":
            raise WrongOption("mix", "expected weights above 0 of udp, tcp, icmp, such as udp:7+tcp:4+icmp:1")
        mix[found[1]] = int(found[2] or 1)
    return tuple(mix.items())


def ethertype_of(options: OtherEthertype) -> int:
    """The number of the protocol; 0: LLDP.

    Errors: WrongOption, also where another kind has that protocol.
    """
    if options.ethertype == "lldp":
        return 0
    found = re.fullmatch(r"0x([0-9a-fA-F]{1,4})", options.ethertype)
    number = int(found[1], 16) if found else 0
    if number < LEAST_ETHERTYPE:
        raise WrongOption("ethertype", "expected lldp, or a number from 0x0600 to 0xffff such as 0x88b5")
    if number in KNOWN_ETHERTYPES:
        raise WrongOption("ethertype", f"that protocol has a kind of its own: {KNOWN_ETHERTYPES[number]}")
    return number


# --- checks -----------------------------------------------------------------------------------------------------------

PARSERS: dict[str, Callable[[str], Any]] = {
    "pps": values.parse_pps,
    "mbps": values.parse_mbps,
    "ramp": values.parse_duration_ns,
    "burst": values.parse_burst_ns,
    "for": values.parse_duration_ns,
    "to_mac": values.parse_mac,
    "from_mac": values.parse_mac,
    "to": values.parse_ip,
    "from": values.parse_ip,
    "spoof": values.parse_network,
    "size": values.parse_sizes,
    "payload": values.parse_payload,
}


def _check(flood: Flood) -> None:
    """Raise WrongOption for the first option that cannot be."""
    keys = type(flood.options).__struct_encode_fields__
    for key, parse in PARSERS.items():
        value = option(flood, key) if key in keys else None
        if value is not None:
            try:
                parse(value)
            except ValueError as error:
                raise WrongOption(key, str(error)) from None
    _check_rate(flood)
    if isinstance(flood.options, Addressed):
        _check_addresses(flood)
    _check_ports(flood, keys)
    if "size" in keys:
        sizes_of(flood.options)
    _check_kind(flood)
    if "template" in flood.given:
        _check_template(flood)


def _check_rate(flood: Flood) -> None:
    o = flood.options
    if "pps" in flood.given and "mbps" in flood.given:
        raise WrongOption("mbps", "given beside pps; they exclude each other")
    key = "pps" if o.mbps is None else "mbps"
    rate = PARSERS[key](option(flood, key))
    ramped = rate.first != rate.last
    if ramped and o.ramp is None and o.duration is None:
        raise WrongOption(key, "a ramp needs to know how long it takes: give `ramp`, or `for`")
    if o.ramp is not None and not ramped:
        raise WrongOption("ramp", f"{key} is no ramp; expected one such as {key}=10k..1M beside it")


def _check_addresses(flood: Flood) -> None:
    o = flood.options
    family = family_of(o)
    if "spoof" in flood.given and "from" in flood.given:
        raise WrongOption("spoof", "given beside `from`; they exclude each other")
    for key, value in (("to", o.to), ("from", o.source), ("spoof", o.spoof)):
        if value is None:
            continue
        asked: IpAddress | Network = values.parse_network(value) if key == "spoof" else values.parse_ip(value)
        if asked.version not in o.FAMILIES:
            raise WrongOption(key, f"{flood.kind} is IPv{o.FAMILIES[0]} only; expected such an address")
        if asked.version != family:
            raise WrongOption(
                key, f"IPv{asked.version}, but the receiver's address is IPv{family}; expected one family"
            )
    if o.source is not None and values.parse_ip(o.source).is_multicast:
        raise WrongOption("from", "nobody sends from a multicast address")
    if o.to is not None and isinstance(o, Multicast) != values.parse_ip(o.to).is_multicast:
        group = isinstance(o, Multicast)
        raise WrongOption("to", "expected a multicast group" if group else "a multicast group: see the kind multicast")


def _check_ports(flood: Flood, keys: tuple[str, ...]) -> None:
    for several, one, parse in (("ports", "port", ports_of), ("from_ports", "from_port", from_ports_of)):
        if several not in keys:
            continue
        if one in flood.given and "-" in option(flood, several):
            raise WrongOption(several, f"a range, beside `{one}`; give one of the two")
        try:
            parse(flood.options)
        except ValueError as error:
            raise WrongOption(several, str(error)) from None
    if "from_ports" in keys and math.prod(p(flood.options).ports for p in (ports_of, from_ports_of)) > MOST_FLOWS:
        raise WrongOption("from_ports", f"with `ports` more than {MOST_FLOWS} flows; expected fewer")


def _check_kind(flood: Flood) -> None:
    o = flood.options
    if isinstance(o, TcpClosedPort) and ports_of(o).ports > MOST_CLOSED_PORTS:
        raise WrongOption("ports", f"expected at most {MOST_CLOSED_PORTS} closed ports")
    if isinstance(o, MixedImix):
        mix_of(o)
    if isinstance(o, Arp) and o.op == "gratuitous" and o.to is not None:
        raise WrongOption(
            "to", "a gratuitous announcement is about its sender's address; expected `from`, or another op"
        )
    if isinstance(o, OtherEthertype) and ethertype_of(o) == 0:
        for key in ("size", "payload"):
            if key in flood.given:
                raise WrongOption(key, "LLDP announcements have a size and content of their own")
    if isinstance(o, Fragments):
        family = family_of(o)
        if family == 6 and o.mtu < 1280:
            raise WrongOption("mtu", "IPv6 has at least 1280 (RFC 8200 section 5)")
        if o.datagram + 8 <= o.mtu - IP_BYTES[family]:
            raise WrongOption("datagram", f"fits into the MTU {o.mtu} unfragmented; expected more")


def _check_template(flood: Flood) -> None:
    patched = {*Ported.__struct_encode_fields__, "size", "payload", "template"}
    for key in flood.given:
        if key not in patched:
            raise WrongOption(key, "given beside `template`, whose frames it cannot change")
    if "payload" in flood.given and "size" not in flood.given:
        raise WrongOption("payload", "given beside `template` without `size`; expected both or neither")
