"""`emu flood`: a command for each kind, made of the kind's options; what it writes, says and refuses."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from emu_process import EMU, emu, emu_here, kit, refused

from emu.cli.flood import EXAMPLES
from emu.tables import keys_of
from emu.traffic.crafted import crafted_of
from emu.traffic.flood.kinds import KINDS
from emu.traffic.tally import Tally, totals_of

PATIENCE_S = 30.0


def facts(*arguments: str | Path, cwd: Path | None = None) -> dict[str, Any]:
    """The report of a flood as JSON."""
    done = emu_here("flood", *arguments, "--json", cwd=cwd)
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def fields(path: Path, *names: str) -> list[list[str]]:
    """Columns of a capture as tshark shows them."""
    asked = [word for name in names for word in ("-e", name)]
    return [line.split("\t") for line in kit.run("tshark", "-r", path, "-T", "fields", *asked).splitlines()]


@pytest.mark.parametrize("arguments", [["flood"], ["flood", "--list"]])
def test_the_kinds_are_listed(arguments: list[str]) -> None:
    """Alone and with --list: every kind with what it sends."""
    done = emu_here(*arguments)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()[4:] if line.strip()] == list(KINDS)


def test_the_list_as_json_has_every_option_of_every_kind() -> None:
    """With its type, unit, range, default and meaning, as the command line spells it."""
    kinds = json.loads(emu_here("flood", "--list", "--json").out)["kinds"]
    assert list(kinds) == list(KINDS)
    for kind, described in kinds.items():
        assert described["example"] == EXAMPLES[kind]
        assert [option["name"] for option in described["options"]] == [key.name for key in keys_of(KINDS[kind])]
        assert all(option["option"] == "--" + option["name"].replace("_", "-") for option in described["options"])
        assert all(option["meaning"] for option in described["options"])


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_has_help_with_an_example_that_runs(kind: str, tmp_path: Path) -> None:
    """The help names each option; the example is crafted as it stands, only shorter."""
    done = emu_here("flood", kind, "--help")
    assert done.code == 0
    for key in keys_of(KINDS[kind]):
        assert f"--{key.name.replace('_', '-')}" in done.out
    words = EXAMPLES[kind].split()[2:]
    assert words[0] == kind
    if "--count" in words:
        words[words.index("--count") + 1] = "20"
    else:
        words += ["--count", "20"]
    found = facts(*words, cwd=tmp_path)
    assert found["kind"] == kind
    assert 20 <= found["frames"] < 30  # a train is completed
    assert kit.run("capinfos", "-T", "-M", "-c", tmp_path / found["written"]).split()[-1] == str(found["frames"])


def test_the_options_reach_the_frames(tmp_path: Path) -> None:
    """Addresses, ports, sizes, rate and count, as tshark sees them; the report says the same."""
    path = tmp_path / "a.pcapng"
    options = "--to 192.0.2.7 --from 192.0.2.1 --ports 9000-9003 --from-port 5 --size 100..300 --pps 1k --count 400"
    found = facts("udp", *options.split(), "--seed", "7", "-w", path)
    rows = fields(path, "ip.dst", "ip.src", "udp.dstport", "udp.srcport", "frame.len", "frame.interface_name")
    assert {(row[0], row[1], row[3], row[5]) for row in rows} == {("192.0.2.7", "192.0.2.1", "5", "eth0")}
    assert sorted({row[2] for row in rows}) == ["9000", "9001", "9002", "9003"]
    sizes = [int(row[4]) for row in rows]
    assert (found["frames"], found["bytes"]) == (len(rows), sum(sizes)) == (400, sum(sizes))
    assert (found["smallest_bytes"], found["largest_bytes"]) == (min(sizes), max(sizes))
    assert found["duration_ns"] == 399 * 1_000_000
    assert (found["asked"], found["achieved_pps"]) == ("1k pps", 1000.0)
    bits = sum(8 * (size + 24) for size in sizes[:-1])
    assert found["achieved_mbps"] == bits * 10**9 // found["duration_ns"] / 1e6
    assert found["recipe"].startswith("udp:")
    assert f",{found['recipe'].partition(':')[2]}".count(",seed=7") == 1


def test_a_fragment_of_a_second_is_as_long_as_asked(tmp_path: Path) -> None:
    """`--for` without `--count`: the last frame comes before the end, and the next would not."""
    found = facts("udp", "--pps", "300", "--for", "100ms")
    assert found["frames"] == 30
    assert found["written"] is None


def test_the_recipe_makes_the_same_bytes_again(tmp_path: Path) -> None:
    """Same seed, same bytes; another seed, others; the report's recipe is what `--flood` takes."""
    arguments = ("synflood", "--spoof", "198.18.0.0/15", "--count", "50")
    one, two, other = (tmp_path / f"{name}.pcapng" for name in ("one", "two", "other"))
    found = facts(*arguments, "--seed", "3", "-w", one)
    facts(*arguments, "--seed", "3", "-w", two)
    facts(*arguments, "--seed", "4", "-w", other)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    summary = json.loads(emu_here("replay", "--flood", found["recipe"], "-w", tmp_path / "v.pcapng", "--json").out)
    assert summary["floods"][0]["recipe"] == found["recipe"]
    sources = [fields(path, "ip.src", "tcp.srcport", "tcp.seq_raw") for path in (one, tmp_path / "v.pcapng")]
    assert sources[0] == sources[1]


