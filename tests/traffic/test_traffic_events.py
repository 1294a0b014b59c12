"""A recorded stream as a file: what a machine can have recorded, and what it cannot."""

from pathlib import Path

import pytest

from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import BACKLOG_DEV, EVENT_PLAN, EVENT_POLL_BEGIN
from emu.traffic.events import EventReader

HEADER = '{"emu_events": 1}\n'


def read(tmp_path: Path, line: str) -> EventReader:
    """A reader of one event, on a machine with two devices and a plan of three entries."""
    path = tmp_path / "events.jsonl"
    path.write_text(HEADER + line + "\n")
    reader = EventReader(str(path), PlainEngine(), 2, 3)
    assert reader.chunk() == 1
    return reader


def test_polls_of_the_backlog_and_entries_of_the_plan_are_events(tmp_path: Path) -> None:
    """The backlog is polled as device 16; a plan's entry is named by its number."""
    event = read(tmp_path, f'["poll-begin", 5, 7, {BACKLOG_DEV}, 64]').events[0]
    assert (event.event, event.dev, event.number) == (EVENT_POLL_BEGIN, BACKLOG_DEV, 64)
    event = read(tmp_path, '["plan", 5, 7, 0, 2]').events[0]
    assert (event.event, event.number) == (EVENT_PLAN, 2)


@pytest.mark.parametrize(
    "line",
    ['["plan", 5, 7, 0, 3]', '["plan", 5, 7, 0, -1]', '["intr", 5, 7, 2, 0]', '["intr", 5, 7, 16, 0]'],
)
def test_an_entry_or_a_device_that_the_machine_lacks_is_refused(tmp_path: Path, line: str) -> None:
    """The line is quoted."""
    with pytest.raises(UsageError, match="not possible on this machine"):
        read(tmp_path, line)
