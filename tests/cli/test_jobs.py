"""`--jobs`: several policies at once, a process each; what comes of it does not depend on how many there are."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jobs_kit
import psutil
import pytest
from emu_process import EMU, LOGIN, MIXED, NOP, emu, refused

import emu as library
from emu.apart import play_each, worth_at_once
from emu.engine.plain import REPLAY
from emu.errors import EmuError, UsageError, WorkerDiedError

PATIENCE_S = 30.0
THREE = "mainline,phillips-v5,reserve-only"


def without_speed(text: str) -> dict[str, Any]:
    """What --json prints, without what differs from run to run."""
    found: dict[str, Any] = json.loads(text)
    for summary in found["policies"].values():
        summary.pop("run", None)
    return found


@pytest.mark.parametrize(
    "words",
    [
        (LOGIN, "--policies", "phillips-v5,linux-2.6.12", "--as-posted=8", "--expect", "frames == 1"),
        (NOP, "--policies", "mainline,phillips-v1", "--flood", "arp:count=5"),
        ("deadlock", "--for", "20ms", "--no-baseline", "--policies", "phillips-v1,linux-2.6.12"),
    ],
)
def test_the_results_are_the_same_however_many_play_at_once(words: tuple[str, ...]) -> None:
    """Order, figures, judgements, what is said and the exit code."""
    one, two = (emu("compare", *words, "--engine", "plain", "--json", "--jobs", jobs) for jobs in ("1", "2"))
    assert without_speed(one.out) == without_speed(two.out)
    assert list(json.loads(one.out)["policies"]) == list(json.loads(two.out)["policies"])
    assert (one.code, one.err) == (two.code, two.err)


def test_standard_input_is_read_once_for_all() -> None:
    """A pipe is kept, whoever reads it, and how often."""
    octets = Path(NOP).read_bytes()
    words = ("compare", "-", "--policies", THREE, "--engine", "plain", "--json", "--jobs")
    one, two = (emu(*words, jobs, stdin=octets) for jobs in ("1", "2"))
    assert without_speed(one.out) == without_speed(two.out)
    assert (one.code, two.code) == (0, 0)


@pytest.mark.parametrize("option", [("--filter", "nonsense("), ("--expect", "no.such == 1"), ("--jobs", "0")])
def test_what_is_refused_is_refused_in_the_same_words(option: tuple[str, str]) -> None:
    """A worker's error is the one line that it would have been."""
    words = ("compare", NOP, "--policies", THREE, "--engine", "plain")
    assert refused(*words, "--jobs", "1", *option, code=2) == refused(*words, "--jobs", "2", *option, code=2)


def test_a_damaged_capture_is_damaged_for_all(tmp_path: Path) -> None:
    """What was read is told, and the exit code is that of damage."""
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(Path(NOP).read_bytes()[:-3])
    one, two = (emu("compare", cut, "--policies", THREE, "--engine", "plain", "--jobs", jobs) for jobs in ("1", "2"))
    assert (one.code, one.out, one.err) == (two.code, two.out, two.err)
    assert one.code == 3


def test_the_library_starts_processes_when_it_is_asked_to() -> None:
    """`jobs=2` gives what is given without."""
    policies = ("mainline", "phillips-v5")
    one, two = (library.compare(LOGIN, policies=policies, engine="plain", jobs=jobs) for jobs in (None, 2))
    assert str(one) == str(two)
    runs = [
        library.compare_runs("deadlock", policies=policies, duration="20ms", baseline=False, jobs=jobs)
        for jobs in (1, 2)
    ]
    assert runs[0]["mainline"].samples == runs[1]["mainline"].samples
    assert str(runs[0]) == str(runs[1])
    with pytest.raises(UsageError, match="1 or more"):
        library.compare(NOP, jobs=0)


