"""A program that makes one of everything in a lab, says what, and ends as it is told: `resident.py HOW`.

It tells what it made as a line of JSON.  HOW: `leave`, `raise`, `exit`, `wait` (for a signal), `fork` (one that
ends first), `child` (until a program of its own ends), `slowly` (tells before it makes them).
"""

import json
import os
import signal
import sys
import time

from emu.live.lab import children
from emu.live.lab.lab import Lab

SECONDS = 30.0
# Ends by nothing but SIGKILL, and has started another.
DEAF = "trap '' TERM INT HUP; sleep 60 & echo $!; sleep 61"


def make(lab: Lab) -> list[int]:
    """Make one of everything; the processes."""
    pid = os.getpid()
    host, world = lab.namespace("host"), lab.namespace("world")
    lab.tap(f"h{pid}"[:15], namespace=host, address="10.77.0.2/24")
    lab.tap(f"r{pid}"[:15])
    lab.veth(f"a{pid}"[:15], f"b{pid}"[:15])  # here, where no namespace takes them along
    lab.veth("va", "vb", namespaces=(host, world))
    told, tell = os.pipe()
    deaf = lab.spawn(["sh", "-c", DEAF], name="deaf", namespace=world, stdout=tell)
    os.close(tell)
    with os.fdopen(told) as lines:
        grandchild = int(lines.readline())
    plain = lab.spawn(["sleep", "60"], name="plain")
    return [plain.pid, deaf.pid, grandchild]


def main(how: str) -> None:
    children.PATIENCE_SECONDS = 0.2
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who runs tests under nohup has it ignored, and hands that on
    with Lab() as lab:
        if how == "slowly":
            print(json.dumps({"pid": os.getpid(), "programs": [], "folder": str(lab.folder)}), flush=True)
        programs = make(lab)
        if how != "slowly":
            print(json.dumps({"pid": os.getpid(), "programs": programs, "folder": str(lab.folder)}), flush=True)
        if how == "raise":
            raise ValueError("as it was told")
        if how == "exit":
            sys.exit(7)
        if how == "fork":
            fork = os.fork()
            if not fork:
                sys.exit(0)
            os.waitpid(fork, 0)
            print(json.dumps(lab.folder.exists()), flush=True)
        until = time.monotonic() + SECONDS
        first = lab._children[-1].process
        while how in ("wait", "slowly") or (how == "child" and first.poll() is None):
            assert time.monotonic() < until
            time.sleep(0.005)


if __name__ == "__main__":
    main(sys.argv[1])
