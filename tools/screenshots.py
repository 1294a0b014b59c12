"""Takes the pictures of Wireshark in the documents: docs/wireshark.png and docs/wireshark-io.png.

Replays pcaps/mixed.pcap, installs plugin and profile into a home of their own, and lets Wireshark show them on a screen
that nobody sees.  The same versions of Wireshark, Qt and its fonts make the same pictures.
"""

import os
import re
import sys
import tempfile
import time
from pathlib import Path

from wireshark_window import Screen, missing_packages, screen, settle_in, wireshark

from emu.api import replay
from emu.wireshark.folders import folders
from emu.wireshark.install import install
from emu.wireshark.profile import PROFILE

ROOT = Path(__file__).parents[1]
CAPTURE = ROOT / "pcaps" / "mixed.pcap"
DOCS = ROOT / "docs"
DROPPED_FRAME = 371  # a datagram that meets the device's cap: its comment names the culprit
WIDTH, HEIGHT = 1400, 950
LIST_HEIGHT = 200  # the rest is for the plugin's fields
INTERVAL = (435, 645)  # where the graphs' window has its choice of an interval
DETAILS = (300, HEIGHT - 60)  # below the last line of the details
DRAWN_SECONDS = 2
STILL_PICTURES = 3


def main() -> int:
    """Take both pictures; the exit code."""
    if missing := missing_packages():
        print(f"screenshots: install {' '.join(missing)} first", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="emu-screenshots-") as folder:
        home = Path(folder)
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "LC_ALL": "C.UTF-8"}
        verdicts = home / "verdicts.pcapng"
        replay(str(CAPTURE), write=str(verdicts), keep_verdicts=False)
        places = folders(environment)
        install(places, ["plugin", "profile"])
        settle_in(places.configuration, WIDTH, HEIGHT)
        with (places.profile / "recent").open("a") as recent:
            recent.write(f"gui.geometry_main_upper_pane: {LIST_HEIGHT}\n")
        with screen(WIDTH, HEIGHT) as on, wireshark(on, environment, "-C", PROFILE, "-g", str(DROPPED_FRAME), verdicts):
            show_packets(on, verdicts.name)
            show_graphs(on, verdicts.name)
    print(f"{DOCS / 'wireshark.png'}, {DOCS / 'wireshark-io.png'}")
    return 0


def show_packets(on: Screen, name: str) -> None:
    """The packet list at a dropped frame, with what the plugin says of it."""
    window = on.window(re.escape(name))
    on.place(window, 0, 0, on.width, on.height)
    time.sleep(DRAWN_SECONDS)
    # Into the details, to the last tree, its fields, the last of them.
    on.click(window, *DETAILS)
    on.press("End", "End", "Right", "End")  # the first only enters the tree
    when_still(on, window, DOCS / "wireshark.png")


def show_graphs(on: Screen, name: str) -> None:
    """The I/O graphs of the profile."""
    on.press("alt+s", "i")
    graphs = on.window(re.escape(f"Wireshark · I/O Graphs · {name}"))
    on.place(graphs, 0, 0, 1000, 700)
    # Not before it has counted: Wireshark would leave out what it counted until then.
    when_still(on, graphs, DOCS / "wireshark-io.png")
    on.click(graphs, *INTERVAL)
    on.press("Up", "Up", "Up", "Return")  # 1 s, 500 ms, 200 ms, 100 ms
    when_still(on, graphs, DOCS / "wireshark-io.png")


def when_still(on: Screen, window: str, path: Path) -> None:
    """A picture of a window in which nothing changes any more: Wireshark draws what it has counted so far."""
    before = b""
    still = 0
    while still < STILL_PICTURES:
        time.sleep(DRAWN_SECONDS)
        on.picture(path, window=window)
        still = still + 1 if path.read_bytes() == before else 0
        before = path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
