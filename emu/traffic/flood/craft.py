"""What a recipe works with: the ends, headers that say everything, payload, and what varies from frame to frame."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from emu.traffic.flood import values
from emu.traffic.flood.kinds import family_of, from_ports_of, ports_of, sizes_of
from emu.traffic.flood.layout import ICMPV6_ECHOES, PORTED, Vary, template_of
from emu.traffic.flood.plan import (
    VARY_COUNT,
    VARY_FLOW,
    VARY_RANDOM,
    VARY_SEQ,
    Sizes,
    Template,
    Train,
    Variable,
)
from emu.traffic.flood.source import Ends, settled

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
FIRST_EPHEMERAL = 1024


class Craft:
    """What a recipe works with: ends, headers, payload, and the variables that it hands out."""

    def __init__(self, options: Any, ends: Ends | None) -> None:
        """A flood's options, and who the ends are where these do not say."""
        self.options = options
        self.seed: int = options.seed
        self.family = family_of(options)
        self.ends = settled(ends)
        self.variables: list[Variable] = []
        self.varied: list[Vary] = []
        self.flows = 1

    def drawn(self, what: str, span: int) -> int:
        """A number that hangs on the seed alone."""
        return values.drawn(self.seed, what, span)

    def vary(self, layers: tuple[type[Packet], ...], field: str, variable: Variable, **part: int) -> None:
        """From now on this field of the templates takes that variable."""
        self.variables.append(variable)
        self.varied.append(Vary(layers, field, len(self.variables) - 1, **part))

    # --- addresses and ports

    @property
    def to(self) -> str:
        """Where the frames go, by IP."""
        host = self.ends.host_ipv4 if self.family == 4 else self.ends.host_ipv6
        return str(values.parse_ip(self.options.to or host))

    @property
    def source(self) -> str:
        """Where they come from, by IP; of spoofed ones, the network's first address."""
        if self.options.spoof:
            return str(values.parse_network(self.options.spoof)[0])
        peer = self.ends.peer_ipv4 if self.family == 4 else self.ends.peer_ipv6
        return str(values.parse_ip(self.options.source or peer))

    def ether(self, to_mac: str = "", ethertype: int = 0) -> Packet:
        """The Ethernet header, to the host unless told."""
        receiver = self.options.to_mac or to_mac or self.ends.host_mac
        sender = self.options.from_mac or self.ends.peer_mac
        kind = ethertype or ETHERTYPES.get(self.family, 0)
        return Ether(dst=values.parse_mac(receiver), src=values.parse_mac(sender), type=kind)

    def ip(self, **fields: Any) -> Packet:
        """The IP header; spoofed senders vary, an IPv4 id counts."""
        if self.family == 6:
            return IPv6(src=self.source, dst=self.to, **fields)
        return IP(src=self.source, dst=self.to, id=0, **fields)

    def vary_ip(self) -> None:
        """IPv4 ids count from one train to the next; spoofed senders are drawn for each."""
        if self.family == 4:
            self.vary((IP,), "id", Variable(VARY_COUNT, self.drawn("ip id", 1 << 16), 1 << 16))
        self.vary_source((IP, IPv6), "src")

    def vary_source(self, layers: tuple[type[Packet], ...], field: str) -> None:
        """A field with the sender's address is drawn from the spoofed network, if there is one."""
        if not self.options.spoof:
            return
        network = values.parse_network(self.options.spoof)
        first, span = int(network[0]), network.num_addresses
        if isinstance(network, ipaddress.IPv4Network):
            if span > 2:  # neither the network's own address nor its broadcast address
                first, span = first + 1, span - 2
            self.vary(layers, field, Variable(VARY_RANDOM, first, span))
            return
        for word in range(4):  # a variable is a number of 64 bits: four of 32
            bits = min(max(128 - network.prefixlen - 32 * (3 - word), 0), 32)
            if bits:
                value = first >> 32 * (3 - word) & 0xFFFFFFFF
                self.vary(layers, field, Variable(VARY_RANDOM, value, 1 << bits), skip=4 * word, width=4)

    def vary_opening(self) -> None:
        """Each segment is of a connection of its own: the sender's port and the sequence number are drawn."""
        self.vary((TCP,), "sport", Variable(VARY_RANDOM, FIRST_EPHEMERAL, (1 << 16) - FIRST_EPHEMERAL))
        self.vary((TCP,), "seq", Variable(VARY_RANDOM, 0, 1 << 32))

    def vary_seq(self) -> None:
        """Sequence numbers advance by what a flow has carried."""
        self.vary((TCP,), "seq", Variable(VARY_SEQ, self.drawn("seq", 1 << 32)))

    def vary_echo(self) -> None:
        """The number of an echo counts."""
        self.vary((ICMP, *ICMPV6_ECHOES), "seq", Variable(VARY_COUNT, 1, 1 << 16))

    def vary_ports(self) -> None:
        """Every pair of ports is a flow."""
        o = self.options
        self.vary_port("dport", ports_of(o))
        if hasattr(o, "from_ports"):
            self.vary_port("sport", from_ports_of(o))

    def vary_port(self, field: str, ports: values.PortRange) -> None:
        """A field with a port goes through several: that many times as many flows."""
        if ports.ports > 1:
            self.vary(PORTED, field, Variable(VARY_FLOW, ports.first, ports.ports, divisor=self.flows))
            self.flows *= ports.ports

    def ports(self) -> dict[str, int]:
        """The first ports, as Scapy's UDP and TCP take them."""
        return {"sport": from_ports_of(self.options).first, "dport": ports_of(self.options).first}

    # --- sizes and payload

    @property
    def sizes(self) -> tuple[Sizes, ...]:
        """Which sizes there are, if they vary."""
        sizes = sizes_of(self.options)
        return () if len(sizes) == 1 and sizes[0].least == sizes[0].most else sizes

    def filled(self, headers: Packet) -> bytes:
        """The frame with these headers, filled with payload to the largest size."""
        largest = max(size.most for size in sizes_of(self.options))
        return bytes(headers / Raw(self.payload(largest - len(headers))))

    def payload(self, size_bytes: int) -> bytes:
        """So many bytes of the payload asked for."""
        return values.payload_bytes(self.options.payload, size_bytes, self.seed)

    # --- templates

    def template(
        self, octets: bytes, varied: Sequence[Vary] | None = None, seq_bytes: int = -1, sized: bool = False
    ) -> Template:
        """A frame as a template; it varies as all do, unless told.  `sized`: its size does."""
        chosen = self.varied if varied is None else varied
        return template_of(octets, chosen, sized=sized, seq_bytes=seq_bytes)

    def filled_trains(self, headers: Packet, seq_bytes: int = -1) -> list[Train]:
        """Trains of one frame, with these headers and filled with payload."""
        return [Train((self.template(self.filled(headers), seq_bytes=seq_bytes, sized=bool(self.sizes)),))]

    def plain_trains(self, headers: Packet) -> list[Train]:
        """Trains of one frame that has no payload."""
        return [Train((self.template(bytes(headers)),))]
