"""Wireshark itself on a screen that nobody sees: Xvfb, a window manager, and hands to press keys.

Needs xvfb, openbox, xdotool, imagemagick, wireshark; what is missing is named in one line.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Each program and the Debian package that it comes with.
PROGRAMS = {
    "Xvfb": "xvfb",
    "openbox": "openbox",
    "xdotool": "xdotool",
    "import": "imagemagick",
    "wireshark": "wireshark",
}
PATIENCE_SECONDS = 120  # a window that is not there by then does not come
GLANCE_SECONDS = 0.2
# What Wireshark on a bare machine says whatever it is started with.
USUAL = ("nl80211 not found.", "QStandardPaths: ", "Running as user ", "dconf-CRITICAL", "libEGL", "MESA")


class Screen(NamedTuple):
    """A virtual screen: its display, and how big it is in pixels."""

    display: str
    width: int
    height: int

    def windows(self) -> list[str]:
        """The titles of the windows that can be seen."""
        found = self._xdotool("search", "--onlyvisible", "--class", ".", check=False).split()
        titles = [self._xdotool("getwindowname", window, check=False).strip() for window in found]
        return [title for title in titles if title]

    def window(self, title: str) -> str:
        """The number of the window of a title; waits for it.  Errors: TimeoutError that says what is there."""

        def look() -> str:
            found = self._xdotool("search", "--onlyvisible", "--name", f"^{title}$", check=False).split()
            return found[-1] if found else ""

        return until(look, lambda: f"no window {title!r}; there are {self.windows()}")

    def place(self, window: str, left: int, top: int, width: int, height: int) -> None:
        """Move a window, give it a size, and the keyboard."""
        self._xdotool("windowsize", "--sync", window, str(width), str(height))
        self._xdotool("windowmove", window, str(left), str(top))
        self._xdotool("windowactivate", "--sync", window)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other; a menu needs a moment to open."""
        for key in keys:
            self._xdotool("key", key)
            time.sleep(0.5)

    def click(self, window: str, left: int, top: int) -> None:
        """Click at a place of a window."""
        self._xdotool("mousemove", "--window", window, str(left), str(top), "click", "1")
        time.sleep(0.5)

    def picture(self, path: Path, *, window: str = "root") -> None:
        """A PNG of the screen, or of a window; without colours that nobody can tell apart, and without its date."""
        small = ("-strip", "-colors", "256", "-define", "png:exclude-chunks=date,time")
        subprocess.run(["import", "-display", self.display, "-window", window, *small, str(path)], check=True)

    def _xdotool(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["xdotool", *arguments],
            env={**os.environ, "DISPLAY": self.display},
            capture_output=True,
            check=check,
            timeout=PATIENCE_SECONDS,
        )
        return done.stdout.decode()


def missing_packages() -> list[str]:
    """The packages that have to be installed first."""
    return [package for program, package in PROGRAMS.items() if shutil.which(program) is None]


@contextmanager
def screen(width: int = 1400, height: int = 900) -> Iterator[Screen]:
    """A screen with a window manager, as long as it is needed."""
    read_end, write_end = os.pipe()
    size = ("-screen", "0", f"{width}x{height}x24")
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write_end), *size, "-nolisten", "tcp"],
        pass_fds=(write_end,),
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end) as answer:
            display = f":{answer.readline().strip()}"
        environment = {**os.environ, "DISPLAY": display}
        manager = subprocess.Popen(["openbox"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Screen(display, width, height)
        finally:
            stop(manager)
    finally:
        stop(server)


@contextmanager
def wireshark(on: Screen, environment: Mapping[str, str], *arguments: str | Path) -> Iterator[Path]:
    """Wireshark with these arguments; gives the file that has what it complains of on stderr."""
    with tempfile.TemporaryDirectory(prefix="wireshark-") as runtime:
        complaints = Path(runtime) / "stderr"
        with complaints.open("wb") as stderr:
            program = subprocess.Popen(
                ["wireshark", *map(str, arguments)],
                env={**environment, "DISPLAY": on.display, "XDG_RUNTIME_DIR": runtime},
                stdout=stderr,
                stderr=stderr,
            )
        try:
            yield complaints
        finally:
            stop(program)


def complaints_in(text: str) -> list[str]:
    """The lines of Wireshark's stderr that say that something is wrong."""
    return [line for line in text.splitlines() if line.strip() and not any(usual in line for usual in USUAL)]


def settle_in(configuration: Path, width: int = 1300, height: int = 800) -> None:
    """Let Wireshark start without its warning to root, and as big as this."""
    configuration.mkdir(parents=True, exist_ok=True)
    lines = [f"gui.geometry_main_{name}: {value}" for name, value in (("width", width), ("height", height))]
    (configuration / "recent_common").write_text("\n".join(["privs.warn_if_elevated: FALSE", *lines, ""]))


def until(look: Callable[[], str], failed: Callable[[], str]) -> str:
    """What `look` finds, as soon as it finds something.  Errors: TimeoutError with the sentence of `failed`."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not (found := look()):
        if time.monotonic() > ends:
            raise TimeoutError(failed())
        time.sleep(GLANCE_SECONDS)
    return found


def stop(program: "subprocess.Popen[bytes]") -> None:
    """End a program that we have started."""
    program.terminate()
    try:
        program.wait(20)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
