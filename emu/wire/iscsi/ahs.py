"""Additional Header Segments of iSCSI (RFC 7143 11.2.2)."""

# Scapy is untyped, and its hooks have arguments that not every field wants.
# mypy: disallow-subclassing-any=False
# ruff: noqa: ARG003, ARG005

from typing import Any, ClassVar

from scapy.config import conf
from scapy.fields import BitEnumField, BitField, ByteField, FieldLenField, IntField, StrLenField, XStrLenField
from scapy.packet import Packet

from emu.wire.iscsi.fields import WORD_BYTES
from emu.wire.iscsi.names import AHS_TYPES

LEAD_BYTES = 3  # AHSLength and AHSType, which AHSLength does not count (11.2.2.2)
EXTENDED_CDB = 1
BIDIRECTIONAL = 2


def rest_of(pkt: Any) -> int:
    """Bytes of the specific part after its first, reserved byte."""
    return max(int(pkt.AHSLength) - 1, 0)


def padding_field() -> StrLenField:
    """Each AHS ends on a word (11.2.2)."""
    return StrLenField("Padding", None, length_from=lambda pkt: -(LEAD_BYTES + pkt.AHSLength) % WORD_BYTES)


class AHS(Packet):
    """Any Additional Header Segment; one of an unknown type keeps its bytes (RFC 7143 11.2.2)."""

    name = "iSCSI AHS"
    fields_desc: ClassVar[list[Any]] = [
        FieldLenField("AHSLength", None, length_of="Specific", fmt="!H", adjust=lambda pkt, length: length + 1),
        BitField("ReservedType", 0, 2),
        BitEnumField("AHSType", 0, 6, AHS_TYPES),
        ByteField("Reserved", 0),
        XStrLenField("Specific", b"", length_from=rest_of),
        padding_field(),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Fill up to a word."""
        if self.Padding is None:
            pkt += bytes(-len(pkt) % WORD_BYTES)
        return pkt + pay

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        """The next AHS of the list."""
        return b"", s

    @classmethod
    def dispatch_hook(cls, _pkt: bytes | None = None, *args: Any, **kargs: Any) -> Any:
        """The class of the type; what cannot hold an AHS stays bytes."""
        if not _pkt:
            return cls
        if len(_pkt) < WORD_BYTES:
            return conf.raw_layer
        kind = _pkt[2] & 0x3F
        length = int.from_bytes(_pkt[:2], "big")
        if kind == EXTENDED_CDB:
            return ExtendedCDB
        if kind == BIDIRECTIONAL and length == BidirectionalReadLength.LENGTH and len(_pkt) >= LEAD_BYTES + length:
            return BidirectionalReadLength
        return AHS


class ExtendedCDB(AHS):
    """Bytes of a CDB beyond the sixteen of the command (RFC 7143 11.2.2.3)."""

    name = "iSCSI Extended CDB AHS"
    fields_desc: ClassVar[list[Any]] = [
        FieldLenField("AHSLength", None, length_of="ExtendedCDB", fmt="!H", adjust=lambda pkt, length: length + 1),
        BitField("ReservedType", 0, 2),
        BitEnumField("AHSType", EXTENDED_CDB, 6, AHS_TYPES),
        ByteField("Reserved", 0),
        XStrLenField("ExtendedCDB", b"", length_from=rest_of),
        padding_field(),
    ]


class BidirectionalReadLength(AHS):
    """Bytes that a bidirectional command expects to read (RFC 7143 11.2.2.4)."""

    LENGTH = 5  # AHSLength: the reserved byte and four more

    name = "iSCSI Bidirectional Expected Read-Data Length AHS"
    fields_desc: ClassVar[list[Any]] = [
        FieldLenField("AHSLength", LENGTH, fmt="!H"),
        BitField("ReservedType", 0, 2),
        BitEnumField("AHSType", BIDIRECTIONAL, 6, AHS_TYPES),
        ByteField("Reserved", 0),
        IntField("BidirectionalReadExpectedDataTransferLength", 0),
        padding_field(),
    ]
