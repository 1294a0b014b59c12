"""Every verb and every option once, as a user types them."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from emu_process import EMU, LOGIN, NOP, ROOT, emu, emu_here, kit

from emu.kernel.policy import POLICIES as TABLE

VERBS = ("replay", "compare", "scenarios", "policies", "bugs", "explain", "schema", "check")
POLICIES = tuple(TABLE)


def summary_of(*arguments: str | Path, code: int = 0, stdin: bytes = b"") -> dict[str, Any]:
    """What --json prints."""
    done = emu("replay", *arguments, "--json", stdin=stdin) if stdin else emu_here("replay", *arguments, "--json")
    assert (done.code, done.err) == (code, ""), done.err
    summary: dict[str, Any] = json.loads(done.out)
    return summary


# Captures of devices.


def test_a_capture_of_a_device(tmp_path: Path) -> None:
    """--device names the device that a capture is of; the summary and the log know it."""
    summary = summary_of("--device", f"eth1={NOP}", "--log", str(tmp_path / "log.csv"))
    assert summary["capture"] == f"eth1={NOP}"
    assert summary["inputs"] == [{"device": "eth1", "capture": NOP}]
    assert {name: device["rx_packets"] for name, device in summary["devices"].items()} == {"eth1": 19}
    assert {row["device"] for row in kit.rows_of(tmp_path / "log.csv")} == {"eth1"}
    assert summary_of(NOP)["inputs"] == [{"device": None, "capture": NOP}]


def test_a_device_of_the_scenario_that_gets_no_frame(tmp_path: Path) -> None:
    """Every device of the scenario is there; the capture goes to the one that is named, with that one's ring."""
    scenario = tmp_path / "s.toml"
    scenario.write_text("[[device]]\n[[device]]\nname = 'eth1'\nring = 512\n")
    log = str(tmp_path / "log.csv")
    summary = summary_of("--device", f"eth1={NOP}", "--scenario", scenario, "--log", log)
    found = {name: (device["rx_packets"], device["ring_size"]) for name, device in summary["devices"].items()}
    assert found == {"eth0": (0, 256), "eth1": (19, 512)}
    assert {row["device"] for row in kit.rows_of(Path(log))} == {"eth1"}
    added = summary_of("--device", f"eth7={NOP}", "--scenario", scenario)
    assert list(added["devices"]) == ["eth0", "eth1", "eth7"]
    unnamed = summary_of(NOP, "--scenario", scenario)
    assert unnamed["devices"]["eth0"]["rx_packets"] == 19


def test_a_device_may_be_standard_input() -> None:
    """`-` is the capture of at most one device."""
    done = emu("replay", "--device", "eth1=-", "--json", stdin=Path(NOP).read_bytes())
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["inputs"] == [{"device": "eth1", "capture": "stdin"}]


def test_compare_takes_devices_too() -> None:
    """From a pipe as well: every policy sees the same frames on the same device."""
    for path, octets in ((NOP, b""), ("-", Path(NOP).read_bytes())):
        command = ("compare", "--device", f"eth1={path}", "--policies", "mainline,phillips-v5", "--json")
        done = emu(*command, stdin=octets)
        assert (done.code, done.err) == (0, "")
        for summary in json.loads(done.out)["policies"].values():
            assert summary["devices"]["eth1"]["rx_packets"] == 19
            assert list(summary["devices"]) == ["eth1"]


