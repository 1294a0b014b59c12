"""PDUs in TCP: the port, several PDUs in a segment, one across segments, digests as negotiated (RFC 7143 4.2, 13.1)."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from scapy.config import conf
from scapy.layers.inet import TCP
from scapy.packet import Packet, bind_bottom_up, bind_layers

from emu.wire.iscsi.fields import DATA_DIGEST, HEADER_DIGEST
from emu.wire.iscsi.initiator import LoginRequest
from emu.wire.iscsi.pdu import BHS_BYTES, ISCSI, MAX_CHAIN, ISCSIFragment, dissect_pdu, pdu_bytes, starts_pdu
from emu.wire.iscsi.target import LoginResponse

PORT = 3260  # iscsi-target (RFC 7143 14)
FULL_FEATURE_PHASE = 3
DIGEST_KEYS = {"HeaderDigest": HEADER_DIGEST, "DataDigest": DATA_DIGEST}


class Negotiation:
    """Which digests a connection uses, as its login says (RFC 7143 13.1): from the first PDU after the login on."""

    def __init__(self, digests: int) -> None:
        """`digests` is what holds for a connection whose login is not seen."""
        self.digests = digests
        self.agreed = 0

    def follow(self, pdu: Packet) -> None:
        """A login starts without digests; the last single value of a key counts when the login ends."""
        if not isinstance(pdu, (LoginRequest, LoginResponse)):
            return
        self.digests = 0
        for key, value in pdu.KeyValues if isinstance(pdu.KeyValues, list) else []:
            flag = DIGEST_KEYS.get(key)
            if flag is not None and value == "CRC32C":
                self.agreed |= flag
            elif flag is not None:
                self.agreed &= ~flag
        if isinstance(pdu, LoginResponse) and pdu.T and pdu.NSG == FULL_FEATURE_PHASE and pdu.StatusClass == 0:
            self.digests = self.agreed
            self.agreed = 0


def pdus(stream: bytes, digests: int | Negotiation | None = None) -> Iterator[Packet]:
    """All PDUs of one direction's stream, one by one, each without payload; an ISCSIFragment ends what is no PDU.

    `digests` is HEADER_DIGEST | DATA_DIGEST, or a Negotiation that follows the login; by default that of `conf`.
    """
    negotiation = digests if isinstance(digests, Negotiation) else Negotiation(default_digests(digests))
    at = 0
    while at < len(stream):
        length = whole_pdu(stream, at, negotiation.digests)
        if not length:
            yield ISCSIFragment(stream[at:])
            return
        pdu = dissect_pdu(stream[at : at + length], negotiation.digests)
        negotiation.follow(pdu)
        yield pdu
        at += length


def default_digests(digests: int | None) -> int:
    """As told, or as `conf` has it."""
    return int(conf.contribs["ISCSI"]["digests"]) if digests is None else digests


def whole_pdu(stream: bytes, at: int, digests: int) -> int:
    """Bytes of the whole PDU at `at`; 0 if none is known to start there, or not all of it is there."""
    head = stream[at : at + BHS_BYTES]
    length = pdu_bytes(head, digests) if head and starts_pdu(head) else 0
    return length if 0 < length <= len(stream) - at else 0


def reassemble(data: bytes, metadata: dict[str, Any], session: dict[str, Any]) -> Packet | None:
    """All whole PDUs at the start of `data`, each the payload of the one before; None until there is one.

    What follows them is padding, which the TCP session keeps for the next segment. Where no PDU can start (the capture
    began inside one, or a segment is missing) all that is left is one ISCSIFragment, and the search goes on at the
    start of the next segment. No more than MAX_CHAIN PDUs become layers; those after them are one ISCSIFragment. A
    stream that ends or is reset (`tcp_end`) gives what it has.
    """
    negotiation = session.setdefault("iscsi", Negotiation(default_digests(None)))
    layers: list[Packet] = []
    at = 0
    while length := whole_pdu(data, at, negotiation.digests):
        pdu = dissect_pdu(data[at : at + length], negotiation.digests)
        negotiation.follow(pdu)
        layers.append(pdu)
        at += length
    rest = data[at:]
    if len(layers) > MAX_CHAIN:
        beyond = b"".join(bytes(pdu) for pdu in layers[MAX_CHAIN:])
        layers[MAX_CHAIN:] = [ISCSIFragment(beyond)]
    if rest and (metadata.get("tcp_end") or not starts_pdu(rest)):
        layers.append(ISCSIFragment(rest))
    elif rest and layers:
        layers.append(conf.padding_layer(rest))
    return stacked(layers)


def stacked(layers: list[Packet]) -> Packet | None:
    """The first of these with each other one as the payload of the one before it."""
    for below, above in pairwise(layers):
        below.add_payload(above)
    return layers[0] if layers else None


bind_layers(TCP, ISCSI, dport=PORT)
bind_bottom_up(TCP, ISCSI, sport=PORT)
