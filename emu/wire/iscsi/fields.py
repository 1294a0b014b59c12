"""Scapy fields that only iSCSI has: what was negotiated, digests, padding and key=value text (RFC 7143)."""

# Scapy is untyped, and its hooks have arguments that not every field wants.
# mypy: disallow-subclassing-any=False
# ruff: noqa: ARG002

from typing import Any

from scapy.config import conf
from scapy.fields import ByteField, Field, FlagsField, StrField, StrLenField, X3BytesField, XByteField
from scapy.layers.sctp import crc32c

from emu.wire.iscsi.names import LOGIN_STATUS

HEADER_DIGEST = 1
DATA_DIGEST = 2
WORD_BYTES = 4
DIGEST_BYTES = 4

conf.contribs.setdefault("ISCSI", {}).setdefault("digests", 0)

Pairs = list[tuple[str, str]]


def digest(octets: bytes) -> int:
    """CRC32C as a number in network order: 0xAA36918A for 32 zero bytes (RFC 7143 13.1, vectors in RFC 3720 B.4)."""
    return int(crc32c(octets))


def padding_bytes(length_bytes: int) -> int:
    """How many bytes of padding follow a data segment of this length (RFC 7143 11.1)."""
    return -length_bytes % WORD_BYTES


class DigestsField(FlagsField):
    """Which digests the connection negotiated (RFC 7143 13.1): known to both ends, on no wire, so no byte of the PDU.

    A dissected PDU takes it from the PDU before it in the segment, or from `conf.contribs["ISCSI"]["digests"]`, or from
    the session (stream.py); the default is none.
    """

    def __init__(self, name: str) -> None:
        """Flags `header` and `data`."""
        super().__init__(name, 0, 2, ["header", "data"])

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        """Adds nothing."""
        return s

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, Any]:
        """Takes nothing."""
        value = pkt.fields.get(self.name)
        if value is None:
            below = pkt.underlayer
            value = getattr(below, "digests", None) if hasattr(below, "data_segment") else None
        if value is None:
            value = conf.contribs["ISCSI"]["digests"]
        return s, self.any2i(pkt, value)


class AHSLengthField(XByteField):
    """TotalAHSLength in words of 4 bytes, counted when not given (RFC 7143 11.2.1.5)."""

    def i2m(self, pkt: Any, x: int | None) -> int:
        """Count what the AHS list will be."""
        if x is None:
            field, value = pkt.getfield_and_val("AHS")
            x = len(field.addfield(pkt, b"", value)) // WORD_BYTES
        return x


class DataSegmentLengthField(X3BytesField):
    """DataSegmentLength in bytes without padding, counted when not given (RFC 7143 11.2.1.6)."""

    def addfield(self, pkt: Any, s: bytes, val: int | None) -> bytes:
        """Count what the data segment will be."""
        if val is None:
            val = len(pkt.data_segment())
        return bytes(super().addfield(pkt, s, val))

    def i2repr(self, pkt: Any, x: int | None) -> str:
        """A length is decimal."""
        return repr(x)


class PaddingField(StrField):
    """Bytes that fill the data segment up to a word; zeros when not given (RFC 7143 11.1)."""

    def addfield(self, pkt: Any, s: bytes, val: bytes | None) -> bytes:
        """As given, or as many zeros as the data segment wants."""
        return s + padding_of(pkt, val)

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, bytes]:
        """As many as should be there and are."""
        length = padding_bytes(pkt.DataSegmentLength)
        return s[length:], s[:length]


