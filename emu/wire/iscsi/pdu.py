"""The PDU that all iSCSI PDUs are: basic header, AHS list, digests, data segment, padding (RFC 7143 11.1, 11.2)."""

# Scapy is untyped, and its hooks have arguments that not every field wants.
# mypy: disallow-subclassing-any=False
# ruff: noqa: ARG002, ARG003

from typing import Any, ClassVar

from scapy.config import conf
from scapy.fields import BitEnumField, BitField, PacketLenField, PacketListField, StrField, StrLenField, XByteField
from scapy.packet import Packet

from emu.wire.iscsi.ahs import AHS
from emu.wire.iscsi.fields import (
    DATA_DIGEST,
    DIGEST_BYTES,
    HEADER_DIGEST,
    WORD_BYTES,
    AHSLengthField,
    DataSegmentLengthField,
    DigestField,
    DigestsField,
    PaddingField,
    padding_bytes,
)
from emu.wire.iscsi.names import OPCODES

BHS_BYTES = 48
AHS_LENGTH_AT = 4
DATA_LENGTH_AT = 5
MAX_AHS = 255  # an AHS is at least a word, and TotalAHSLength has one byte
MAX_CHAIN = 64  # PDUs as layers of one packet: Scapy recurses once per layer, and hostile segments hold thousands


def request(opcode: int, immediate: int = 0) -> list[Any]:
    """First byte of what an initiator sends: it may be for immediate delivery (RFC 7143 11.2.1.1)."""
    return [BitField("Reserved0", 0, 1), BitField("I", immediate, 1), BitEnumField("Opcode", opcode, 6, OPCODES)]


def answer(opcode: int) -> list[Any]:
    """First byte of what a target sends, and of Data-Out and SNACK, which are no commands (RFC 7143 11.2.1.1)."""
    return [BitField("Reserved0", 0, 2), BitEnumField("Opcode", opcode, 6, OPCODES)]


def data_bytes(pkt: Any) -> int:
    """What the header says of the data segment; slicing keeps to what is there."""
    return int(pkt.DataSegmentLength)


def opaque_data(name: str = "Data") -> list[Any]:
    """A data segment that iSCSI does not look into."""
    return [StrLenField(name, b"", length_from=data_bytes)]


def layout(start: list[Any], specific: list[Any], data: list[Any]) -> list[Any]:
    """All fields of a PDU: bytes 0 to 3, lengths, bytes 8 to 47, and what follows the basic header."""
    return [
        DigestsField("digests"),
        *start,
        AHSLengthField("TotalAHSLength", None),
        DataSegmentLengthField("DataSegmentLength", None),
        *specific,
        PacketListField("AHS", [], AHS, length_from=lambda pkt: pkt.TotalAHSLength * WORD_BYTES, max_count=MAX_AHS),
        DigestField("HeaderDigest", HEADER_DIGEST),
        *data,
        PaddingField("Padding", None),
        DigestField("DataDigest", DATA_DIGEST),
    ]


