"""What a person sees of a live run and of the demonstration."""

import os
import pty
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console
from status_kit import MACHINE, NOW_NS, QUIET, REAL, STATE, WAITS, drawn
from syrupy.assertion import SnapshotAssertion

from emu.live.demo.screen import DemoScreen, demo_picture
from emu.live.demo.view import DemoView, WorldView
from emu.live.status.find_runs import Found
from emu.live.status.real_host import RealHost
from emu.live.status.screen import MOST_CONNECTIONS, RunView, run_picture
from emu.live.status.status import picture
from emu.live.status.widgets import BAR_COLUMNS, Level

LOCKED = WorldView(
    label="before",
    policy="linux-2.6.12",
    phase="ended",
    total=8192,
    seconds=20.0,
    outcome="LOCKUP",
    verdict="no write completed within 20 s",
    state=STATE,
    real=REAL,
)
WRITES = WorldView(
    label="after", policy="phillips-v5", phase="writing", completed=1234, total=8192, seconds=0.7, state=STATE
)
DEMO = DemoView(title="Block I/O under a flood", seconds=23.4, limit_seconds=90.0, worlds=[LOCKED, WRITES])


@pytest.mark.parametrize("width", [140, 60])
def test_a_run_is_shown_beside_its_machine_or_below_it(width: int, snapshot: SnapshotAssertion) -> None:
    assert drawn(run_picture(RunView(state=STATE, real=REAL), NOW_NS), width) == snapshot


def test_a_run_that_is_silent_says_so_and_what_was_not_seen_is_said(snapshot: SnapshotAssertion) -> None:
    real = RealHost(not_seen=["namespace x: only root may look into it (sudo emu live status)"])
    assert drawn(run_picture(RunView(state=QUIET, real=real), NOW_NS), 120) == snapshot


def test_two_runs_and_what_cannot_be_shown_are_all_there() -> None:
    views = [RunView(state=STATE, real=REAL), RunView(state=QUIET, real=REAL)]
    shown = drawn(picture(views, Found(hidden=["run 12: Permission denied"], died=2), NOW_NS), 120)
    assert shown.index("cured") < shown.index("run 4711 under") < shown.index("run 12: Permission denied")
    assert shown.count("emulated machine (no real memory)") == 2
    assert "2 runs that have died left something behind" in shown


@pytest.mark.parametrize("width", [120, 60])
def test_the_worlds_of_a_demonstration_stand_side_by_side(width: int, snapshot: SnapshotAssertion) -> None:
    assert drawn(demo_picture(DEMO, NOW_NS), width) == snapshot


def test_runs_that_are_followed_together_stand_side_by_side(snapshot: SnapshotAssertion) -> None:
    views = [RunView(state=STATE, real=REAL), RunView(state=QUIET, real=REAL)]
    assert drawn(picture(views, Found(), NOW_NS, short=True), 120) == snapshot


def test_a_world_that_is_silent_says_so_until_it_has_ended() -> None:
    silent = replace(WRITES, state=QUIET)
    assert "for 5.2 s: this is old" in drawn(demo_picture(replace(DEMO, worlds=[silent]), NOW_NS), 100)
    ended = replace(silent, outcome="progress")
    assert "this is old" not in drawn(demo_picture(replace(DEMO, worlds=[ended]), NOW_NS), 100)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    shown = drawn(demo_picture(DEMO, NOW_NS), 80, "ascii")
    assert "###-----------------" in shown
    assert shown.isascii()
    assert drawn(run_picture(RunView(state=STATE, real=REAL), NOW_NS), 120, "ascii").isascii()


def test_names_of_a_state_are_text_and_no_commands() -> None:
    state = replace(STATE, label="[red]x[/]\x1b[2J", policy="a\nb", host_if="[/]")
    shown = drawn(run_picture(RunView(state=state, real=REAL), NOW_NS), 200)
    assert "[red]x[/]?[2J" in shown
    assert "under a?b: [/] - emuwire0" in shown


def test_of_many_connections_those_that_wait_are_shown_and_the_others_counted() -> None:
    calm = [replace(WAITS, local=f"10.66.0.9:{port}", backoff=0) for port in range(1000, 1010)]
    shown = drawn(run_picture(RunView(state=STATE, real=replace(REAL, connections=[*calm, WAITS])), NOW_NS), 140)
    assert "backoff 3" in shown
    assert f"and {len(calm) + 1 - MOST_CONNECTIONS} more connections" in shown


@pytest.mark.parametrize(
    ("value", "whole", "cells"), [(0, 100, 0), (1, 1000, 1), (50, 100, 10), (999, 1000, 19), (7, 7, 20), (9, 7, 20)]
)
def test_a_bar_never_shows_something_as_nothing_nor_nearly_all_as_all(value: int, whole: int, cells: int) -> None:
    assert drawn(Level(value, whole), 80, "ascii") == "#" * cells + "-" * (BAR_COLUMNS - cells)


def test_a_bar_keeps_its_width_where_words_do_not_have_room() -> None:
    state = replace(STATE, emulated=replace(MACHINE, rx_reserve_used=50))
    assert "#" * BAR_COLUMNS in drawn(run_picture(RunView(state=state, real=REAL), NOW_NS), 50, "ascii")


def test_on_a_terminal_the_last_picture_stays_and_the_cursor_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as file:
        with DemoScreen(Console(file=file, width=120, height=60)) as screen:
            screen.update(replace(DEMO, worlds=[WRITES]))
            screen.update(DEMO)
        file.flush()
        shown = os.read(ours, 1 << 16)
        while b"\x1b[?25h" not in shown:
            shown += os.read(ours, 1 << 16)
    os.close(ours)
    assert shown.rindex(b"no write completed within 20 s") > shown.rindex(b"1 234 of 8 192")


def test_without_a_terminal_a_demonstration_tells_each_change_once() -> None:
    file = StringIO()
    with DemoScreen(Console(file=file, width=80, highlight=False, color_system=None)) as screen:
        for world in (WRITES, replace(WRITES, completed=2000), replace(WRITES, phase="ended"), LOCKED, LOCKED):
            screen.update(replace(DEMO, worlds=[world]))
    assert file.getvalue().splitlines() == [
        " 23.4 s  after (phillips-v5): writing, 1 234 of 8 192 writes",
        " 23.4 s  after (phillips-v5): ended, 1 234 of 8 192 writes",
        " 23.4 s  before (linux-2.6.12): LOCKUP, no write completed within 20 s",
    ]
