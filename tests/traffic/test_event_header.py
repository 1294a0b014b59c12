"""The header of a recorded event stream: what it tells a replay, and what nobody has to believe."""

import io
import json
import os
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_kit import iscsi, paced, pcap, tcp, udp

from emu.capture.compression import Source
from emu.capture.reader import CaptureReader
from emu.cli.options import ReplayCommand
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.play import replay
from emu.request import inputs_of, outputs_of
from emu.runs import Run, run_once
from emu.scenario import Scenario
from emu.scenario_file import load_scenario, shipped_scenarios, tables_of
from emu.task import Task
from emu.traffic.events import header_in, header_of
from emu.traffic.host import Host

CAPTURE = pcap(paced([udp(), tcp(), iscsi(), udp(6000)] * 5))
MAC = 0x020000000002


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture, and the stream of its replay under a policy that is not the default."""
    folder = tmp_path_factory.mktemp("recording")
    (folder / "c.pcap").write_bytes(CAPTURE)
    command = ReplayCommand(policy="linux-2.6.12", settings=["device.0.ring=96"], record_events=str(folder / "events"))
    played(folder, command)
    return folder


def played(folder: Path, command: ReplayCommand) -> Run:
    command = ReplayCommand(**(vars(command) | {"capture": [str(folder / "c.pcap")], "engine": "plain"}))
    return run_once(command, inputs_of(command), outputs_of(command), lambda _task: nullcontext(), lambda _said: None)


def headed(recording: Path, folder: Path, header: Any) -> str:
    """The stream under another header."""
    path = folder / "events"
    line = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(line + b"\n" + (recording / "events").read_bytes().partition(b"\n")[2])
    return str(path)


def told(recording: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((recording / "events").read_bytes().partition(b"\n")[0])
    return header


def test_a_recording_needs_its_capture_only(recording: Path) -> None:
    run = played(recording, ReplayCommand(events=str(recording / "events")))
    assert run.policy == "linux-2.6.12"
    assert run.summary["devices"]["eth0"]["ring_size"] == 96


def test_a_stream_of_an_older_emu_asks_for_the_scenario(recording: Path, tmp_path: Path) -> None:
    """It has no scenario, or not even that one's digest."""
    old = {"emu_events": 1, "scenario_sha256": told(recording)["scenario_sha256"]}
    given = ReplayCommand(policy="linux-2.6.12", settings=["device.0.ring=96"])
    whole = played(recording, ReplayCommand(**(vars(given) | {"events": str(recording / "events")})))
    for header in (old, {"emu_events": 1}):
        events = headed(recording, tmp_path, header)
        run = played(recording, ReplayCommand(**(vars(given) | {"events": events})))
        assert run.summary["drops_by_reason"] == whole.summary["drops_by_reason"]
    with pytest.raises(UsageError, match="recorded under another scenario"):
        played(recording, ReplayCommand(events=headed(recording, tmp_path, old)))


DEEP = b'{"emu_events": 1, "scenario": {"a": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_002
NO_STREAM = (
    b"",
    b"[]",
    b"null",
    b"not JSON",
    b'{"emu_events": 2}',
    b'{"emu_events": "1"}',
    b'{"emu_events": 1, "scenario": {"why": "\xff\xfe"}}',
    b'{"emu_events": 1, "scenario": [1]}',
    b'{"emu_events": 1, "hosts": 5}',
    b'{"emu_events": 1, "hosts": [{"dev": 0}]}',
    b'{"emu_events": 1, "hosts": [{"dev": 99, "mac": 1}]}',
    b'{"emu_events": 1, "hosts": [{"dev": -1, "mac": 1}]}',
    b'{"emu_events": 1, "hosts": [{"dev": 0, "mac": -1}]}',
    b'{"emu_events": 1, "hosts": [{"dev": 0, "mac": 281474976710656}]}',
    b'{"emu_events": 1, "hosts": [{"dev": 0, "mac": 1e99}]}',
    DEEP,
    b'{"emu_events": 1, "why": "' + b"x" * (1 << 24) + b'"}',
)


