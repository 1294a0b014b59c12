"""Flood, unread ports and download on loopback: their pace, their counts, their ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.live.demo.programs.download_server import LEAST_BYTES, Allowance
from emu.live.demo.programs.flood import CATCH_UP_SECONDS, Pace
from emu.live.state import SharedWords


class Started:
    """A program that is at work."""

    def __init__(self, tmp_path: Path, name: str, *options: object) -> None:
        command = [sys.executable, "-m", f"emu.live.demo.programs.{name}", "--words", tmp_path / "words", *options]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def result(self) -> dict[str, Any]:
        """What it told at its end, which comes by itself or has been asked for."""
        out, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        return told

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    begun: list[Started] = []

    def make(name: str, *options: object) -> Started:
        begun.append(Started(tmp_path, name, *options))
        return begun[-1]

    yield make
    for one in begun:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def address() -> str:
    """One of loopback's that no other test has."""
    return f"127.{os.getpid() >> 16 & 0x7F | 0x40}.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF or 1}"


@pytest.fixture
def words(tmp_path: Path) -> SharedWords:
    return SharedWords(tmp_path / "words")


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("it does not come to hold")


def test_a_flood_reaches_all_ports_and_counts_what_it_sends(
    start: Callable[..., Started], words: SharedWords, address: str
) -> None:
    listening = []
    for port in range(4):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind((address, 20000 + port))
        listener.settimeout(5)
        listening.append(listener)
    flood = start("flood", "--to", address, "--per-second", 400, "--ports", 4, "--bytes", 300, "--seconds", 0.5)
    assert [len(listener.recv(2000)) for listener in listening] == [300] * 4
    result = flood.result()
    for listener in listening:
        listener.close()
    assert 0 < result["sent"] <= 200
    assert words.get("datagrams_sent") == result["sent"]
    assert result["sent"] + result["refused"] + result["skipped"] <= 400 * result["seconds"]


@given(st.integers(1, 10**6), st.lists(st.floats(0, 0.3), max_size=50))
def test_a_pace_never_runs_ahead_and_a_late_sender_sends_no_burst(per_second: int, steps: list[float]) -> None:
    pace, now, sent = Pace(per_second, 0.0), 0.0, 0
    for step in steps:
        now += step
        due = pace.due(now)
        assert 0 <= due <= max(1, CATCH_UP_SECONDS * per_second)
        sent += due
        assert sent + pace.skipped == int(now * per_second)


def test_ports_are_bound_and_never_read(start: Callable[..., Started], words: SharedWords, address: str) -> None:
    ports = start("ports", "--address", address, "--ports", 3, "--receive-bytes", 4096, "--seconds", 20)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, 20002))
    for _ in range(100):
        sender.send(bytes(1000))  # a port that is not bound would refuse the second one
    waiting = [
        line.split() for line in Path("/proc/net/udp").read_text().splitlines() if ":4E22 " in line.split()[1] + " "
    ]
    sender.close()
    assert any(line[4].split(":")[1] != "00000000" for line in waiting)
    words.put("stop", 1)
    assert ports.result() == {"ports": 3, "receive_bytes": 8192}


def test_a_download_runs_stands_still_in_a_crunch_and_goes_on(
    start: Callable[..., Started], words: SharedWords, address: str
) -> None:
    server = start("download_server", "--address", address, "--bytes-per-second", 4_000_000, "--seconds", 20)
    download = start("download", "--host", address, "--receive-bytes", 16384, "--seconds", 20)
    until(lambda: words.get("bytes_downloaded") > 0)
    words.put("would_wait", 1)
    time.sleep(0.1)  # the read that was on its way
    before = words.get("bytes_downloaded")
    time.sleep(0.2)
    assert words.get("bytes_downloaded") == before
    words.put("would_wait", 0)
    until(lambda: words.get("bytes_downloaded") > before)
    words.put("stop", 1)
    read, served = download.result(), server.result()
    assert read["bytes_read"] == words.get("bytes_downloaded") <= served["bytes_sent"]
    assert read["blocked_seconds"] >= 0.2
    assert (read["connections"], read["receive_bytes"], served["connections"]) == (1, 32768, 1)


def test_a_download_comes_back_when_its_server_does(
    start: Callable[..., Started], words: SharedWords, address: str
) -> None:
    first = start("download_server", "--address", address, "--seconds", 20)
    download = start("download", "--host", address, "--seconds", 20)
    until(lambda: words.get("bytes_downloaded") > 0)
    first.process.send_signal(signal.SIGTERM)
    first.result()
    before = words.get("bytes_downloaded")
    start("download_server", "--address", address, "--seconds", 20)
    until(lambda: words.get("bytes_downloaded") > before)
    download.process.send_signal(signal.SIGTERM)
    assert download.result()["connections"] == 2


def test_nobody_spins_while_there_is_nothing_to_do(
    start: Callable[..., Started], words: SharedWords, address: str
) -> None:
    server = start("download_server", "--address", address, "--bytes-per-second", 100_000, "--seconds", 20)
    download = start("download", "--host", address, "--seconds", 20)
    ports = start("ports", "--address", address, "--seconds", 20)
    words.put("would_wait", 1)
    before = [one.cpu_seconds() for one in (server, download, ports)]
    time.sleep(1)
    spent = [one.cpu_seconds() - was for one, was in zip((server, download, ports), before, strict=True)]
    assert max(spent) < 0.5, spent  # of one second: a loop that does not wait takes all of it


@given(st.integers(1, 10**9), st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 100)), max_size=60))
def test_an_allowance_keeps_the_pace_whatever_is_sent(rate: int, steps: list[tuple[float, int]]) -> None:
    allowance, now, sent = Allowance(rate, 0.0), 0.0, 0
    for step, percent in steps:
        now += step
        allowed = allowance.take(now)
        assert allowed == 0 or allowed >= min(LEAST_BYTES, int(rate * 0.05))
        size = allowed * percent // 100
        allowance.spend(size)
        sent += size
        assert sent <= now * rate + 1


def test_a_program_ends_at_its_time_limit(start: Callable[..., Started], address: str) -> None:
    began = time.monotonic()
    assert start("ports", "--address", address, "--seconds", 0.2).result()["ports"] == 16
    assert time.monotonic() - began < 10