@contextmanager
def long_comparison(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], list[psutil.Process]]]:
    """`emu compare --jobs 2` that would take minutes, and its workers, once they play."""
    command = [*EMU, "compare", MIXED, "--loop", "1000", "--engine", "plain", "--policies", THREE, "--jobs", "2"]
    process = subprocess.Popen([*command, "--progress", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE_S
        workers: list[psutil.Process] = []
        while len(workers) < 2 or any(each.cpu_times().user < 1 for each in workers):
            assert time.monotonic() < deadline, "the workers do not work"
            time.sleep(0.1)
            workers = psutil.Process(process.pid).children()
        yield process, workers
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_comparison_tells_how_far_each_has_come(number: signal.Signals) -> None:
    """Exit 130; those that played are told, the one that did not is named, and no process is left."""
    with long_comparison("--json") as (process, workers):
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    found = json.loads(out)["policies"]
    assert process.returncode == 130
    assert list(found) == ["mainline", "phillips-v5"]
    assert all(summary["incomplete"].startswith("interrupted after frame") for summary in found.values())
    assert err.decode().splitlines()[-1] == "emu: interrupted: not played under reserve-only"
    assert not any(worker.is_running() for worker in workers)


def test_a_second_signal_ends_all_at_once() -> None:
    """Exit 130, one line, no process left."""
    with long_comparison() as (process, workers):
        for worker in workers:
            worker.suspend()  # so that they do not end by themselves
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (130, b"")
    assert err.decode().splitlines()[-1] == "emu: interrupted"
    assert not any(worker.is_running() for worker in workers)


def test_a_killed_worker_is_one_line_that_names_its_policy() -> None:
    """As when memory is short: an exit code that is not 0, and the others end."""
    with long_comparison() as (process, workers):
        min(workers, key=lambda worker: worker.pid).kill()
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, b"")
    said = err.decode().splitlines()[-1]
    assert said.startswith("emu: mainline: the process that played it was killed by SIGKILL; when memory is short,")
    assert not any(worker.is_running() for worker in workers)


def test_workers_end_with_who_has_started_them() -> None:
    """No orphan plays on."""
    with long_comparison() as (process, workers):
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert alive == []


def test_results_come_in_the_order_of_the_jobs() -> None:
    """However long each takes; what they say is said."""
    said: list[str] = []
    jobs = [jobs_kit.job(name, jobs_kit.echo, name, 0.3 if name == "a" else 0.0) for name in "abc"]
    assert [each.value for each in play_each(jobs, 3, said.append)] == ["a", "b", "c"]
    assert sorted(said) == [f"{name} was here" for name in "abc"]


def test_one_worker_compiles_while_the_others_wait(tmp_path: Path) -> None:
    """Whoever says that he compiles has it to himself until his work is done."""
    journal = tmp_path / "journal"
    jobs = [jobs_kit.job(name, jobs_kit.compile_something, str(journal)) for name in "abc"]
    assert len(list(play_each(jobs, 3, lambda _sentence: None))) == 3
    lines = [line.split() for line in journal.read_text().splitlines()]
    assert [word for word, _ in lines] == ["begin", "end"] * 3
    assert all(lines[at][1] == lines[at + 1][1] for at in (0, 2, 4))


@pytest.mark.parametrize(
    ("kind", "expected", "text"),
    [
        ("awkward", UsageError, "a.pcap: cannot be"),
        ("bug", LookupError, "no such thing"),
        ("gone", WorkerDiedError, "b: the process that played it ended with code 7"),
    ],
)
def test_a_worker_s_error_is_raised_behind_the_results_before_it(
    kind: str, expected: type[Exception], text: str
) -> None:
    """As one by one: what came before is given, what comes behind is not."""
    jobs = [jobs_kit.job("a", jobs_kit.echo, "a", 0.5), jobs_kit.job("b", jobs_kit.fail, kind)]
    jobs.append(jobs_kit.job("c", jobs_kit.echo, "c", 0.0))
    results = play_each(jobs, 2, lambda _sentence: None)
    assert next(results).value == "a"
    with pytest.raises(expected) as raised:
        next(results)
    assert str(raised.value) == text
    assert issubclass(WorkerDiedError, EmuError)


def test_small_captures_are_played_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a second Python that plays for a moment; large captures get one per core, or per policy."""
    monkeypatch.setattr("emu.apart.usable_cores", lambda: 4)
    assert worth_at_once("plain", 100_000, REPLAY, 9) == 1
    assert worth_at_once("plain", 10_000_000, REPLAY, 9) == 4
    assert worth_at_once("auto", 10_000_000_000, REPLAY, 3) == 3
    assert worth_at_once("auto", 10_000_000_000, REPLAY, 1) == 1
    monkeypatch.setattr("emu.apart.usable_cores", lambda: 1)
    assert worth_at_once("auto", 10_000_000_000, REPLAY, 9) == 1
