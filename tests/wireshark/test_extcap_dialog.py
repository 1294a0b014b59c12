"""What the extcap says of itself: every word of the dialog comes from our tables, and the quick answers are quick."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
from extcap_kit import environment, extcap

from emu.kernel.policy import POLICIES
from emu.scenario_file import load_scenario, shipped_scenarios
from emu.wireshark import extcap as program
from emu.wireshark.extcap_dialog import CAP, FIELDS, INTERFACES, REPLAY, RUN, config_sentences, runs, sentence

PART = re.compile(r"\{(\w+)=((?:[^}\\]|\\.)*)\}")


def parts(line: str) -> tuple[str, dict[str, str]]:
    """A sentence taken apart."""
    word, blank, rest = line.partition(" ")
    assert blank
    assert PART.sub("", rest) == ""
    return word, {name: re.sub(r"\\(.)", r"\1", value) for name, value in PART.findall(rest)}


def test_a_brace_does_not_end_a_text() -> None:
    """Wireshark reads up to a brace that nothing escapes."""
    line = sentence("arg", display="a } b \\ c", tooltip="")
    assert line == "arg {display=a \\} b \\\\ c}"
    assert parts(line) == ("arg", {"display": "a } b \\ c"})


@pytest.mark.parametrize("interface", sorted(INTERFACES))
def test_every_field_has_a_sentence(interface: str) -> None:
    """Names are unique and have no hyphen, texts and groups are there, numbers are in order."""
    said = [parts(line) for line in config_sentences(interface)]
    arguments = [given for word, given in said if word == "arg"]
    assert [given["number"] for given in arguments] == [str(at) for at in range(len(arguments))]
    names = [given["call"] for given in arguments]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"--[a-z]+", name) for name in names)
    assert all(given["display"] and given["tooltip"] and given["group"] for given in arguments)
    for field, given in zip(FIELDS[interface], arguments, strict=True):
        values = [value for word, value in said if word == "value" and value["arg"] == given["number"]]
        assert bool(values) == (field.type == "selector")
        if values:
            assert [value["value"] for value in values if value["default"] == "true"] == [field.default]


def test_selectors_offer_what_there_is() -> None:
    """Every policy, and every shipped scenario that is a run, found without reading scenarios in full."""
    said = [parts(line)[1] for line in config_sentences(REPLAY)]
    policies = [given["value"] for given in said if given.get("arg") == "1"]
    assert policies == ["scenario", *POLICIES]
    assert [name for name, _ in runs()] == [
        name for name, path in shipped_scenarios().items() if load_scenario(path).is_run
    ]


def test_no_field_shows_a_number_that_nobody_gave() -> None:
    """Wireshark shows an unsigned or a double without a default as 0: a cap of 0 is a machine without a reserve."""
    for field in (field for interface in sorted(INTERFACES) for field in FIELDS[interface]):
        assert field.default or field.type not in ("unsigned", "integer", "long", "double"), field


@pytest.mark.parametrize("word", ["", "7", "50", "x", "-1", "1.5", "."])
def test_numbers_are_checked_while_they_are_typed(word: str) -> None:
    pattern = parts(f"arg {CAP.more}")[1]["validation"]
    assert bool(re.search(pattern, word)) == (word.isdecimal() or word == "")


@pytest.mark.parametrize(
    "words",
    [["--extcap-interfaces"], *(["--extcap-config", "--extcap-interface", name] for name in sorted(INTERFACES))],
)
def test_questions_import_nothing_heavy(words: list[str]) -> None:
    """Wireshark and tshark ask at every start."""
    code = (
        "import sys; from emu.wireshark.extcap import main; code = main(sys.argv[1:]);"
        "heavy = {'typer', 'msgspec', 'rich', 'numba', 'numpy', 'polars'} & set(sys.modules);"
        "sys.exit(f'{heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment(Path.home()), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def asked(interface: str, *words: str) -> argparse.Namespace:
    """The call as the extcap reads it."""
    return program._parsed(["--capture", "--extcap-interface", interface, "--fifo", "out", *words])[0]


def test_a_replay_is_asked_for_in_the_words_of_the_command_line() -> None:
    """Fields become options of emu replay; several values of one stand between semicolons."""
    words = [
        "--file",
        "a.pcap",
        "--policy",
        "mainline",
        "--cap",
        "7",
        "--flood",
        "udp:pps=1k; arp:count=5",
        "--speed",
        "2",
    ]
    command = program.replay_command(
        asked(REPLAY, *words, "--set", "pressure.start=quiet;", "--annotateall", "--engine", "plain", "--novelty", "1")
    )
    assert (command.capture, command.policy, command.speed, command.realtime) == (["a.pcap"], "mainline", "2", "1")
    assert command.flood == ["udp:pps=1k", "arp:count=5"]
    assert command.settings == ["pressure.start=quiet", "device.0.rx_reserve=7"]
    assert (command.annotate, command.write, command.engine) == ("all", "out", "plain")


def test_a_run_is_asked_for_in_the_words_of_the_command_line() -> None:
    """A scenario file goes before a shipped one; the policy is the scenario's unless another is chosen."""
    words = [
        "--scenario",
        "deadlock",
        "--scenariofile",
        "my.toml",
        "--policy",
        "scenario",
        "--seed",
        "3",
        "--for",
        "2s",
    ]
    command = program.run_command(asked(RUN, *words, "--flood", "udp:pps=1k", "--realtime", "0.5", "--engine", "plain"))
    assert (command.scenario, command.policy, command.seed, command.duration) == ("my.toml", None, 3, "2s")
    assert command.settings == ['run.flood=["udp:pps=1k"]']
    assert (command.realtime, command.baseline, command.annotate) == ("0.5", False, "drops")


@pytest.mark.parametrize(
    ("interface", "text", "fault"),
    [
        (REPLAY, "tcp port 3260", ""),
        (REPLAY, "tcp portt", "portt"),
        (RUN, "tcp", "a run has no capture filter"),
        (RUN, "", ""),
    ],
)
def test_a_capture_filter_is_judged(interface: str, text: str, fault: str) -> None:
    """Nothing is said of a sound one; of another one line on standard output, which is where Wireshark looks."""
    done = extcap("--extcap-interface", interface, "--extcap-capture-filter", text)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == bool(fault)
    assert fault in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--extcap-config"],
        ["--extcap-dlts", "--extcap-interface", "eth0"],
        ["--capture", "--extcap-interface", "emu0"],
    ],
)
def test_a_call_that_makes_no_sense_is_refused(words: list[str]) -> None:
    """One line says what was expected."""
    done = extcap(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("emu: ")
