"""The emulated NIC in Wireshark's own hands: listed, captured from, stopped; what goes wrong is told."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import replay_kit as kit
from extcap_kit import PATIENCE_S, PCAPS, Capturing, environment, make_home, processes_of, tshark

from emu.wireshark.extcap_dialog import INTERFACES

STORY = ("-T", "fields", "-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.packet_id", "-e")
HOUR_NS = 3600 * kit.NS


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home that everybody may enter, which pytest's folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="emu-home-"))
    folder.chmod(0o755)
    yield make_home(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lull(tmp_path: Path) -> Path:
    """Five frames at once, and a sixth an hour later."""
    path = tmp_path / "lull.pcap"
    times_ns = [kit.NS, *(kit.NS + at * 1_000_000 for at in range(1, 5)), kit.NS + HOUR_NS]
    path.write_bytes(kit.pcap([kit.Frame(kit.udp(), time_ns) for time_ns in times_ns]))
    return path


def test_the_interfaces_are_listed_with_their_link_type_and_options(home: Path) -> None:
    """By tshark, which reads the options as preferences."""
    listed = tshark(home, "-D").stdout
    for name, display in INTERFACES.items():
        assert f" {name} ({display})" in listed
    assert "EN10MB (Ethernet)" in tshark(home, "-i", "emu-run", "-L").stdout
    preferences = tshark(home, "-G", "currentprefs").stdout
    for name in ("emu0.file", "emu0.policy", "emu0.realtime", "emu_run.scenario", "emu_run.for"):
        assert f"extcap.{name}: " in preferences


def can_be_run_by(user: str) -> bool:
    """Whether this user may run our Python and read emu."""
    try:
        words = [sys.executable, "-c", "import emu.wireshark.extcap"]
        done = subprocess.run(words, user=user, env=environment(Path("/")), capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_an_ordinary_user_captures_too(home: Path) -> None:
    """Nobody is listed the interfaces, and captures from one."""
    if not can_be_run_by("nobody"):
        pytest.skip("nobody may not run this Python")
    assert " emu0 (" in tshark(home, "-D", user="nobody").stdout
    capture = home / "login.pcap"
    shutil.copy(PCAPS / "login.pcap", capture)
    done = tshark(
        home, "-i", "emu0", "-o", f"extcap.emu0.file:{capture}", "-c", "7", *STORY, "frame.len", user="nobody"
    )
    assert len(done.stdout.splitlines()) == 7, done.stderr


def test_what_is_captured_is_what_a_replay_writes(home: Path, tmp_path: Path) -> None:
    """Names, times, packet ids and comments, of survivors and of drops, with the policy and the cap asked for."""
    flood = "udp:pps=100k,count=700"
    options = {"file": PCAPS / "login.pcap", "policy": "phillips-v3", "cap": 9, "flood": flood, "engine": "plain"}
    words = [word for name, value in options.items() for word in ("-o", f"extcap.emu0.{name}:{value}")]
    live, replayed = tmp_path / "live.pcapng", tmp_path / "replayed.pcapng"
    done = tshark(home, "-i", "emu0", *words, "-f", "ip", "-w", live)
    assert (done.returncode, "rror" in done.stderr) == (0, False), done.stderr
    arguments = ["--policy", "phillips-v3", "--set", "device.0.rx_reserve=9", "--filter", "ip", "--flood", flood]
    subprocess.run(
        [sys.executable, "-m", "emu", "replay", PCAPS / "login.pcap", "-w", replayed, *arguments, "--engine", "plain"],
        env=environment(home),
        capture_output=True,
        check=True,
    )
    stories = [tshark(home, "-r", path, *STORY, "frame.comment").stdout for path in (live, replayed)]
    assert stories[0] == stories[1]
    assert stories[0].count("\teth0-drop\t") > 100
    assert "policy=phillips-v3" in stories[0]
    assert " cap=9 " in stories[0]


def test_tshark_stops_and_nothing_of_ours_is_left(home: Path, lull: Path) -> None:
    """It has seen enough frames; the extcap waits for one that comes in an hour."""
    done = tshark(home, "-i", "emu0", "-o", f"extcap.emu0.file:{lull}", "-c", "5", *STORY, "frame.len")
    assert (done.returncode, len(done.stdout.splitlines()), "rror" in done.stderr) == (0, 5, False), done.stderr
    deadline = time.monotonic() + PATIENCE_S
    while processes_of(str(lull)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(str(lull)) == []


@pytest.mark.parametrize(
    ("option", "told"),
    [("file:/nowhere/x.pcap", "emu cannot read /nowhere/x.pcap: No such file"), ("policy:x", "which capture")],
)
def test_what_is_wrong_is_told_to_the_user_of_tshark(home: Path, option: str, told: str) -> None:
    """At once: the capture ends, for the pipe has come and gone."""
    done = tshark(home, "-i", "emu0", "-o", f"extcap.emu0.{option}", "-c", "1")
    assert f"Error by extcap pipe: emu: {told}" in done.stderr
    assert "Traceback" not in done.stderr


REFUSED = [
    ("emu0", ["--file", "{lull}", "--policy", "nonsense"], 2, "'nonsense' is not one of linux-2.6.12"),
    ("emu0", ["--file", "{lull}", "--cap", "5000"], 2, "rx_reserve"),
    ("emu0", ["--file", "{lull}", "--realtime", "0"], 2, "--realtime=0: expected a number above 0"),
    ("emu0", ["--file", "{lull}", "--flood", "nonsense"], 2, "nonsense"),
    ("emu0", ["--file", "{lull}", "--extcap-capture-filter", "tcp portt"], 2, "portt"),
    ("emu0", ["--file", str(PCAPS / "login.pcap"), "--extcap-capture-filter", "tcp port 9"], 4, "matches --filter"),
    ("emu-run", ["--scenario", "nonsense"], 2, "nonsense"),
    ("emu-run", ["--scenario", "deadlock", "--seed", "x"], 2, "Seed x: expected a number"),
    ("emu-run", ["--scenario", "five-packets"], 2, "has no [run]"),
]


@pytest.mark.parametrize(("interface", "words", "code", "told"), REFUSED)
def test_every_refusal_is_one_line(
    tmp_path: Path, lull: Path, interface: str, words: list[str], code: int, told: str
) -> None:
    """On stderr, which Wireshark shows, with a code that is not 0; who reads the pipe sees its end."""
    given = [word.format(lull=lull) for word in words]
    capturing = Capturing(tmp_path, interface, *given, "--engine", "plain")
    found, err = capturing.end()
    assert (found, err.count("\n")) == (code, 1), err
    assert err.startswith("emu: ")
    assert told in err
    # What cannot be is refused before anything is written; that nothing matches is known in the end.
    assert (capturing.octets == b"") == (code == 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_a_lull_ends_a_whole_capture(tmp_path: Path, lull: Path, number: signal.Signals) -> None:
    """Nothing is said, the code is 0, and what was written is complete."""
    capturing = Capturing(tmp_path, "emu0", "--file", lull, "--engine", "plain")
    capturing.until(900)  # all five
    time.sleep(0.2)  # most likely it waits by now; it must end well wherever it is
    capturing.process.send_signal(number)
    assert capturing.end() == (0, "")
    whole = tmp_path / "whole.pcapng"
    whole.write_bytes(capturing.octets)
    assert "5" in kit.run("capinfos", "-Mc", whole)


def test_a_reader_that_goes_ends_it(tmp_path: Path, lull: Path) -> None:
    """Without a signal, and without a word."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = ["--capture", "--extcap-interface", "emu0", "--fifo", str(fifo), "--file", str(lull), "--engine", "plain"]
    process = subprocess.Popen(
        [sys.executable, "-m", "emu.wireshark.extcap", *words], env=environment(Path.home()), stderr=subprocess.PIPE
    )
    with fifo.open("rb", 0) as pipe:
        assert pipe.read(100)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, b"")


