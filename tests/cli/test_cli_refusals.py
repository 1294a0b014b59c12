"""Bad input of every kind: one line on stderr, the right exit code, no traceback, and no output that looks whole."""

import os
import struct
import subprocess
from pathlib import Path

import pytest
from emu_process import EMU, LOGIN, NOP, emu_here, kit, refused

USAGE, CAPTURE, NOTHING = 2, 3, 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "linux-9"], "policy.name: 'linux-9' is not one of linux-2.6.12, "),
        (["--set", "pressure"], "--set pressure: expected key=value"),
        (
            ["--set", "pressure.nothing=1"],
            "--set pressure.nothing=1: pressure.nothing: unknown key 'nothing'; expected one of start, ",
        ),
        (["--set", "nothing=1"], "unknown key 'nothing'"),
        (["--set", "pressure.start=loud"], "pressure.start: expected one of crunch, quiet, found 'loud'"),
        (
            ["--set", "pressure.background_skbs=-1"],
            "pressure.background_skbs: expected an integer of at least 0, found -1",
        ),
        (["--set", "pressure.background_skbs=255"], "pressure.background_skbs: 255 leaves the NIC no buffer"),
        (
            ["--set", "device.0.ring=100"],
            "device.0.ring: 100 descriptors; e1000 has 80 to 4096 in steps of 16",
        ),
        (["--set", "device.5.name=eth1"], "--set device.5.name=\"eth1\": '5' is not an element from 0 to 1"),
        (
            ["--set", "pressure.start=quiet", "--set", "pressure.start.x=1"],
            "'x' lies inside a value",
        ),
        (["--set", "machine.memory=1MiB"], "machine.memory: 256 pages; expected 32MiB to 64GiB"),
        (["--set", "machine.memory=lots"], "machine.memory: 'lots': expected a size"),
        (["--set", "machine.geometry=vax"], "machine.geometry: 'vax' is not one of"),
        (["--set", "policy.rules.nothing=1"], "policy.rules.nothing: unknown rule"),
        (["--set", "policy.rules.check_tcp=9"], "policy.rules.check_tcp: 9 is not from 0 to 2"),
        (["--set", "readers.rate=99999999999999999999"], "readers.rate: "),
        (["--expect", "nonsense"], "--expect 'nonsense': expected PATH OP VALUE"),
        (["--expect", "memalloc.droped == 0"], "the summary has no 'memalloc.droped'; did you mean memalloc.dropped"),
        (["--expect", "drops_by_reason.NOPE == 0"], "the summary has no 'drops_by_reason.NOPE'"),
        (["--expect", "policy < 3"], "cannot be compared so"),
        (["--memalloc", "icmp"], "--memalloc icmp: replay.memalloc: 'icmp': expected tcp or udp"),
        (["--closed", "tcp port 0"], "--closed tcp port 0: replay.closed: 'tcp port 0': '0' is not a port"),
        (["--pps", "1", "--speed", "2"], "--speed and --pps exclude each other"),
        (["--pps", "0"], "--pps 0: expected a number above 0"),
        (["--mbps", "-3"], "--mbps -3: expected a number above 0"),
        (["--speed", "NaN"], "--speed NaN: expected a number above 0"),
        (["--limit", "0"], "Invalid value for '--limit'"),
        (["--limit", "x"], "Invalid value for '--limit'"),
        (["--host", "nobody"], "--host nobody: expected an IPv4 or IPv6 address, or a MAC"),
        (["--filter", "foo bar"], "--filter 'foo bar': "),
        (["--offload", "no"], "--offload no: replay.offload: expected one of drop, jumbo, split, found 'no'"),
        (["--checksums", "no"], "--checksums no: replay.checksums: expected one of auto, trust, verify, found 'no'"),
        (["--device", "eth1=x.pcap"], "a capture without a device, beside --device"),
        (["--set", "readers.rate=fast"], '--set readers.rate="fast": readers.rate: expected an integer from 1'),
        (["--expect", "oops_bug.nobody == 1"], "the summary has no 'oops_bug.nobody'"),
        (["--engine", "steam"], "--engine steam: expected one of auto, compiled, plain"),
        (["--annotate", "some"], "--annotate some: expected one of drops, all"),
        (["--log-rows", "some"], "--log-rows some: expected one of all, drops"),
        (["--log", "log.txt"], "log.txt: a log's format is told by its name; expected .parquet"),
        (["--log", "log"], "log: a log's format is told by its name"),
        (["-w", "-", "--json"], "-w - and --json both want standard output"),
        (["-w", "missing/out.pcapng"], "missing/out.pcapng: No such file or directory"),
        (["--log", "missing/log.csv"], "missing/log.csv: No such file or directory"),
        (["-w", "."], ".: is a directory"),
        (["-w", "a.csv", "--log", "a.csv"], "a.csv: is asked for twice"),
        (["--scenario", "missing.toml"], "missing.toml: cannot read the scenario: No such file or directory"),
        (["--scenario", "."], ".: cannot read the scenario: Is a directory"),
        (["--events", "missing.jsonl"], "missing.jsonl: cannot read the event stream"),
        (["--nonsense"], "No such option: --nonsense"),
    ],
)
def test_a_bad_option_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    """Whatever is wrong with the command, the line names it; outputs that were asked for are not there."""
    outputs = [] if {"-w", "--log"} & set(arguments) else ["-w", "out.pcapng"]
    if "--expect" in arguments:
        outputs = []
    line = refused("replay", NOP, *arguments, *outputs, code=USAGE, cwd=tmp_path)
    assert said in line
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".partial")] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["replay"], "Missing argument"),
        (["replay", NOP, "extra"], "emu cannot read extra: No such file or directory"),
        (["replay", "--device", "eth0"], "--device eth0: expected NAME=FILE"),
        (["replay", "--device", "=x"], "--device =x: expected NAME=FILE"),
        (["replay", "--device", "a=x", "--device", "a=y"], "--device a=y: a has a capture already"),
        (["replay", "--device", "a=-", "--device", "b=-"], "standard input (-) can be one device's capture only"),
        (["replay", "--device", f"0={NOP}"], "--device 0: device.0.name: expected a text matching"),
        (["compare", "--device", "eth0=missing"], "emu cannot read missing"),
        (["compare"], "Missing argument"),
        (["compare", NOP, "--policies", "phillips-v5,linux-9"], "--policies: 'linux-9' is not one of linux-2.6.12"),
        (["compare", NOP, "--policies", "mainline,mainline"], "expected different names"),
        (["compare", NOP, "--policies", ","], "expected different names"),
        (["compare", NOP, "--write", "x"], "No such option: --write"),
        (["compare", NOP, "--expect", "x.y == 1"], "the summary has no 'x.y'"),
        (["explain", "NONSENSE"], "NONSENSE"),
        (["check", "missing"], "missing"),
    ],
)
def test_a_bad_command_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    """The same for verbs, arguments and the other verbs' options."""
    done = emu_here(*arguments, cwd=tmp_path)
    assert done.code in (USAGE, CAPTURE)
    assert (done.out, len(done.err.splitlines())) == ("", 1)
    assert said in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"nothing = 1\n", "unknown key 'nothing'; expected one of schema, why, machine"),
        (b"[machine]\nram = 1\n", "s.toml:2: machine.ram: unknown key 'ram'; expected one of geometry, memory"),
        (
            b"[[device]]\nname = 'eth1'\n[[device]]\nspeed = 1\n",
            "s.toml:4: device.1.speed: unknown key 'speed'; expected one of name, mtu",
        ),
        (
            b"[readers]\nrate = 'fast'\n",
            "s.toml:2: readers.rate: expected an integer from 1 to 1000000000, found 'fast'",
        ),
        (b"schema = 2\n", "schema: "),
        (b"device = []\n", "s.toml:1: device: expected an array of tables of 1 to 16, found 0 of them"),
        (b"[[device]]\n[[device]]\n", "s.toml:2: device.1.name: 'eth0' is the name of device 0 already"),
        (b"[policy\n", "s.toml:1: not TOML: "),
        (b"why = '\xff'\n", "not UTF-8 at byte 7"),
        (b"expect = ['nonsense']\n", "'nonsense': expected PATH OP VALUE"),
        (b"[[socket]]\nmatch = 'gopher'\n", "s.toml:2: socket.0.match: 'gopher': expected tcp or udp"),
        (b"[[socket]]\n", "s.toml:1: socket.0: the key 'match' is missing: a text"),
    ],
)
def test_a_bad_scenario_is_one_line(tmp_path: Path, text: bytes, said: str) -> None:
    """An unknown key, a wrong type, broken TOML, another encoding: the line names file and place."""
    scenario = tmp_path / "s.toml"
    scenario.write_bytes(text)
    line = refused("replay", NOP, "--scenario", "s.toml", "-w", "out.pcapng", code=USAGE, cwd=tmp_path)
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["s.toml"]


