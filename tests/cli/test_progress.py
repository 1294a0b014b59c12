"""What a person sees of a long run while it lasts: rate, time left, drops; nothing where nobody looks."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

from emu_process import EMU, LOGIN, NOP, emu

from emu.cli.progress import words
from emu.reached import Reached, telling

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLUMNS = 140


def on_a_terminal(*arguments: str, stdin: bytes | None = None) -> list[str]:
    """What `emu` shows on a terminal that is its stderr, line by line; stdout is none."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(
        [*EMU, *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=theirs, env=environment
    )
    os.close(theirs)
    assert process.stdin is not None
    if stdin is not None:
        process.stdin.write(stdin)
    process.stdin.close()
    seen = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return [line.strip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", seen.decode())) if line.strip()]


def test_a_terminal_shows_rate_time_left_and_drops() -> None:
    """A row that is drawn anew while it plays, and says in the end how much there was."""
    lines = on_a_terminal("replay", LOGIN, "--loop", "60", "--engine", "plain", "--policy", "mainline")
    rows = [line for line in lines if line.startswith("mainline")]
    assert any(re.search(r"[\d.]+k? packets/s, \d+:\d\d left, \d+ packets, \d+ drops", row) for row in rows)
    assert f"{60 * 80} packets" in rows[-1]


def test_each_policy_has_its_row() -> None:
    """Also of policies that other processes play."""
    for jobs in ("1", "2"):
        lines = on_a_terminal(
            "compare", LOGIN, "--policies", "mainline,phillips-v1", "--engine", "plain", "--jobs", jobs
        )
        for policy in ("mainline", "phillips-v1"):
            assert any(line.startswith(policy) and " 80 packets" in line for line in lines), (jobs, policy)


def test_nobody_knows_how_long_a_pipe_will_last() -> None:
    """Standard input: no time left."""
    lines = on_a_terminal("replay", "-", "--engine", "plain", "--progress", stdin=Path(NOP).read_bytes())
    assert any("packets" in line for line in lines)
    assert not any("left" in line for line in lines)


def test_nothing_is_shown_where_stderr_is_no_terminal() -> None:
    """Not a byte, unless it is asked for."""
    assert emu("replay", NOP, "--engine", "plain").err == ""
    assert "packets" in emu("replay", NOP, "--engine", "plain", "--progress").err
    assert on_a_terminal("replay", NOP, "--engine", "plain", "--no-progress") == []


def test_the_words_behind_the_bar() -> None:
    """Rates are of the last seconds; what is not known yet is not said."""
    half = Reached(500, 1000, 3_000_000, 7)
    assert words(half, half, 0.0, is_time=False) == "3000000 packets, 7 drops"
    assert words(half, Reached(0, 1000, 0, 0), 2.0, is_time=False) == (
        "1.5M packets/s, 0:02 left, 3000000 packets, 7 drops"
    )
    assert words(half._replace(total=None), Reached(0, None, 0, 0), 2.0, is_time=False) == (
        "1.5M packets/s, 3000000 packets, 7 drops"
    )
    virtual = Reached(10**9, 4 * 10**9, 12, 0)
    assert words(virtual, Reached(0, virtual.total, 0, 0), 1.0, is_time=True) == (
        "12 packets/s, 0:03 left, 1.00 of 4 s, 12 packets, 0 drops"
    )


def test_a_player_is_asked_seldom_and_at_the_end() -> None:
    """Between two looks a batch costs a look at the clock; the last one is always shown."""
    from contextlib import nullcontext

    shown: list[Reached] = []
    asked: list[int] = []

    def reached(source: int, m: int) -> Reached:
        asked.append(source)
        return Reached(source, None, m, 0)

    with telling(nullcontext(shown.append), reached) as advance:
        assert advance is not None
        for at in range(1000):
            advance(at, at)
    assert asked[0] == 0
    assert shown[-1].done == 999
    assert len(asked) < 100
    with telling(nullcontext(None), reached) as advance:
        assert advance is None