@pytest.mark.parametrize("header", NO_STREAM, ids=lambda header: repr(header[:48]))
def test_what_is_no_header_is_refused_in_one_line(recording: Path, tmp_path: Path, header: bytes) -> None:
    events = headed(recording, tmp_path, header)
    with pytest.raises(UsageError) as refused:
        played(recording, ReplayCommand(events=events))
    assert str(refused.value) == f"{events}: not an event stream of emu (version 1); see --record-events"


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"nonsense": 1}, "unknown key 'nonsense'"),
        ({"machine": {"nonsense": 1, "memory": "x"}, "policy": {"name": "zz"}}, "machine.nonsense: unknown key"),
        ({"machine": {"a\nb": 1}}, "unknown key 'a b'"),
        ({"machine": 5}, "machine: expected a table"),
        ({"schema": 99}, "schema: expected 1, found 99"),
        ({"device": [5]}, "device.0: expected a table"),
    ],
)
def test_a_scenario_that_is_none_is_refused_in_one_line(
    recording: Path, tmp_path: Path, tables: dict[str, Any], said: str
) -> None:
    """It names the stream: whoever replays has given no scenario."""
    events = headed(recording, tmp_path, told(recording) | {"scenario": tables})
    with pytest.raises(UsageError) as refused:
        played(recording, ReplayCommand(events=events))
    assert str(refused.value).startswith(f"{events}: the scenario of its header is none")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_digest_has_the_last_word(recording: Path, tmp_path: Path) -> None:
    """A scenario that was changed by hand is not that of the recording."""
    header = told(recording)
    header["scenario"]["device"][0]["ring"] = 128
    with pytest.raises(UsageError, match="recorded under another scenario"):
        played(recording, ReplayCommand(events=headed(recording, tmp_path, header)))


def test_a_line_that_nests_without_end_is_none(recording: Path, tmp_path: Path) -> None:
    events = tmp_path / "events"
    events.write_bytes((recording / "events").read_bytes().partition(b"\n")[0] + b"\n" + b"[" * 200_000 + b"\n")
    with pytest.raises(UsageError, match="line 2: not JSON"):
        played(recording, ReplayCommand(events=str(events)))


def test_a_stream_may_come_through_a_pipe(recording: Path, tmp_path: Path) -> None:
    """Such a one is read once: its scenario has to be given, and is held against its digest."""
    for settings, fits in ((["device.0.ring=96"], True), ([], False)):
        pipe = tmp_path / f"pipe-{fits}"
        os.mkfifo(pipe)
        octets = (recording / "events").read_bytes()
        writer = threading.Thread(target=pipe.write_bytes, args=(octets,), daemon=True)
        writer.start()
        command = ReplayCommand(events=str(pipe), policy="linux-2.6.12", settings=settings)
        if fits:
            assert played(recording, command).summary["frames"] == 20
        else:
            with pytest.raises(UsageError, match="recorded under another scenario"):
                played(recording, command)
        writer.join(10)
        assert not writer.is_alive()


def test_the_host_of_a_recording_is_the_replay_s(recording: Path, tmp_path: Path) -> None:
    """Where frames state their direction, nothing else tells who it is; one of a device that is not there is nobody."""
    hosts = [{"dev": 0, "mac": MAC}, {"dev": 7, "mac": 5}]
    events = headed(recording, tmp_path, {"emu_events": 1, "hosts": hosts})
    run = played(recording, ReplayCommand(events=events, policy="linux-2.6.12", settings=["device.0.ring=96"]))
    assert run.summary["host"]["mac"] == "02:00:00:00:00:02"
    assert run.summary["host"]["because"] == "the recording says so"


@pytest.mark.parametrize("name", sorted(name for name in shipped_scenarios()))
def test_every_scenario_can_be_told(tmp_path: Path, name: str) -> None:
    """What a header says of a scenario is that scenario."""
    scenario = load_scenario(shipped_scenarios()[name])
    header = header_of(scenario.digest(), tables_of(scenario), {0: Host(MAC, True, "x"), 1: Host(5, False, "y")})
    assert [(host.dev, host.mac) for host in header.hosts] == [(0, MAC)]
    assert header.scenario is not None
    again = load_scenario(None, tables=header.scenario)
    assert again.digest() == scenario.digest()


@given(octets=st.binary(max_size=200), like=st.booleans())
def test_any_bytes_are_a_stream_or_refused(tmp_path_factory: pytest.TempPathFactory, octets: bytes, like: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any-events"
    path.write_bytes(b'{"emu_events": 1}\n' + octets if like else octets)
    engine = PlainEngine()
    reader = CaptureReader(Source(io.BytesIO(CAPTURE), "any", len(CAPTURE)), "any", engine)
    try:
        header_in(str(path))
        replay(Task(Scenario(), "any", events=str(path)), engine, reader)
    except UsageError as error:
        assert "\n" not in str(error)
