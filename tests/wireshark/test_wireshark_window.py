"""Wireshark's own windows, on a screen that nobody sees, with all that emu installs: no error dialog, no complaint."""

import re
import time
from pathlib import Path

import pytest
from external_tools import tool
from wireshark_home import installed, replayed
from wireshark_window import PROGRAMS, Screen, complaints_in, screen, settle_in, until, wireshark

from emu.wireshark.profile import PROFILE

CONFIGURATION = Path(".config/wireshark")
BEFORE_A_FILE = "The Wireshark Network Analyzer"
SETTLED_SECONDS = 2  # so long no other window may come


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return replayed(tmp_path_factory.mktemp("window"), "verdicts", "--limit", "900")[0]


@pytest.fixture
def home(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A user who has installed everything."""
    for program in PROGRAMS:
        tool(program)
    environment = installed(tmp_path)
    settle_in(tmp_path / CONFIGURATION)
    return tmp_path, environment


def opened(on: Screen) -> str:
    """The windows once there is one that is not only the start of Wireshark's, and none comes any more."""

    def settled() -> str:
        titles = set(on.windows()) - {BEFORE_A_FILE}
        if not titles:
            return ""
        time.sleep(SETTLED_SECONDS)
        return "|".join(sorted(set(on.windows()) - {BEFORE_A_FILE}))

    return until(settled, lambda: f"only {on.windows()}")


def test_wireshark_opens_our_capture_with_our_profile_and_plugin_without_a_complaint(
    home: tuple[Path, dict[str, str]], capture: Path
) -> None:
    with screen() as on, wireshark(on, home[1], "-C", PROFILE, capture) as complaints:
        assert opened(on) == capture.name
        on.place(on.window(re.escape(capture.name)), 0, 20, 1380, 860)
        on.press("alt+s", "i")
        on.window(re.escape(f"Wireshark · I/O Graphs · {capture.name}"))
        time.sleep(SETTLED_SECONDS)
        assert len(on.windows()) == 2, on.windows()
        assert complaints_in(complaints.read_text()) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (CONFIGURATION / "profiles" / PROFILE / "dfilter_buttons", '"TRUE","x"y'),
        (Path(".local/lib/wireshark/plugins/emu.lua"), "no such thing"),
    ],
    ids=["button", "plugin"],
)
def test_an_error_dialog_is_noticed(home: tuple[Path, dict[str, str]], capture: Path, file: Path, line: str) -> None:
    broken = home[0] / file
    broken.write_text(f"{broken.read_text()}\n{line}\n")
    with screen() as on, wireshark(on, home[1], "-C", PROFILE, capture):
        assert opened(on) != capture.name