class ISCSI(Packet):
    """Any iSCSI PDU: called with bytes, it gives the class of their opcode (RFC 7143 11.2).

    What comes after a PDU in its TCP segment, the next PDU, is its payload. Bytes that cannot start a PDU, and less
    than a basic header, become an ISCSIFragment. A PDU cut short after its header by the end of its segment keeps the
    bytes there are. No bytes raise an error.
    """

    name = "iSCSI"
    kinds: ClassVar[dict[int, type["ISCSI"]]] = {}
    always_final: ClassVar[bool] = True  # the first bit of byte 1 is always set
    may_have_data: ClassVar[bool] = True
    may_have_ahs: ClassVar[bool] = False
    later_bits: ClassVar[int] = 0  # reserved ones of bytes 0 to 7 that a later RFC uses
    match_subclass = True  # `ISCSI in packet` holds for every PDU
    fields_desc = layout(
        [*answer(0x3E), XByteField("Flags", 0x80), StrLenField("Specific0", bytes(2), length_from=lambda _: 2)],
        [StrLenField("Specific", bytes(40), length_from=lambda _: 40)],
        opaque_data(),
    )

    def __init_subclass__(cls) -> None:
        """The first subclass with an opcode is its PDU: a vendor's PDU is made known by writing its class."""
        opcode = next((field.default for field in cls.fields_desc if field.name == "Opcode"), None)
        if opcode is not None:
            ISCSI.kinds.setdefault(opcode, cls)

    @classmethod
    def dispatch_hook(cls, _pkt: bytes | None = None, *args: Any, **kargs: Any) -> Any:
        """The class of the opcode, or ISCSIFragment where no PDU starts."""
        if not _pkt:
            return cls
        if len(_pkt) < BHS_BYTES or not starts_pdu(_pkt) or depth_of(kargs.get("_underlayer")) >= MAX_CHAIN:
            return ISCSIFragment
        return cls.kinds[_pkt[0] & 0x3F]

    @classmethod
    def tcp_reassemble(cls, data: bytes, metadata: dict[str, Any], session: dict[str, Any]) -> Packet | None:
        """Whole PDUs out of a TCP stream, for Scapy's TCPSession and StreamSocket."""
        from emu.wire.iscsi.stream import reassemble  # that module needs this class

        return reassemble(data, metadata, session)

    def data_segment(self) -> bytes:
        """The data segment as it would be built, without padding."""
        octets = b""
        for field in self.data_fields():
            octets = field.addfield(self, octets, self.getfieldval(field.name))
        return octets

    @classmethod
    def data_fields(cls) -> list[Any]:
        """The fields that make up the data segment."""
        names = [field.name for field in cls.fields_desc]
        return list(cls.fields_desc[names.index("HeaderDigest") + 1 : names.index("Padding")])

    def header(self) -> bytes:
        """The basic header and its AHS list as they would be built, without digest: what a Reject carries."""
        octets = bytes(self)
        return octets[: BHS_BYTES + WORD_BYTES * octets[AHS_LENGTH_AT]]

    def dissect(self, s: bytes) -> None:
        """Less than a basic header stays as it is."""
        if len(s) >= BHS_BYTES:
            super().dissect(s)
            return
        self.raw_packet_cache = b""
        self.raw_packet_cache_fields: dict[str, Any] = {}
        self.explicit = 1
        self.add_payload(conf.raw_layer(s))

    def show2(self, *args: Any, **kargs: Any) -> Any:
        """As Scapy's, without forgetting what was negotiated."""
        return with_digests(type(self), bytes(self), int(self.digests)).show(*args, **kargs)

    def guess_payload_class(self, payload: bytes) -> Any:
        """What follows is the next PDU."""
        return ISCSI


class ISCSIFragment(Packet):
    """Bytes of an iSCSI stream where no PDU is known to start: the middle of one, or after a gap."""

    name = "iSCSI fragment"
    fields_desc: ClassVar[list[Any]] = [StrField("load", b"")]

    tcp_reassemble = ISCSI.tcp_reassemble

    def mysummary(self) -> str:
        """How much."""
        return f"iSCSI fragment of {len(self.load)} bytes"


def depth_of(below: Any) -> int:
    """How many PDUs there are below in this packet."""
    depth = 0
    while isinstance(below, ISCSI) and depth < MAX_CHAIN:
        depth += 1
        below = below.underlayer
    return depth


def starts_pdu(octets: bytes) -> bool:
    """Whether a PDU may start here: a known opcode, reserved bits zero and lengths that its kind may have.

    Looks at eight bytes, less if there are less. A stream that is followed from its start passes always, for a sender
    sets reserved bits to zero (RFC 7143 11.1); zeros and text never do.
    """
    kind = ISCSI.kinds.get(octets[0] & 0x3F)
    if kind is None or len(octets) < 2:
        return kind is not None
    fixed, mask = fixed_bits(kind)
    head = octets[:8]
    shift = 8 * (8 - len(head))
    return not (int.from_bytes(head, "big") ^ fixed >> shift) & mask >> shift


