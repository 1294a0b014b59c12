"""The small grammar of flows: `tcp|udp [host A] [port N] [or ...]`, or the name of a storage protocol.

A is an IPv4 or IPv6 address; without one an alternative holds for both families.

`--memalloc` reads it from the remote end (the target's address and port), `--closed` from the local one.
"""

import ipaddress
from typing import NamedTuple

from emu.errors import UsageError
from emu.wire.ipv4 import PROTO_TCP, PROTO_UDP

PRESETS = {
    "iscsi": "tcp port 3260",
    "nbd": "tcp port 10809",
    "nvme-tcp": "tcp port 4420",
    "nfs": "tcp port 2049 or udp port 2049",
    "none": "",
}
PROTOCOLS = {"tcp": PROTO_TCP, "udp": PROTO_UDP}
GRAMMAR = "tcp|udp [host A] [port N], or " + ", ".join(PRESETS) + ", joined by or"


class FlowTerm(NamedTuple):
    """One alternative of an expression; 0 means any.  An IPv6 address is two signed halves of 64 bits."""

    protocol: int
    addr: int
    port: int
    family: int = 0  # of the address, 4 or 6
    addr_hi: int = 0


class Address(NamedTuple):
    """An IP address in the machine's own numbers: `lo` is all of an IPv4 address."""

    family: int
    hi: int
    lo: int


def parse_address(word: str) -> Address:
    """Read an IPv4 or IPv6 address.

    Errors: ValueError when it is none, or has a zone (`fe80::1%eth0`): frames have none.
    """
    address = ipaddress.ip_address(word)
    if isinstance(address, ipaddress.IPv4Address):
        return Address(4, 0, int(address))
    if address.scope_id is not None:
        raise ValueError(word)
    return Address(6, signed64(int(address) >> 64), signed64(int(address)))


def signed64(value: int) -> int:
    """The low 64 bits as a signed number."""
    return ((value & (1 << 64) - 1) ^ 1 << 63) - (1 << 63)


def parse_flows(expression: str, what: str) -> tuple[FlowTerm, ...]:
    """The alternatives of an expression; `what` names its origin in an error."""
    text = PRESETS.get(expression.strip(), expression).strip()
    if not text:
        return ()
    terms: list[FlowTerm] = []
    for part in f" {text} ".split(" or "):
        if part.strip() in PRESETS and part.strip() != expression.strip():
            terms += parse_flows(part, what)
        else:
            terms.append(_term(part.split(), expression, what))
    return tuple(terms)


def _term(words: list[str], expression: str, what: str) -> FlowTerm:
    if not words or words[0] not in PROTOCOLS:
        found = f"'{words[0]}'" if words else "nothing"
        raise UsageError(f"{what} '{expression}': expected tcp or udp, found {found}; the grammar is {GRAMMAR}")
    address, port = Address(0, 0, 0), 0
    rest = words[1:]
    while rest:
        if len(rest) < 2 or rest[0] not in ("host", "port"):
            raise UsageError(f"{what} '{expression}': cannot read '{' '.join(rest)}'; the grammar is {GRAMMAR}")
        if rest[0] == "host":
            address = _address(rest[1], expression, what)
        else:
            port = _port(rest[1], expression, what)
        rest = rest[2:]
    return FlowTerm(PROTOCOLS[words[0]], address.lo, port, address.family, address.hi)


def _address(word: str, expression: str, what: str) -> Address:
    try:
        return parse_address(word)
    except ValueError:
        raise UsageError(f"{what} '{expression}': '{word}' is not an IPv4 or IPv6 address") from None


def _port(word: str, expression: str, what: str) -> int:
    if word.isascii() and word.isdigit() and 1 <= int(word) <= 65535:
        return int(word)
    raise UsageError(f"{what} '{expression}': '{word}' is not a port (1 to 65535)")
