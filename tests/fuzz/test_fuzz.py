"""Every committed input through its harness, and, where atheris is installed, some seconds of fuzzing."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run import CORPUS, HERE, TARGETS, corpus_of, one_input

INPUTS = [(target, path) for target in TARGETS for path in corpus_of(target)]
SECONDS = 3  # for each target
LARGEST = 200_000  # bytes of all committed inputs


@pytest.mark.parametrize(("target", "path"), INPUTS, ids=lambda value: getattr(value, "name", value))
def test_an_input_of_the_corpus(target: str, path: Path) -> None:
    """What was found once, or stands for a format, does what its harness demands."""
    one_input(target, path.read_bytes())


def test_the_corpus_is_small_and_complete() -> None:
    """Every target has inputs; all together they are small enough to live here."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(corpus_of(target) for target in TARGETS)
    assert sum(path.stat().st_size for _, path in INPUTS) < LARGEST


def test_a_harness_sees_a_read_outside_of_the_frame() -> None:
    """The guard is awake: an index before or behind the frame is a failure."""
    from fuzz_kit import Guarded

    guarded = Guarded(bytes(10), 4, 6)
    assert guarded[4] == guarded[5] == 0
    for at in (3, 6, -1):
        with pytest.raises(AssertionError, match=f"byte {at} read"):
            guarded[at]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    """A smoke: each target for some seconds."""
    if importlib.util.find_spec("atheris") is None:
        assert not os.environ.get("EMU_REQUIRE_TOOLS"), "atheris is not installed"
        pytest.skip("atheris is not installed")
    command = [sys.executable, str(HERE / "run.py"), "--seconds", str(SECONDS * len(TARGETS)), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