# Help.


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_is_printed(verb: str) -> None:
    """--help explains each verb on stdout, within 110 columns, and succeeds."""
    done = emu(*filter(None, [verb]), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: emu {verb}".rstrip())
    assert max(map(len, done.out.splitlines())) <= 110
    if not verb:
        assert all(re.search(rf"^  {each} ", done.out, re.MULTILINE) for each in VERBS)


def test_version() -> None:
    """--version prints one line."""
    from emu import __version__

    assert emu("--version") == (0, f"emu {__version__}\n", "")


def test_without_a_verb_help_is_shown() -> None:
    """`emu` alone shows its help, and that is no success."""
    done = emu()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: emu ")


def test_help_imports_nothing_heavy() -> None:
    """`emu --help` loads none of the libraries that the work needs, so it answers at once."""
    source = (
        "import sys\nsys.argv = ['emu', '--help']\n"
        "from emu.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numba', 'numpy', 'polars', 'scapy', 'msgspec', 'rich', 'psutil')"
        " if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == "[]\n"


def test_a_small_replay_loads_neither_numba_nor_polars() -> None:
    """A small capture without a log is played by plain Python: no numpy, numba, polars or Scapy is imported."""
    source = (
        f"import sys\nsys.argv = ['emu', 'replay', {NOP!r}]\n"
        "from emu.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numba', 'numpy', 'polars', 'scapy') if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == "[]\n"


# replay.


def test_replay_prints_a_summary_for_people() -> None:
    """Without options: tables on stdout, nothing on stderr, exit 0."""
    done = emu_here("replay", LOGIN)
    assert (done.code, done.err) == (0, "")
    for words in ("80 frames", "38 received", "memalloc (block I/O)", "assumed: replay is open loop"):
        assert words in done.out


def test_json_is_the_summary_and_nothing_else() -> None:
    """--json prints one object whose sums agree with the capture."""
    summary = summary_of(LOGIN)
    assert summary["frames"] == 80
    assert summary["capture"] == LOGIN
    assert summary["policy"] == "phillips-v5"
    assert summary["expectations"] == []
    assert summary["run"]["engine"] == "plain"


def test_write_and_log_make_files(tmp_path: Path) -> None:
    """-w and --log write their files, under their names and no other."""
    names = ("out.pcapng", "log.csv", "events.jsonl")
    done = emu_here("replay", NOP, "-w", names[0], "--log", names[1], "--record-events", names[2], cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert b"eth0-drop" in (tmp_path / "out.pcapng").read_bytes()


def test_write_to_stdout_keeps_stdout_for_data(tmp_path: Path) -> None:
    """With -w - the capture goes to stdout and the summary to stderr."""
    done = subprocess.run([*EMU, "replay", NOP, "-w", "-"], capture_output=True, check=True)
    emu_here("replay", NOP, "-w", "out.pcapng", cwd=tmp_path)
    assert done.stdout == (tmp_path / "out.pcapng").read_bytes()
    assert b"41 frames" in done.stderr


def test_annotate_all_writes_more(tmp_path: Path) -> None:
    """--annotate all gives survivors a comment too."""
    for annotate in ("drops", "all"):
        assert emu_here("replay", NOP, "-w", f"{annotate}.pcapng", "--annotate", annotate, cwd=tmp_path).code == 0
    comments = [(tmp_path / f"{name}.pcapng").read_bytes().count(b"emu verdict=") for name in ("drops", "all")]
    assert comments == [0, 41]


def test_log_rows_drops(tmp_path: Path) -> None:
    """--log-rows drops leaves the header and the dropped packets."""
    arguments = ("replay", NOP, "--policy", "linux-2.6.12", "--closed", "tcp")
    for rows in ("all", "drops"):
        assert emu_here(*arguments, "--log", f"{rows}.csv", "--log-rows", rows, cwd=tmp_path).code == 0
    every, drops = (kit.rows_of(tmp_path / f"{rows}.csv") for rows in ("all", "drops"))
    assert drops == [row for row in every if row["verdict"] == "dropped"] != []


@pytest.mark.parametrize("policy", POLICIES)
def test_policy(policy: str) -> None:
    """--policy plays under the row of that name."""
    assert summary_of(NOP, "--policy", policy)["policy"] == policy


def test_scenario_settings_and_options_in_that_order(tmp_path: Path) -> None:
    """--set goes over the scenario file, an option of its own name over --set."""
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        'why = "a test"\nexpect = ["frames == 41"]\n[policy]\nname = "mainline"\n[pressure]\nbackground_skbs = 10\n'
        "[replay]\nmemalloc = 'nbd'\n"
    )
    summary = summary_of(NOP, "--scenario", scenario)
    assert summary["policy"] == "mainline"
    assert summary["expectations"] == [{"text": "frames == 41", "holds": True, "found": 41}]
    settings = ("--set", "policy.name=linux-2.6.12", "--set", "pressure.background_skbs=0")
    changed = summary_of(NOP, "--scenario", scenario, *settings, "--memalloc", "iscsi")
    assert changed["policy"] == "linux-2.6.12"
    assert changed["memalloc"]["received"] == 19 != summary["memalloc"]["received"]
    assert changed["scenario_sha256"] != summary["scenario_sha256"]
    assert summary_of(NOP, "--scenario", scenario, *settings, "--policy", "reserve-only")["policy"] == "reserve-only"


@pytest.mark.parametrize(
    ("expectation", "holds"),
    [
        ("dropped == 0", True),
        ("memalloc.delivered >= other.delivered", True),
        ("drops_by_reason.PFMEMALLOC != 0", False),
        ("policy == 'phillips-v5'", True),
        ("devices.eth0.rx_reserve_used_max<50", False),
        ("incomplete == null", True),
        ("run.wall_seconds < 1e3", True),
        ("input.limited == true", False),
    ],
)
def test_expectations_decide_the_exit_code(expectation: str, holds: bool) -> None:
    """--expect holds (exit 0) or fails (exit 1), and the summary says what was found."""
    summary = summary_of(NOP, "--expect", expectation, code=0 if holds else 1)
    assert [judgement["holds"] for judgement in summary["expectations"]] == [holds]


def test_expectations_are_told_to_people() -> None:
    """Every expectation is shown with what was found; one that fails is enough for exit 1."""
    done = emu_here("replay", NOP, "--expect", "frames == 41", "--expect", "dropped > 0")
    assert (done.code, done.err) == (1, "")
    assert "expected frames == 41: held (found 41)" in done.out
    assert "expected dropped > 0: FAILED (found 0)" in done.out


@pytest.mark.parametrize(
    ("options", "path", "expected"),
    [
        (("--host", "56:f7:cb:69:80:bf"), "host", {"mac": "56:f7:cb:69:80:bf", "address": "", "because": "--host"}),
        (("--memalloc", "none"), "memalloc.received", 0),
        (("--closed", "tcp"), "drops_by_reason", {"NO_SOCKET": 19}),
        (("--limit", "7"), "frames", 7),
        (("--filter", "tcp[tcpflags] & tcp-syn != 0"), "filtered", 39),
        (("--offload", "jumbo"), "delivered", 19),
        (("--checksums", "trust"), "delivered", 19),
        (("--engine", "plain"), "run.engine", "plain"),
        (("--no-progress",), "frames", 41),
        (("--pps", "41"), "input.limited", False),
        (("--mbps", "100"), "frames", 41),
    ],
)
def test_each_option_does_what_it_says(options: tuple[str, ...], path: str, expected: Any) -> None:
    """One option at a time on the smallest capture."""
    found: Any = summary_of(NOP, *options)
    for word in path.split("."):
        found = found[word]
    assert found == expected


def test_rates_change_the_duration() -> None:
    """41 frames at 41 a second take 40 gaps of 1/41 s; 10 s of capture take 5 ms at 2000 times the speed."""
    assert summary_of(NOP, "--pps", "41")["duration_ns"] == 40 * 10**9 // 41
    assert summary_of(NOP, "--speed", "2000x")["duration_ns"] // 10**6 == 5


def test_events_are_recorded_and_played_back(tmp_path: Path) -> None:
    """--record-events, then --events: the same log."""
    recorded = emu_here("replay", LOGIN, "--log", "1.csv", "--record-events", "events.jsonl", cwd=tmp_path)
    again = emu_here("replay", LOGIN, "--log", "2.csv", "--events", "events.jsonl", cwd=tmp_path)
    assert (recorded.code, again.code) == (0, 0)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_progress_goes_to_stderr() -> None:
    """--progress shows packets and drops on stderr; stdout stays JSON."""
    done = emu_here("replay", NOP, "--progress", "--json")
    assert json.loads(done.out)["frames"] == 41
    assert "41 packets, 0 drops" in done.err


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_a_capture(packed: bool) -> None:
    """`-` reads a pipe, compressed or not."""
    octets = Path(NOP).read_bytes()
    summary = summary_of("-", stdin=gzip.compress(octets) if packed else octets)
    assert (summary["frames"], summary["capture"]) == (41, "stdin")
    assert summary["input"]["compression"] == ("gzip" if packed else "")


@pytest.mark.parametrize("name", ["[bold]b.pcap", "a[/b].pcap", "ü.pcap", b"caf\xe9.pcap"])
def test_a_capture_may_have_any_name(tmp_path: Path, name: str | bytes) -> None:
    """Brackets are no markup, and a name that is not UTF-8 is shown as far as it is."""
    folder = str(tmp_path).encode()
    capture = folder + b"/" + (name if isinstance(name, bytes) else name.encode())
    (tmp_path / "a[").mkdir()
    with open(capture, "wb") as stream:  # noqa: PTH123 - a name in bytes
        stream.write(Path(NOP).read_bytes())
    output = folder + b"/out.pcapng"
    for words in (b"replay -w", b"compare --policies mainline", b"replay --json -w"):
        verb, *options = words.split()
        command = [*map(str.encode, EMU), verb, capture, *options, *([output] if b"-w" in options else [])]
        done = subprocess.run(command, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        shown = name.decode(errors="replace") if isinstance(name, bytes) else name
        assert shown in done.stdout.decode().replace("\n", "")


# compare.


def test_compare_shows_all_policies() -> None:
    """The table has a row per policy, and a column of drops by reason for each."""
    done = emu_here("compare", LOGIN)
    assert (done.code, done.err) == (0, "")
    for policy in POLICIES:
        assert re.search(rf"^ {re.escape(policy)} +38/38 ", done.out, re.MULTILINE)


def test_compare_is_replay_under_each_policy(tmp_path: Path) -> None:
    """Each summary of compare is that of a replay under that policy, the order is the one asked for."""
    capture = tmp_path / "wild.pcap"
    capture.write_bytes(kit.pcap(kit.wild_frames(9, 300)))
    options = ("--set", "readers.ordinary=rate", "--closed", "udp port 9", "--filter", "not arp", "--limit", "250")
    done = emu_here("compare", capture, "--policies", "mainline,linux-2.6.12", "--json", *options)
    compared = json.loads(done.out)
    assert (done.code, compared["capture"], list(compared["policies"])) == (
        0,
        str(capture),
        ["mainline", "linux-2.6.12"],
    )
    for policy, summary in compared["policies"].items():
        single = summary_of(capture, "--policy", policy, *options)
        assert {**summary, "run": None} == {**single, "run": None}


@pytest.mark.parametrize(
    "options",
    [
        ("--scenario", "s.toml"),
        ("--host", "56:f7:cb:69:80:bf"),
        ("--memalloc", "nfs"),
        ("--speed", "2"),
        ("--pps", "1000"),
        ("--mbps", "10"),
        ("--offload", "drop"),
        ("--checksums", "verify"),
        ("--engine", "plain"),
        ("--no-progress",),
    ],
)
def test_compare_takes_the_options_of_replay(options: tuple[str, ...], tmp_path: Path) -> None:
    """An option means the same in both verbs."""
    (tmp_path / "s.toml").write_text('[[device]]\nname = "eno1"\n')
    arguments = [str(tmp_path / word) if word == "s.toml" else word for word in options]
    done = emu_here("compare", NOP, "--policies", "phillips-v5", "--json", *arguments)
    assert (done.code, done.err) == (0, "")
    compared = json.loads(done.out)["policies"]["phillips-v5"]
    assert {**compared, "run": None} == {**summary_of(NOP, *arguments), "run": None}


def test_compare_reads_a_pipe_once_for_all_policies() -> None:
    """Standard input and named pipes are kept, so that every policy sees the whole capture."""
    octets = Path(NOP).read_bytes()
    done = emu("compare", "-", "--json", stdin=octets)
    frames = [summary["frames"] for summary in json.loads(done.out)["policies"].values()]
    assert (done.code, frames) == (0, [41] * len(POLICIES))
    shell = f"{' '.join(EMU)} compare <(cat {NOP}) --json"
    piped = subprocess.run(["bash", "-c", shell], capture_output=True, check=True)
    assert [each["frames"] for each in json.loads(piped.stdout)["policies"].values()] == [41] * len(POLICIES)


def test_compare_expectations_are_judged_under_each_policy() -> None:
    """An expectation that one policy fails fails the comparison; each is shown by policy."""
    done = emu_here("compare", NOP, "--expect", "devices.eth0.rx_reserve_cap == 50")
    assert done.code == 1
    assert "expected phillips-v5: devices.eth0.rx_reserve_cap == 50: held (found 50)" in done.out
    assert "expected mainline: devices.eth0.rx_reserve_cap == 50: FAILED (found 0)" in done.out


# The other verbs.


@pytest.mark.parametrize(("verb", "key"), [("policies", "policies"), ("schema", "columns")])
def test_tables_are_printed_and_given_as_json(verb: str, key: str) -> None:
    """`policies` and `schema` print a table, and the same as JSON."""
    table, data = emu_here(verb), emu_here(verb, "--json")
    assert (table.code, table.err, data.code, data.err) == (0, "", 0, "")
    names = [entry["name"] for entry in json.loads(data.out)[key]]
    assert len(names) >= 4
    assert all(name in table.out for name in names)


def test_explain_a_reason() -> None:
    """`explain` tells what a drop reason means; the JSON has its name."""
    done = emu_here("explain", "PFMEMALLOC")
    assert (done.code, done.err) == (0, "")
    assert "Memory is for block I/O only" in done.out
    assert json.loads(emu("explain", "PFMEMALLOC", "--json").out)["name"] == "PFMEMALLOC"
