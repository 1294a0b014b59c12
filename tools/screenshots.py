"""Takes the pictures of Wireshark and of a report in the documents: docs/wireshark*.png and docs/report.png.

Replays pcaps/mixed.pcap, installs plugin and profile into a home of their own, and lets Wireshark show them on a screen
that nobody sees, and Chromium the report.  The same versions of these programs and fonts make the same pictures.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

from wireshark_window import Screen, missing_packages, screen, settle_in, wireshark

from emu.api import replay
from emu.verdicts.read import open_verdicts
from emu.verdicts.report.page import write_replay_report
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
MEMORY_FRAMES = 720  # until storage has come, and met a dry ring
BROWSER = "chromium"
REPORT_SIZE = "1200,1670"  # down to the end of its timeline
DRAWN_SECONDS = 2
STILL_PICTURES = 3


def main() -> int:
    """Take the pictures; the exit code."""
    missing = missing_packages() + [BROWSER] * (shutil.which(BROWSER) is None)
    if missing:
        print(f"screenshots: install {' '.join(missing)} first", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="emu-screenshots-") as folder:
        home = Path(folder)
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "LC_ALL": "C.UTF-8"}
        verdicts, early = home / "verdicts.pcapng", home / f"first-{MEMORY_FRAMES}-frames.pcapng"
        replay(str(CAPTURE), write=str(early), annotate="all", limit=MEMORY_FRAMES, keep_verdicts=False)
        replay(str(CAPTURE), write=str(verdicts), annotate="all", keep_verdicts=False)
        show_report(home, verdicts.name)
        replay(str(CAPTURE), write=str(verdicts), keep_verdicts=False)
        places = folders(environment)
        install(places, ["plugin", "profile"])
        settle_in(places.configuration, WIDTH, HEIGHT)
        with (places.profile / "recent").open("a") as recent:
            recent.write(f"gui.geometry_main_upper_pane: {LIST_HEIGHT}\n")
        with screen(WIDTH, HEIGHT) as on:
            with wireshark(on, environment, "-C", PROFILE, "-g", str(DROPPED_FRAME), verdicts):
                show_packets(on, verdicts.name)
                show_graphs(on, verdicts.name, DOCS / "wireshark-io.png", "Up", "Up", "Up")  # 500 ms, 200 ms, 100 ms
            tick_memory(places.profile / "io_graphs")
            with wireshark(on, environment, "-C", PROFILE, early):
                on.window(re.escape(early.name))
                show_graphs(on, early.name, DOCS / "wireshark-memory.png", *["Up"] * 6)  # down to 10 ms
    print(", ".join(str(path) for path in sorted(DOCS.glob("*.png"))))
    return 0


def show_report(home: Path, name: str) -> None:
    """The top of a capture's report, down to the end of its timeline."""
    report, taken = home / "report.html", home / "report.png"
    with chdir(home):  # its title is the path that it is given
        write_replay_report(report, open_verdicts(name, wanted_by="a report"))
    arguments = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run", f"--screenshot={taken}"]
    arguments += [f"--user-data-dir={home / 'browser'}", f"--window-size={REPORT_SIZE}", "--virtual-time-budget=20000"]
    if os.geteuid() == 0:  # its sandbox does not work for root
        arguments.append("--no-sandbox")
    subprocess.run([BROWSER, *arguments, report.as_uri()], check=True, capture_output=True)
    small = ("-strip", "-colors", "256", "-define", "png:exclude-chunks=date,time")
    subprocess.run(["convert", str(taken), *small, str(DOCS / "report.png")], check=True)


def tick_memory(graphs: Path) -> None:
    """What a user does in the graphs' window: ticks those of memory in place of those of packets."""
    ticked = {'"Enabled"': '"Disabled"', '"Disabled"': '"Enabled"'}
    lines = graphs.read_text().splitlines()
    changed = [re.sub(r'^"(Enabled|Disabled)"', lambda found: ticked[found[0]], line) for line in lines]
    graphs.write_text("\n".join([*changed, ""]))


def show_packets(on: Screen, name: str) -> None:
    """The packet list at a dropped frame, with what the plugin says of it."""
    window = on.window(re.escape(name))
    on.place(window, 0, 0, on.width, on.height)
    time.sleep(DRAWN_SECONDS)
    # Into the details, to the last tree, its fields, the last of them.
    on.click(window, *DETAILS)
    on.press("End", "End", "Right", "End")  # the first only enters the tree
    when_still(on, window, DOCS / "wireshark.png")


def show_graphs(on: Screen, name: str, path: Path, *interval: str) -> None:
    """The I/O graphs of the profile; keys that choose their interval, which is 1 s at first."""
    on.press("alt+s", "i")
    graphs = on.window(re.escape(f"Wireshark · I/O Graphs · {name}"))
    on.place(graphs, 0, 0, 1000, 700)
    # Not before it has counted: Wireshark would leave out what it counted until then.
    when_still(on, graphs, path)
    on.click(graphs, *INTERVAL)
    on.press(*interval, "Return")
    when_still(on, graphs, path)


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
