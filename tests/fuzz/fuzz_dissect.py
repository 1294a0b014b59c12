"""Any bytes as a frame of any link type: no byte outside of it is read, and every field stays within its bounds.

The first 8 bytes of an input choose: link type, mode of checksums, offload, direction, bytes cut off (2), MTU (2).
"""

from typing import Any

from fuzz_kit import Guarded, fits_64_bits

from emu.capture.bpf import Program
from emu.engine.plain import PlainEngine
from emu.kernel.machine import PACKET_FILTERED, Packet
from emu.traffic.arrivals import MAX_SEGMENTS, Feed, prepare
from emu.traffic.inlets import Inlet
from emu.wire import headers
from emu.wire.headers import CSUM_UNKNOWN, KINDS, TOO_SHORT

LINKTYPES = headers.DISSECTED_LINKTYPES
CHOICES = 8
MARGIN = 16  # bytes around the frame that must not be read
ENGINE = PlainEngine()
NO_FILTER = Program("", ()).load(ENGINE)


def one_input(octets: bytes) -> None:
    """Make an arrival of a frame."""
    choices = octets[:CHOICES].ljust(CHOICES, b"\0")
    frame = octets[CHOICES:]
    feed = Feed()
    feed.checksums, feed.offload = choices[1] % 3, choices[2] % 3
    feed.inlets = 1
    inlets = ENGINE.rows(Inlet, 1)
    inlet = inlets[0]
    inlet.host_known = 1
    inlet.by_direction = choices[3] >> 4 & 1
    inlet.host_mac = 0x020000000002
    inlet.host_family = (0, 4, 6)[choices[3] >> 5 & 3 if choices[3] >> 5 & 3 < 3 else 0]
    inlet.mtu = 68 + (choices[6] << 8 | choices[7]) % 16_043
    rows = ENGINE.rows(Packet, 1)
    row = rows[0]
    row.frame, row.offset, row.caplen = 1, MARGIN, len(frame)
    row.length = len(frame) + (choices[4] << 8 | choices[5]) % 70_000
    row.direction = choices[3] % 3
    row.linktype = LINKTYPES[choices[0] % len(LINKTYPES)]
    around = bytes(MARGIN) + frame + bytes(MARGIN)
    guarded: Any = Guarded(around, MARGIN, MARGIN + len(frame))
    prepare(feed, rows, 0, 1, guarded, NO_FILTER, inlets)
    fits_64_bits(row)
    assert 0 <= row.kind < len(KINDS)
    assert 0 <= row.header_error <= max(TOO_SHORT, 15)
    assert 0 <= row.pkt_type < PACKET_FILTERED
    assert 1 <= row.segments <= MAX_SEGMENTS
    for port in (row.sport, row.dport):
        assert 0 <= port <= 0xFFFF
    for checksum in (row.ip_csum, row.l4_csum):
        assert 0 <= checksum <= CSUM_UNKNOWN
    assert 0 <= row.payload_length <= max(row.length, 0x1FFFF)
