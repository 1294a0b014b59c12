"""Any bytes as a capture: rows that lie within the window, or one CaptureError; nothing else comes out."""

import io

from emu.capture.compression import Source
from emu.capture.reader import CaptureReader
from emu.engine.plain import PlainEngine
from emu.errors import CaptureError
from emu.kernel.machine import Packet

ROWS = 8
READS = 64  # a decompressed bomb goes on for ever
WINDOW = 256


def one_input(octets: bytes) -> None:
    """Read a capture of these bytes, giving up what is read at every other step."""
    engine = PlainEngine()
    rows = engine.rows(Packet, ROWS)
    try:
        reader = CaptureReader(Source(io.BytesIO(octets), "fuzz", len(octets)), "fuzz", engine, WINDOW)
        frame = 0
        for step in range(READS):
            count = reader.read(rows, 0, ROWS)
            assert 0 <= count <= ROWS
            if count == 0:
                break
            held = len(reader.octets)
            for at in range(count):
                frame += 1
                row = rows[at]
                assert row.frame == frame
                assert 0 <= row.offset <= row.offset + row.caplen <= min(held, reader.position), "outside of the window"
                assert 0 <= row.length < 1 << 32
                assert abs(row.file_time_ns) < 1 << 63
                assert 0 <= row.iface < len(reader.interfaces)
            if step % 2:
                reader.discard(reader.position)
        assert reader.damage is None or str(reader.damage)
    except CaptureError as error:
        assert "\n" not in str(error)