FIXED_BITS: dict[type[ISCSI], tuple[int, int]] = {}


def fixed_bits(kind: type[ISCSI]) -> tuple[int, int]:
    """Bytes 0 to 7 of a PDU as far as its kind says what they are, and the mask of these bits."""
    if kind not in FIXED_BITS:
        reserved = {name: ones_of(kind, name) for name in field_names(kind) if name.startswith("Reserved")}
        mask = int.from_bytes(bytes(kind(**reserved))[:8], "big") ^ int.from_bytes(bytes(kind())[:8], "big")
        mask |= 0x3F << 56
        if kind.always_final:
            mask |= 0x80 << 48
        if not kind.may_have_ahs:
            mask |= 0xFF << 24
        if not kind.may_have_data:
            mask |= 0xFFFFFF
        mask &= ~kind.later_bits
        FIXED_BITS[kind] = int.from_bytes(bytes(kind())[:8], "big") & mask, mask
    return FIXED_BITS[kind]


def field_names(kind: type[ISCSI]) -> list[str]:
    """Names of all fields of a PDU."""
    return [field.name for field in kind.fields_desc]


def ones_of(kind: type[ISCSI], name: str) -> int | bytes:
    """The value of a field all of whose bits are set."""
    field = next(field for field in kind.fields_desc if field.name == name)
    bits = field.size if isinstance(field, BitField) else 8 * int(field.sz)
    return b"\xff" * (bits // 8) if isinstance(field.default, bytes) else (1 << bits) - 1


def pdu_bytes(octets: bytes, digests: int) -> int:
    """Bytes of the PDU that starts here, with its digests and padding; 0 where too few to tell (RFC 7143 11.2.1)."""
    if len(octets) < AHS_LENGTH_AT + WORD_BYTES:
        return 0
    data = int.from_bytes(octets[DATA_LENGTH_AT : DATA_LENGTH_AT + 3], "big")
    total = BHS_BYTES + WORD_BYTES * octets[AHS_LENGTH_AT] + data + padding_bytes(data)
    if digests & HEADER_DIGEST:
        total += DIGEST_BYTES
    if digests & DATA_DIGEST and data:
        total += DIGEST_BYTES
    return total


class RejectedField(PacketLenField):
    """The header of a refused PDU: bytes or a PDU; dissected if a PDU starts there (RFC 7143 11.17.4)."""

    def __init__(self, name: str) -> None:
        """As long as the data segment."""
        super().__init__(name, None, ISCSI, length_from=data_bytes)

    def any2i(self, pkt: Any, x: Any) -> Any:
        """Bytes are dissected."""
        return super().any2i(pkt, self.m2i(pkt, bytes(x)) if isinstance(x, (bytes, bytearray)) else x)

    def m2i(self, pkt: Any, m: bytes) -> Any:
        """Dissected without digests; a Reject in a rejected Reject stays bytes, or hostile bytes would nest deeply."""
        if pkt is not None and pkt.parent is not None:
            return conf.raw_layer(m)
        return dissect_pdu(m, 0, _parent=pkt)


def dissect_pdu(octets: bytes, digests: int, **where: Any) -> Packet:
    """The PDU that starts here on a connection that negotiated these digests (HEADER_DIGEST | DATA_DIGEST)."""
    kind = ISCSI.dispatch_hook(octets, **where)
    if not issubclass(kind, ISCSI):
        return kind(octets, **where)
    return with_digests(kind, octets, digests, **where)


def with_digests(kind: type[ISCSI], octets: bytes, digests: int, **where: Any) -> ISCSI:
    """A PDU of this kind out of bytes; the digests must be known before they are read, so not in the constructor."""
    pdu = kind(digests=digests, **where)
    pdu.original = octets
    pdu.dissect(octets)
    return pdu
