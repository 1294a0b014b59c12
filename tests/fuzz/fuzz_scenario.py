"""Any text as a scenario: a scenario that boots and reads back as itself, or problems, each in one line."""

import tempfile
from pathlib import Path

from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.machine_of import machine_of
from emu.scenario import ring_of
from emu.scenario_file import load_scenario, parse_setting, show_scenario

FOLDER = tempfile.TemporaryDirectory(prefix="emu-fuzz-")
RINGS = 1024  # descriptors that may be filled for one input


def one_input(octets: bytes) -> None:
    """Load the text; what follows a line `###` are settings, one a line."""
    file, again = Path(FOLDER.name, "s.toml"), Path(FOLDER.name, "again.toml")
    text, _, options = octets.partition(b"\n###\n")
    file.write_bytes(text)
    try:
        settings = dict(parse_setting(line) for line in options.decode(errors="replace").splitlines() if line)
        scenario = load_scenario(str(file), settings)
    except UsageError as error:
        for line in str(error).split("\n"):
            assert line.strip(), "an empty line"
        return
    again.write_text(show_scenario(scenario), encoding="utf-8")
    assert load_scenario(str(again)) == scenario
    if sum(ring_of(scenario, device) for device in scenario.device) <= RINGS:
        machine_of(PlainEngine(), scenario)
