"""What crafted traffic says of itself, after its frames have been rewritten: the same of other addresses and ports."""

import ipaddress
from collections.abc import Iterable

from msgspec import structs

from emu.traffic.crafted import Crafted, CraftedSocket, crafted_of
from emu.traffic.expression import FlowTerm, parse_flows
from emu.traffic.host import mac_number, mac_text
from emu.traffic.rewrite.spec import ANY_PROTOCOL, Rewrite
from emu.verdicts.address import address_text
from emu.wire.ipv4 import PROTO_TCP


def rewritten_comments(comments: Iterable[str], rewrite: Rewrite) -> list[str]:
    """The comments of section headers as they hold of the rewritten frames; what is no crafted traffic's stays."""
    return [_rewritten(comment, rewrite) for comment in comments]


def _rewritten(comment: str, rewrite: Rewrite) -> str:
    said = crafted_of([comment])
    return _mapped(said[0], rewrite).comment() if said else comment


def _mapped(said: Crafted, rewrite: Rewrite) -> Crafted:
    return Crafted(
        recipe=said.recipe,
        host_mac=_mac(said.host_mac, rewrite),
        host_addresses=[_address(address, rewrite) for address in said.host_addresses],
        sockets=[_socket(socket, rewrite) for socket in said.sockets],
    )


def _mac(text: str, rewrite: Rewrite) -> str:
    number = mac_number(text) if text else 0
    new = next((mac.new for mac in rewrite.macs if text and mac.old == number), None)
    return text if new is None else mac_text(new)


def _address(text: str, rewrite: Rewrite) -> str:
    address = ipaddress.ip_address(text)
    for net in rewrite.nets:
        if net.family == address.version and not (int(address) ^ net.old) >> net.host:
            mapped = net.mapped(int(address))
            return address_text(net.family, mapped >> 64, mapped)
    return text


def _port(number: int, protocol: int, rewrite: Rewrite) -> int:
    for ports in rewrite.ports:
        if ports.protocol in (ANY_PROTOCOL, protocol) and ports.first <= number <= ports.last:
            return ports.to + number - ports.first
    return number


def _socket(socket: CraftedSocket, rewrite: Rewrite) -> CraftedSocket:
    terms = parse_flows(socket.match, "crafted traffic")
    return structs.replace(
        socket,
        match=" or ".join(_term(term, rewrite) for term in terms) or socket.match,
        local_port=_port(socket.local_port, terms[0].protocol, rewrite) if terms else socket.local_port,
    )


def _term(term: FlowTerm, rewrite: Rewrite) -> str:
    words = ["tcp" if term.protocol == PROTO_TCP else "udp"]
    # In a loop with distinct addresses the remote end has another one in each round.
    if term.family and not (rewrite.loop > 1 and rewrite.loop_distinct == "addresses"):
        words += ["host", _address(address_text(term.family, term.addr_hi, term.addr), rewrite)]
    if term.port:
        words += ["port", str(_port(term.port, term.protocol, rewrite))]
    return " ".join(words)
