"""`make bench-live` for a moment: it runs, and says of every row what came of it.  Nothing here is timed."""

import json
import os
import subprocess
import sys

import pytest
from emu_process import ROOT

from emu.errors import EmuError
from emu.live.lab.lab import Lab, needs_privileges
from emu.live.lab.namespaces import NAMES

BENCH = (sys.executable, str(ROOT / "tools/bench/live.py"))
SHORT = ("--rounds", "1", "--seconds", "0.2", "--steady-seconds", "0.3", "--round-trips", "50")


def bench(*arguments: str, as_nobody: bool = False) -> "subprocess.CompletedProcess[str]":
    """The tool, to its end."""
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--") if as_nobody else ()
    return subprocess.run(
        (*without, *BENCH, *arguments), capture_output=True, text=True, timeout=280, env=os.environ | {"COLUMNS": "150"}
    )


@pytest.fixture
def allowed() -> None:
    """A test that makes interfaces is skipped where that may not be done, and fails in CI."""
    try:
        needs_privileges()
        with Lab() as lab:
            lab.tap("benchtry", namespace=lab.namespace("try"))
    except EmuError as error:
        if os.environ.get("EMU_REQUIRE_TOOLS"):
            pytest.fail(f"{error}, and EMU_REQUIRE_TOOLS is set")
        pytest.skip(str(error))


def namespaces() -> set[str]:
    """Those that have a name."""
    return {path.name for path in NAMES.iterdir()} if NAMES.exists() else set()


@pytest.mark.live
@pytest.mark.usefixtures("allowed")
def test_every_row_is_measured_and_nothing_stays() -> None:
    before = namespaces()
    done = bench(*SHORT, "--wire", "all", "--json")
    assert done.returncode == 0, done.stderr
    assert namespaces() <= before
    said = json.loads(done.stdout)
    rows = {row["name"]: row for row in said["rows"]}
    assert {row["wire"] for row in said["rows"]} == {"all"}
    for name in ("tcp", "udp", "both-ways", "round-trip", "steady"):
        assert rows[name]["on_the_wire"]["median"] > 0
        assert rows[name]["veth"]["median"] > 0
    for name in ("cpu", "cpu-idle", "lost-outside"):
        assert rows[name]["veth"] is None
        assert rows[name]["on_the_wire"]["median"] >= 0
    assert {name for name, row in rows.items() if row["result"]} == {
        *("tcp", "udp", "round-trip", "lost-outside", "lost-elsewhere")
    }


@pytest.mark.live
@pytest.mark.usefixtures("allowed")
def test_a_table_shows_both_roads() -> None:
    done = bench(*SHORT, "--only", "round-trip", "--wire", "asleep")
    assert done.returncode == 0, done.stderr
    for word in ("emu live --awake 0s", "at most 30 us more", "ICMP round trip, median"):
        assert word in " ".join(done.stdout.split()), done.stdout


def test_without_privileges_one_line_says_what_is_missing() -> None:
    done = bench(*SHORT, as_nobody=os.geteuid() == 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bench: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--only", "nothing"), ("--wire", "nothing"), ("--rounds", "0")])
def test_wrong_use_is_refused(arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
