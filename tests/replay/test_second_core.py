"""A second core changes nothing: whatever comes, the outputs are the same bytes, and errors are the same sentences."""

import io
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from capture_kit import epb, idb, shb, source_of
from replay_kit import (
    PLAIN,
    Played,
    files_of,
    iscsi,
    outputs_in,
    paced,
    pcap,
    played,
    udp,
    wild_frames,
)

from emu import play
from emu.capture.compression import Source
from emu.capture.reader import CaptureReader
from emu.engine import loop
from emu.errors import CaptureError, UsageError
from emu.interrupt import Interruption
from emu.kernel.bugs import BUG_UDP_LABEL, oops
from emu.kernel.drop_reason import AT_UDP_RCV
from emu.play import Replay, replay
from emu.scenario_file import load_scenario
from emu.task import Outputs, Task
from emu.verdicts.summary import summarise

MANY = 1_800  # the first 1024 frames say who the host is, and are played by one core


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which something has been prepared."""
    threads: list[str] = []
    real = Replay.prepare_known

    def prepare_known(self: Replay, first: int, last: int) -> int:
        threads.append(threading.current_thread().name)
        return real(self, first, last)

    monkeypatch.setattr(Replay, "prepare_known", prepare_known)
    return threads


def both(folder: Path, capture: bytes, batch: int, **how: Any) -> list[tuple[Any, dict[str, bytes]]]:
    """Summary and files with one core, and with two."""
    found = []
    for cores in (1, 2):
        place = folder / f"{batch}-{cores}"
        place.mkdir()
        outputs = outputs_in(place, ".csv", record=True)
        summary = played(capture, outputs=outputs, batch=batch, cores=cores, **how).result
        found.append((summary, files_of(place)))
    return found


def late_interfaces(count: int) -> bytes:
    """A pcapng whose second interface, another device's, is described in its middle, and another later still."""
    dice = random.Random(5)
    parts = [shb(), idb(name=b"eth0")]
    for at in range(count):
        if at in (count // 2, 3 * count // 4):
            parts.append(idb(name=b"eth1" if at == count // 2 else b"eth0"))
        known = 1 + (at >= count // 2) + (at >= 3 * count // 4)
        octets = dice.choice((udp, iscsi))()
        parts.append(epb(octets, ticks=1_000_000 + 3 * at, iface=dice.randrange(known)))
    return b"".join(parts)


@pytest.mark.parametrize("batch", [63, 700])
@pytest.mark.parametrize(
    "settings",
    [{}, {"machine.cpu_ns_per_packet": 300_000}, {"readers.ordinary": "rate", "readers.rate": 2000}],
    ids=["default", "a ring that is full", "readers"],
)
def test_whatever_comes_is_the_same(tmp_path: Path, helped: list[str], settings: dict[str, Any], batch: int) -> None:
    one, two = both(tmp_path, pcap(wild_frames(31 + batch, MANY)), batch, settings=settings)
    assert one == two
    assert any("second-core" in thread for thread in helped)


@pytest.mark.parametrize("policy", ["linux-2.6.12", "mainline"])
def test_a_frame_at_a_time_is_the_same(tmp_path: Path, policy: str) -> None:
    one, two = both(tmp_path, pcap(wild_frames(32, 1_200)), 1, policy=policy)
    assert one == two


@pytest.mark.parametrize("batch", [10, 333])
def test_interfaces_and_hosts_that_show_late(tmp_path: Path, batch: int) -> None:
    """What the second core cannot prepare by itself the first one does."""
    two_devices = {"device.0.name": "eth0", "device.1.name": "eth1"}
    one, two = both(tmp_path, late_interfaces(MANY), batch, settings=two_devices)
    assert one == two
    assert set(one[0]["devices"]) == {"eth0", "eth1"}


@pytest.mark.parametrize("how", [{"limit": 1_300}, {"limit": 1_024}, {"filter": "udp"}, {"filter": "port 3260"}])
def test_a_part_of_a_capture(tmp_path: Path, how: dict[str, Any]) -> None:
    one, two = both(tmp_path, pcap(wild_frames(33, MANY)), 100, **how)
    assert one == two


def test_a_window_that_grows_and_shrinks(tmp_path: Path) -> None:
    """Bytes move while rows of three kinds point at them."""
    for window in (64, 30_000):
        folder = tmp_path / str(window)
        folder.mkdir()
        slow = {"machine.cpu_ns_per_packet": 40_000}
        one, two = both(folder, pcap(wild_frames(34, 1_300)), 50, settings=slow, window=window)
        assert one == two


def test_a_recorded_stream_is_played_back(tmp_path: Path) -> None:
    capture = pcap(wild_frames(35, 1_300))
    played(capture, outputs=Outputs(record_events=str(tmp_path / "events")), cores=1)
    results = []
    for cores in (1, 2):
        log = tmp_path / f"{cores}.csv"
        found = played(capture, outputs=Outputs(log=str(log)), events=str(tmp_path / "events"), batch=99, cores=cores)
        results.append((found.result, log.read_bytes()))
    assert results[0] == results[1]


def test_a_damaged_capture(tmp_path: Path) -> None:
    """What is sound is played, and the same is said of the rest."""
    one, two = both(tmp_path, pcap(wild_frames(36, MANY))[:-7], 100)
    assert one == two
    assert "expected" in one[0]["incomplete"]


@pytest.mark.parametrize("frame", [1_500, MANY])
def test_a_kernel_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: int) -> None:
    """Frames that were read ahead find nobody, as all others do."""
    real = loop.poll_one  # type: ignore[attr-defined]

    def poll_one(m: Any, d: int, p: Any) -> None:
        if p.frame >= frame:
            oops(m, BUG_UDP_LABEL, AT_UDP_RCV)
        if not m.oops:
            real(m, d, p)

    monkeypatch.setattr(loop, "poll_one", poll_one)
    one, two = both(tmp_path, pcap(paced([udp(), iscsi()] * (MANY // 2))), 80, settings={"pressure.start": "quiet"})
    assert one == two
    assert one[0]["oops"] > 0


def broken_after(count: int) -> bytes:
    """A pcapng in which a frame of a link type that is not played comes after so many."""
    frames = [epb(udp(), ticks=1_000_000 + at) for at in range(count)]
    return b"".join([shb(), idb(name=b"eth0"), *frames, idb(name=b"eth1", linktype=105), epb(b"wifi", iface=1)])


def test_a_source_that_fails_is_an_error_and_the_outputs_are_partial(tmp_path: Path) -> None:
    said = []
    for cores in (1, 2):
        out = tmp_path / f"{cores}.pcapng"
        with pytest.raises(CaptureError) as caught:
            played(broken_after(1_500), outputs=Outputs(str(out)), batch=100, cores=cores)
        said.append(str(caught.value))
        assert not out.exists()
        assert out.with_name(f"{out.name}.partial").stat().st_size > 50_000
    assert said[0] == said[1]


def test_a_machine_that_cannot_go_on_is_the_error_even_if_the_source_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Replay) -> None:
        if int(self.machine.total.frames) > 1_450:
            raise UsageError("the machine is full")

    monkeypatch.setattr(Replay, "_refuse_limit", refuse)
    with pytest.raises(UsageError, match="the machine is full"):
        played(broken_after(1_500), outputs=Outputs(str(tmp_path / "out.pcapng")), batch=100, cores=2)


def test_an_output_that_fails_ends_the_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second core's error is the user's."""

    def write_capture(self: Replay, first: int, last: int, oops_bug: int) -> None:
        if first < last and "second-core" in threading.current_thread().name:
            raise UsageError("no space left")

    monkeypatch.setattr(Replay, "write_capture", write_capture)
    with pytest.raises(UsageError, match="no space left"):
        played(pcap(wild_frames(37, MANY)), outputs=Outputs(str(tmp_path / "out.pcapng")), batch=100, cores=2)


def interrupted(folder: Path, at_frame: int, cores: int) -> Played:
    """A replay to which a signal comes once so many frames have been played."""
    interruption = Interruption()

    def look(_source: Any, machine: Any) -> None:
        if int(machine.total.frames) >= at_frame:
            interruption.happened = True

    task = Task(load_scenario(None, {}), "test", outputs=outputs_in(folder), batch=100, cores=cores)
    with CaptureReader(source_of(pcap(wild_frames(38, MANY))), "test", PLAIN) as reader:
        outcome = replay(task, PLAIN, reader, progress=look, interruption=interruption)
    return Played(outcome, summarise(outcome))


def test_a_signal_ends_it_with_whole_outputs(tmp_path: Path) -> None:
    """What has been read is played, nothing further is read, and the capture says where it ends."""
    found = interrupted(tmp_path, 1_200, cores=2).summary
    assert found["incomplete"] == f"interrupted after frame {found['frames']}"
    assert 1_200 <= found["frames"] <= 1_200 + 3 * 100
    assert f"interrupted after frame {found['frames']}".encode() in (tmp_path / "out.pcapng").read_bytes()
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert len(rows) - 1 >= found["received"]


def test_help_comes_where_it_pays(monkeypatch: pytest.MonkeyPatch, helped: list[str]) -> None:
    """Plain Python has one core whatever there is; a pipe may wait for ever, so nobody reads it ahead."""
    capture = pcap(wild_frames(39, 1_200))
    monkeypatch.setattr(play, "usable_cores", lambda: 2)
    played(capture, batch=100)
    assert not any("second-core" in thread for thread in helped)
    task = Task(load_scenario(None, {}), "test", batch=100, cores=2)
    with CaptureReader(Source(io.BytesIO(capture), "pipe", None), "pipe", PLAIN) as reader:
        replay(task, PLAIN, reader)
    assert not any("second-core" in thread for thread in helped)
    played(capture, batch=100, cores=2)
    assert any("second-core" in thread for thread in helped)