BUSY = """
import hashlib, sys
from emu.wireshark import extcap
def busy(interface, asked):
    open(asked.fifo, "wb", 0).write(b"busy")
    hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)  # minutes: a signal does not reach Python meanwhile
    return 1
extcap._played = busy
sys.exit(extcap.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("signalled", [True, False])
def test_a_stop_ends_it_also_while_python_hears_nothing(tmp_path: Path, signalled: bool) -> None:
    """As while the engine is compiled: the guard ends the process."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = ["--capture", "--extcap-interface", "emu0", "--fifo", str(fifo)]
    process = subprocess.Popen([sys.executable, "-c", BUSY, *words], env=environment(Path.home()))
    with fifo.open("rb", 0) as pipe:
        assert pipe.read(4) == b"busy"
        if signalled:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
    assert process.wait(PATIENCE_S) == 0


def test_a_damaged_capture_is_captured_as_far_as_it_is_sound_and_told(tmp_path: Path) -> None:
    """Frames first, then the place of the damage."""
    damaged = tmp_path / "damaged.pcap"
    damaged.write_bytes((PCAPS / "login.pcap").read_bytes()[:-7])
    capturing = Capturing(tmp_path, "emu0", "--file", damaged, "--engine", "plain")
    code, err = capturing.end()
    assert code == 3
    assert "damaged.pcap: byte" in err
    whole = tmp_path / "whole.pcapng"
    whole.write_bytes(capturing.octets)
    assert "79" in kit.run("capinfos", "-Mc", whole)


def test_a_run_is_captured_from(home: Path, tmp_path: Path) -> None:
    """The closed loop, live: both interfaces of the device are named, and it stops when asked to."""
    options = {"scenario": "smallest-cure", "engine": "plain", "for": "30s", "realtime": "0.5"}
    words = [word for name, value in options.items() for word in ("-o", f"extcap.emu_run.{name}:{value}")]
    live = tmp_path / "run.pcapng"
    done = tshark(home, "-i", "emu-run", *words, "-c", "40", "-w", live)
    assert (done.returncode, "rror" in done.stderr) == (0, False), done.stderr
    described = kit.run("capinfos", live)
    assert "Name = eth0\n" in described
    assert "Name = eth0-drop\n" in described
