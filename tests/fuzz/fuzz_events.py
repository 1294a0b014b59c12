"""Any text as a recorded event stream of a small capture: it is played, with all invariants, or refused in one line."""

import io
import tempfile
from pathlib import Path

from fuzz_kit import tiny_pcap, udp_frame

from emu.capture.compression import Source
from emu.capture.reader import CaptureReader
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.play import replay
from emu.scenario_file import load_scenario
from emu.task import Task

FOLDER = tempfile.TemporaryDirectory(prefix="emu-fuzz-")
FRAMES = 24
CAPTURE = tiny_pcap([udp_frame(5000 + number % 3, bytes(40 * number)) for number in range(FRAMES)])
SCENARIO = load_scenario(
    None, {"device.0.ring": 80, "machine.memory": "32MiB", "device.0.weight": 4, "readers.ordinary": "needs-memory"}
)
HEADER = b'{"emu_events": 1}\n'


def one_input(octets: bytes) -> None:
    """Play the capture with the stream."""
    events = Path(FOLDER.name, "events.jsonl")
    events.write_bytes(octets if octets.startswith(b"{") else HEADER + octets)
    engine = PlainEngine()
    reader = CaptureReader(Source(io.BytesIO(CAPTURE), "fuzz", len(CAPTURE)), "fuzz", engine)
    try:
        outcome = replay(Task(SCENARIO, "fuzz", events=str(events)), engine, reader)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    m = outcome.machine
    assert m.total.frames == FRAMES
    for zone in range(m.zones):
        assert 0 <= m.zone[zone].other_pages <= m.zone[zone].present_pages
        assert 0 <= m.zone[zone].free_pages <= m.zone[zone].present_pages
