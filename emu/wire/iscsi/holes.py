"""What is missing of a TCP stream while it is put together: Scapy's session fills it with zeros and says nothing."""

from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet import TCP

SEQUENCE_MASK = 0xFFFFFFFF
BEFORE_ALL = 1 << 31  # a position from here on is one before the first segment


@dataclass
class Holes:
    """Spans of a buffer that no segment has filled yet, in order; positions in bytes from the buffer's start."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    length_bytes: int = 0
    ended: bool = False  # by FIN or RST: nothing more comes to fill them

    def arrive(self, start: int, end: int, length_bytes: int) -> None:
        """A segment fills `start` to `end`, after which the buffer has `length_bytes`."""
        spans = [*self.spans, (self.length_bytes, start)] if start > self.length_bytes else self.spans
        left = [(low, min(high, start)) for low, high in spans]
        right = [(max(low, end), high) for low, high in spans]
        self.spans = sorted({(low, high) for low, high in left + right if low < high})
        self.length_bytes = length_bytes

    def without(self, taken_bytes: int) -> "Holes":
        """The same after that many bytes were taken from the buffer's start."""
        spans = [(max(low - taken_bytes, 0), high - taken_bytes) for low, high in self.spans if high > taken_bytes]
        return Holes(spans, self.length_bytes - taken_bytes, self.ended)

    def first(self) -> tuple[int, int]:
        """The first hole; an empty one at the buffer's end if there is none."""
        return self.spans[0] if self.spans else (self.length_bytes, self.length_bytes)


def follow(holes: Holes, metadata: dict[str, Any], length_bytes: int) -> None:
    """Note the segment with which Scapy's session came, if it came with one."""
    holes.ended = holes.ended or bool(metadata.get("tcp_end"))
    packet: Any = metadata.get("original")
    size = len(packet[TCP].payload.original) if packet is not None else 0
    if size == 0:
        return
    start = (packet[TCP].seq - metadata["relative_seq"] - 1) & SEQUENCE_MASK
    if start >= BEFORE_ALL:  # the buffer has grown at its start, and positions are no longer known
        holes.spans, start = [], holes.length_bytes
    holes.arrive(start, start + size, length_bytes)