def test_without_an_end_there_are_ten_thousand_frames_and_nothing_is_written(tmp_path: Path) -> None:
    """Both are said; no file appears."""
    done = emu_here("flood", "udp", cwd=tmp_path)
    assert (done.code, done.err) == (0, "emu: neither --count nor --for: 10000 frames\n")
    assert "10 000 frames, 640 000 bytes" in done.out
    assert "nothing was written (-w FILE writes it)" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_pcap_holds_the_same_frames_and_its_limits_are_said(tmp_path: Path) -> None:
    """The name chooses the format; tcpdump and capinfos read it, tcprewrite too."""
    for name in ("a.pcap", "a.pcapng"):
        done = emu_here("flood", "mixed-imix", "--count", "60", "-w", tmp_path / name)
        assert ("a pcap has no room for directions" in done.out) == (name == "a.pcap")
        assert len(kit.run("tcpdump", "-nr", tmp_path / name).splitlines()) >= 60
    columns = ("frame.time_epoch", "frame.len", "ip.src", "_ws.col.Info")
    assert fields(tmp_path / "a.pcap", *columns) == fields(tmp_path / "a.pcapng", *columns)
    assert "nanosecond" in kit.run("capinfos", "-t", tmp_path / "a.pcap")
    kit.run("tcprewrite", f"--infile={tmp_path / 'a.pcap'}", f"--outfile={tmp_path / 'b.pcap'}", "--fixcsum")


def test_a_crafted_file_says_what_it_is(tmp_path: Path) -> None:
    """The comment of its section header holds the recipe, the host and the sockets."""
    from emu.capture.reader import open_capture
    from emu.engine.plain import PlainEngine

    emu_here("flood", "tcp-closed-port", "--ports", "3", "--count", "9", "-w", tmp_path / "a.pcapng")
    with open_capture(str(tmp_path / "a.pcapng"), PlainEngine()) as reader:
        said = crafted_of(reader.section_comments)
    assert [each.recipe for each in said] == ["tcp-closed-port:count=9,ports=3"]
    assert said[0].host_mac == "02:00:00:00:00:02"
    assert [(socket.local_port, socket.closed) for socket in said[0].sockets] == [(81, True), (82, True), (83, True)]


