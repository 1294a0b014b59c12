"""`make demo`: the main job on a real capture, then what to do next."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CAPTURE = "pcaps/mixed.pcap"
OUT = Path("demo")
LOST_FRAME = 713  # the first packet of block I/O that Phillips' patch loses there

STEPS = (
    ("Who survives under which kernel?", ("compare", CAPTURE)),
    (
        "Phillips' patch of August 2005, packet by packet",
        (
            *("replay", CAPTURE, "--policy", "phillips-v5"),
            *("-w", str(OUT / "phillips-v5.pcapng"), "--log", str(OUT / "phillips-v5.parquet")),
            *("--report", str(OUT / "phillips-v5.html")),
        ),
    ),
    (
        "The first storage packet that it loses, in words",
        ("show", str(OUT / "phillips-v5.parquet"), "--frame", str(LOST_FRAME)),
    ),
    (
        "Today's mainline",
        (
            *("replay", CAPTURE, "--policy", "mainline", "--expect", "memalloc.dropped <= 1"),
            *("-w", str(OUT / "mainline.pcapng"), "--log", str(OUT / "mainline.parquet")),
        ),
    ),
    (
        "Crafted: a session's iSCSI acknowledgements",
        ("flood", "iscsi-acks", "--writes", "4000", "--queue-depth", "8", "-w", str(OUT / "acks.pcapng")),
    ),
    (
        "... under a flood made on the fly, unread sockets bounded",
        (
            *("replay", str(OUT / "acks.pcapng"), "--flood", "udp:pps=100k,size=1400,ports=16"),
            *("--set", "readers.udp_rcvbuf=5000", "--expect", "memalloc.dropped == 0", "-w", str(OUT / "flood.pcapng")),
        ),
    ),
    (
        "The deadlock itself: block I/O in the loop (the engine compiles for it once, a minute or two)",
        (
            *("run", "deadlock", "--policy", "linux-2.6.12", "--expect", "outcome == 'LOCKUP'"),
            *("--plot", str(OUT / "lockup.png")),
        ),
    ),
    (
        "... and who else locks up",
        (
            *("compare", "deadlock", "--policies", "linux-2.6.12,reserve-only,phillips-v5,mainline"),
            *("--report", str(OUT / "deadlock.html")),
        ),
    ),
)

WRITTEN = [OUT / f"{name}.{suffix}" for name in ("phillips-v5", "mainline") for suffix in ("pcapng", "parquet")]
WRITTEN += [OUT / name for name in ("phillips-v5.html", "acks.pcapng", "flood.pcapng", "lockup.png", "deadlock.html")]
NEXT = f"""
Written: {", ".join(map(str, WRITTEN))}

Next:
  .venv/bin/emu wireshark install        plugin, profile and capture interface, into your own folders; then:
  wireshark -C emu {OUT}/phillips-v5.pcapng     press "Block I/O lost"; docs/wireshark.md goes on from there
  wireshark {OUT}/mainline.pcapng        without any of it: frame.comment contains "reason=PFMEMALLOC"
  firefox {OUT}/phillips-v5.html         the replay's report: when, why, and each drop
  firefox {OUT}/deadlock.html            the lockup as it happens, policy by policy
  .venv/bin/emu run deadlock -w lockup.pcapng   every frame of it, for Wireshark (150 MB)
  .venv/bin/emu step five-packets        the patch at work, packet by packet
  sudo .venv/bin/emu live demo           the lockup and its cure on real iSCSI I/O, if tgt and qemu are installed
  .venv/bin/emu scenarios                what else can be run
  .venv/bin/emu explain PFMEMALLOC      what the reason means, and where the kernel decides it
  .venv/bin/emu policies                the kernels' rules, side by side
  .venv/bin/emu flood --list            what can be crafted
  .venv/bin/emu replay YOUR.pcapng -w verdicts.pcapng
"""


def main() -> int:
    (ROOT / OUT).mkdir(exist_ok=True)
    for title, arguments in STEPS:
        print(f"\n== {title}\n$ emu {' '.join(arguments)}\n", flush=True)
        code = subprocess.run([sys.executable, "-m", "emu", *arguments], cwd=ROOT, check=False).returncode
        if code:
            return code
    print(NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