FDDI = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 10) + struct.pack("<IIII", 0, 0, 4, 4) + bytes(4)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", CAPTURE, "it is empty"),
        (b"GIF89a" + bytes(40), CAPTURE, "it starts with 47 49 46 38; expected a pcap or pcapng file"),
        (b"\x04\x22\x4d\x18" + bytes(40), CAPTURE, "the lz4 stream is damaged at byte 4"),
        (b"\xfd7zXZ\0" + bytes(40), CAPTURE, "the xz stream is damaged at byte "),
        (b"\x1f\x8b\x08" + bytes(40), CAPTURE, "gzip"),
        (FDDI, CAPTURE, "FDDI"),
        (kit.pcap([]), NOTHING, "no frame to play"),
    ],
)
@pytest.mark.parametrize("where", ["file", "stdin"])
def test_a_bad_capture_is_one_line(tmp_path: Path, content: bytes, code: int, said: str, where: str) -> None:
    """What is no capture of Ethernet frames, from a file or from a pipe, leaves nothing behind."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad").write_bytes(content)
    capture = "-" if where == "stdin" else "in/bad"
    given = content if where == "stdin" else None
    line = refused("replay", capture, "-w", "out.pcapng", "--log", "log.csv", code=code, cwd=tmp_path, stdin=given)
    assert said in line
    assert ("stdin" if where == "stdin" else "in/bad") in line
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert said in refused("compare", capture, code=code, cwd=tmp_path, stdin=given)


@pytest.mark.parametrize(("capture", "said"), [("missing.pcap", "No such file"), (".", "Is a directory")])
def test_a_missing_capture_is_one_line(tmp_path: Path, capture: str, said: str) -> None:
    """A file that is not there, and a directory."""
    line = refused("replay", capture, "-w", "out.pcapng", code=CAPTURE, cwd=tmp_path)
    assert line.startswith(f"emu cannot read {capture}: {said}")
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_capture_is_one_line(tmp_path: Path) -> None:
    """A capture that may not be read (here: a loop of links) is one line too."""
    (tmp_path / "loop.pcap").symlink_to("loop.pcap")
    assert "emu cannot read loop.pcap: " in refused("replay", "loop.pcap", code=CAPTURE, cwd=tmp_path)


def test_a_cut_capture_is_reported_and_played(tmp_path: Path) -> None:
    """Exit 3, the byte offset on stderr, the summary on stdout, and outputs that say incomplete."""
    (tmp_path / "cut.pcap").write_bytes(Path(NOP).read_bytes()[:-1])
    done = emu_here("replay", "cut.pcap", "-w", "out.pcapng", "--log", "log.jsonl", cwd=tmp_path)
    assert done.code == CAPTURE
    assert "40 frames" in done.out
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("emu: cut.pcap: byte ")
    assert b"after frame 40: cut.pcap: byte " in (tmp_path / "out.pcapng").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pcap", "log.jsonl", "out.pcapng"]
    compared = emu_here("compare", "cut.pcap", cwd=tmp_path)
    assert (compared.code, compared.err) == (CAPTURE, done.err)


@pytest.mark.parametrize("option", ["-w", "--record-events"])
def test_an_input_is_not_overwritten(tmp_path: Path, option: str) -> None:
    """An output that is the capture, by name, link or as standard input, or another input, is refused."""
    octets = Path(NOP).read_bytes()
    (tmp_path / "in.pcap").write_bytes(octets)
    (tmp_path / "link.pcap").symlink_to("in.pcap")
    (tmp_path / "s.toml").write_text("")
    for name in ("in.pcap", "link.pcap"):
        assert "would overwrite the input" in refused("replay", "in.pcap", option, name, code=USAGE, cwd=tmp_path)
        given = ("replay", "--device", "eth1=in.pcap", option, name)
        assert "would overwrite the input" in refused(*given, code=USAGE, cwd=tmp_path)
    line = refused("replay", "in.pcap", "--scenario", "s.toml", option, "s.toml", code=USAGE, cwd=tmp_path)
    assert "would overwrite the input" in line
    assert (tmp_path / "in.pcap").read_bytes() == octets
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("option", ["-w", "--record-events"])
def test_a_full_disk_is_one_line(option: str) -> None:
    """/dev/full: the line names the output and the reason."""
    assert refused("replay", LOGIN, option, "/dev/full", code=USAGE) == (
        "/dev/full: No space left on device; make room there, or write to another disk"
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ".arrow"])
def test_a_full_disk_under_the_log_is_one_line(tmp_path: Path, suffix: str) -> None:
    """The same for each format of the log."""
    (tmp_path / f"log{suffix}").symlink_to("/dev/full")
    line = refused("replay", LOGIN, "--log", f"log{suffix}", code=USAGE, cwd=tmp_path)
    assert "No space left on device" in line


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "not an event stream of emu"),
        ("[]\n", "not an event stream of emu"),
        ('{"emu_events": 99}\n', "not an event stream of emu"),
        ('{"emu_events": 1}\n{\n', "line 2: not JSON"),
        ('{"emu_events": 1}\n["dance", 1, 1, 0, 0]\n', 'not an event: ["dance", 1, 1, 0, 0]'),
        ('{"emu_events": 1}\n["packets", 1, 1, 99, 1]\n', 'not possible on this machine: ["packets", 1, 1, 99, 1]'),
        ('{"emu_events": 1}\n["packets", 1, true, 0, 1]\n', "not an event"),
    ],
)
def test_a_bad_event_stream_is_one_line(tmp_path: Path, lines: str, said: str) -> None:
    """What --record-events did not write is refused with its line."""
    (tmp_path / "events.jsonl").write_text(lines)
    assert said in refused("replay", NOP, "--events", "events.jsonl", code=USAGE, cwd=tmp_path)


@pytest.mark.parametrize("words", [("policies",), ("explain", "PFMEMALLOC", "--json")], ids=" ".join)
def test_a_closed_standard_output_is_one_line(words: tuple[str, ...]) -> None:
    done = subprocess.run([*EMU, *words], preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done
    assert b"emu: standard output is closed" in done.stderr


def test_without_a_standard_error_nothing_goes_to_standard_output() -> None:
    words = [*EMU, "show", "none.parquet"]
    done = subprocess.run(words, preexec_fn=lambda: os.close(2), stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (3, b"")