def test_standard_output_and_the_report_beside_it(tmp_path: Path) -> None:
    """-w - writes the capture there and the report to stderr; the bytes are those of the file."""
    arguments = ("flood", "arp", "--count", "30")
    emu_here(*arguments, "-w", tmp_path / "a.pcapng")
    done = subprocess.run([*EMU, *arguments, "-w", "-"], capture_output=True, timeout=PATIENCE_S)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "a.pcapng").read_bytes()
    assert b"arp:count=30: 30 frames" in done.stderr


def test_a_closed_pipe_is_no_matter() -> None:
    """`emu flood ... -w - | head -c 1`: exit 1 without a word."""
    process = subprocess.Popen(
        [*EMU, "flood", "udp", "--count", "100000", "-w", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE_S) == 1
    process.stderr.close()


@pytest.mark.parametrize("name", ["a.pcapng", "a.pcap"])
def test_an_interruption_leaves_a_whole_file(tmp_path: Path, name: str) -> None:
    """Ctrl-C: exit 130, one line on stderr; the file is in place, reads, and says so where it can."""
    arguments = ("flood", "udp", "--count", "1000000000", "--engine", "plain", "-w", name)
    process = subprocess.Popen([*EMU, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    partial = tmp_path / f"{name}.partial"
    deadline = time.monotonic() + PATIENCE_S
    while not (partial.exists() and partial.stat().st_size > 100_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    frames = int(err.split()[4].rstrip(b";"))
    assert err.decode().startswith(f"emu: interrupted after frame {frames}; the output is closed")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert kit.run("capinfos", "-T", "-M", "-c", tmp_path / name).split()[-1] == str(frames)
    said = f"interrupted after frame {frames}".encode() in (tmp_path / name).read_bytes()
    assert said == (name == "a.pcapng")


def test_a_full_disk_is_one_line() -> None:
    """/dev/full: the file is named, exit 2."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert refused("flood", "udp", "--count", "3", "-w", "/dev/full", code=2) == (
        "/dev/full: No space left on device; make room there, or write to another disk"
    )


def test_an_output_that_fails_in_the_middle_stays_as_partial(tmp_path: Path) -> None:
    """A limit on the file's size stands for the full disk: NAME.partial stays, and the line says so."""
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    limited += 'sys.argv = ["emu", *sys.argv[1:]]; from emu.cli.main import run; run()'
    arguments = ["flood", "udp", "--count", "20000", "-w", "a.pcapng"]
    environment = os.environ | {"PYTHONPATH": str(kit.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [EMU[0], "-c", limited, *arguments], capture_output=True, cwd=tmp_path, env=environment, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == (
        f"emu: a.pcapng: File too large; what was written is in {tmp_path / 'a.pcapng.partial'}; "
        "files may not be larger here: see ulimit -f\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.pcapng.partial"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upd"], "no kind of flood 'upd'; did you mean 'udp'? Expected one of udp, tcp-bulk"),
        (["udp", "--sizes", "64"], "No such option: --sizes"),
        (["udp", "extra"], "unexpected extra argument"),
        (["--list", "udp", "--count", "3"], "--list: stands alone"),
        (["udp", "--size", "30"], "--size 30: udp over IPv4 needs 42 bytes"),
        (["udp", "--size", ""], "--size: expected a text, found ''"),
        (["udp", "--size", "9000"], "(kind jumbo: to 9014)"),
        (["udp", "--pps", "0"], "--pps 0: expected a rate above 0"),
        (["udp", "--pps", "1k", "--mbps", "5"], "--mbps 5: given beside pps; they exclude each other"),
        (["udp", "--to", "10.0.0.2", "--from", "fd00::1"], "--from fd00::1: IPv6, but the receiver's address is IPv4"),
        (["udp", "--to", "nobody"], "--to nobody: expected an IPv4 or IPv6 address"),
        (["udp", "--ports", "70000"], "--ports 70000: ports 9000 to 78999"),
        (["udp", "--port", "0"], "--port: expected an integer from 1 to 65535, found 0"),
        (["udp", "--count", "0"], "--count: expected an integer of at least 1, found 0"),
        (["udp", "--count", "many"], "--count: expected an integer of at least 1, found 'many'"),
        (["udp", "--for", "0s"], "--for 0s: expected a time above 0"),
        (["udp", "--seed", "-1"], "--seed: expected an integer from 0"),
        (["udp", "--engine", "fast"], "--engine fast: expected one of auto, compiled, plain"),
        (["udp", "--count", "3", "-w", "a.pcap.gz"], "a.pcap.gz: emu does not compress; write a .pcapng"),
        (["udp", "--count", "3", "-w", "no/where.pcapng"], "no/where.pcapng: No such file or directory"),
        (["udp", "--count", "3", "-w", "."], ".: is a directory; name a file in it"),
        (["udp", "--count", "3", "-w", ""], "'': expected the name of a file to write"),
        (["udp", "--count", "3", "-w", "-", "--json"], "-w - and --json both want standard output"),
        (["udp", "--count", "3", "--template", "none.pcap"], "none.pcap"),
    ],
)
def test_a_bad_flood_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    """It names the option as it was written and says what was expected: exit 2, and nothing is left behind."""
    line = refused("flood", *arguments, code=2, cwd=tmp_path)
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_the_output_may_not_be_the_template(tmp_path: Path) -> None:
    """It would be overwritten while it is read."""
    emu_here("flood", "udp", "--count", "1", "-w", tmp_path / "a.pcap")
    before = (tmp_path / "a.pcap").read_bytes()
    line = refused("flood", "udp", "--count", "1", "--template", "a.pcap", "-w", "a.pcap", code=2, cwd=tmp_path)
    assert line == "a.pcap: would overwrite the input a.pcap; name another output"
    assert (tmp_path / "a.pcap").read_bytes() == before


def test_one_frame_has_no_rate() -> None:
    """A rate needs two frames; nothing is divided by zero."""
    found = facts("udp", "--count", "1")
    assert (found["achieved_pps"], found["achieved_mbps"], found["duration_ns"]) == (0.0, 0.0, 0)
    assert "achieved no rate" in emu_here("flood", "udp", "--count", "1").out
    assert totals_of(Tally()).milli_pps == 0


def test_frames_at_one_time_have_no_rate() -> None:
    """Ten frames a nanosecond: there is no time between the first and the last."""
    assert (
        "3 frames, 192 bytes in 0 s; asked 10G pps, achieved no rate"
        in emu_here("flood", "udp", "--pps", "10G", "--count", "3").out
    )


def test_an_interruption_before_the_first_frame_is_said(tmp_path: Path) -> None:
    """Here while the user's own file runs, which may take its time."""
    (tmp_path / "own.py").write_text("raise KeyboardInterrupt\n")
    arguments = ["flood", "udp", "--count", "1", "--template", "own.py", "-w", "a.pcapng"]
    assert refused(*arguments, code=130, cwd=tmp_path) == "interrupted"
    assert not (tmp_path / "a.pcapng").exists()


def test_the_list_and_the_help_do_without_scapy() -> None:
    """Scapy takes a second to import: only who crafts waits for it; a replay: test_cli_options."""
    code = (
        "import sys; from emu.cli.main import main\n"
        "sys.argv = ['emu', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('scapy' in sys.modules, file=sys.stderr)"
    )
    for arguments, imported in (
        (["flood", "--list"], False),
        (["flood", "udp", "--help"], False),
        (["flood", "udp", "--count", "1"], True),
    ):
        done = subprocess.run([EMU[0], "-c", code, *arguments], capture_output=True, cwd=kit.ROOT, timeout=PATIENCE_S)
        assert done.stderr.decode().split() == [str(imported)], (arguments, done.stderr)


def test_main_help_names_the_verb() -> None:
    """`emu --help` says that floods can be crafted."""
    assert "Craft traffic" in emu("--help").out