class DigestField(Field[Any, Any]):
    """A digest: computed when not given; bytes where the capture ends inside of it (RFC 7143 11.2.3)."""

    __slots__ = ("kind",)

    def __init__(self, name: str, kind: int) -> None:
        """`kind` is HEADER_DIGEST or DATA_DIGEST."""
        super().__init__(name, None, "I")
        self.kind = kind

    def present(self, pkt: Any) -> bool:
        """Whether there is one: if negotiated, and for data if there is data (RFC 7143 11.2.3)."""
        if not int(pkt.digests) & self.kind:
            return False
        if self.kind == HEADER_DIGEST:
            return True
        length = pkt.DataSegmentLength
        return bool(pkt.data_segment() if length is None else length)

    def addfield(self, pkt: Any, s: bytes, val: int | bytes | None) -> bytes:
        """The header's covers what the PDU has so far; the data's, the data segment with its padding."""
        if isinstance(val, bytes):
            return s + val
        if not self.present(pkt):
            return s
        if val is None:
            covered = s if self.kind == HEADER_DIGEST else pkt.data_segment() + padding_of(pkt, pkt.Padding)
            val = digest(covered)
        return s + val.to_bytes(DIGEST_BYTES, "big")

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, int | bytes | None]:
        """Four bytes, or as many as are there."""
        if not self.present(pkt):
            return s, None
        if len(s) < DIGEST_BYTES:
            return b"", s
        return s[DIGEST_BYTES:], int.from_bytes(s[:DIGEST_BYTES], "big")

    def i2repr(self, pkt: Any, x: Any) -> str:
        """A digest is hexadecimal."""
        return f"{x:#010x}" if isinstance(x, int) else repr(x)


class StatusDetailField(ByteField):
    """Status-Detail, which means something only with its Status-Class (RFC 7143 11.13.5)."""

    def i2repr(self, pkt: Any, x: int) -> str:
        """Named as the two together are."""
        return LOGIN_STATUS.get(pkt.StatusClass << 8 | x, repr(x))


class KeyValuesField(StrLenField):
    """Text of a negotiation: a list of (key, value), or the bytes where they are not `key=value` NUL (RFC 7143 6.1).

    Takes a dict, pairs, text or bytes. Keys may repeat (TargetAddress), so a dict is only for asking. Bytes that do not
    split cleanly, as when text continues in the next PDU (C bit), stay bytes: whatever was read is built again.
    """

    islist = 1

    def any2i(self, pkt: Any, x: Any) -> Pairs | bytes:
        """What a user or the wire gives."""
        if isinstance(x, dict):
            return [(str(key), str(value)) for key, value in x.items()]
        if isinstance(x, (list, tuple)):
            return [(str(key), str(value)) for key, value in x]
        return pairs_of(x.encode("utf-8", "surrogateescape") if isinstance(x, str) else bytes(x or b""))

    def m2i(self, pkt: Any, x: bytes) -> Pairs | bytes:
        """From the wire."""
        return pairs_of(x)

    def i2m(self, pkt: Any, x: Any) -> bytes:
        """To the wire."""
        value = self.any2i(pkt, x)
        return value if isinstance(value, bytes) else text_of(value)

    def i2len(self, pkt: Any, x: Any) -> int:
        """In bytes."""
        return len(self.i2m(pkt, x))

    def i2repr(self, pkt: Any, x: Any) -> str:
        """As the list or bytes that it is."""
        return repr(x)


def text_of(pairs: Pairs) -> bytes:
    """Key=value text, each pair ended by a NUL, in UTF-8 (RFC 7143 6.1)."""
    return b"".join(f"{key}={value}\0".encode("utf-8", "surrogateescape") for key, value in pairs)


def pairs_of(text: bytes) -> Pairs | bytes:
    """The pairs of key=value text, or the text itself if it is not made of whole pairs."""
    items = text.split(b"\0")
    if items.pop() or not all(b"=" in item for item in items):
        return text
    split = [item.decode("utf-8", "surrogateescape").split("=", 1) for item in items]
    return [(key, value) for key, value in split]


def padding_of(pkt: Any, given: bytes | None) -> bytes:
    """Padding as given, or as counted."""
    return bytes(padding_bytes(len(pkt.data_segment()))) if given is None else given
