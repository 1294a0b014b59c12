"""Where compiled code is kept: shared by contents, whole or not at all, pruned by use, and done without if need be."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emu.engine import cache
from emu.engine.cache import KEPT_FOLDERS, CacheFolder, hold, key_of, prune

HERE = Path(__file__).resolve().parents[2]
KEY = "0123456789abcdef01234567"
TINY = """
from emu.engine import compiled
compiled.SOURCES, compiled.TABLES = ("cache_probe",), ("emu.engine.kept",)
import cache_probe
engine = compiled.CompiledEngine()
run = engine.function(cache_probe.doubled)
assert run(21) == 42
print("compiled" if run._cache_misses else "loaded", engine.cache.note)
"""
PROBE = "def inner(x):\n    return x + x\n\n\ndef doubled(x):\n    return inner(x)\n"


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)  # Python remembers it
    (tmp_path / "temporary").mkdir()


def folders_of(root: Path) -> set[str]:
    return {folder.name for folder in root.iterdir()}


def test_what_is_written_is_read_by_the_next(tmp_path: Path) -> None:
    assert CacheFolder(KEY).write("code", b"abc")
    again = CacheFolder(KEY)
    assert again.path == tmp_path / "cache" / "emu" / KEY
    assert (again.read("code"), again.read("other"), again.note) == (b"abc", None, "")
    assert again.size_bytes() == len(b"abc") + cache.DIGEST_BYTES


@pytest.mark.parametrize("damage", [b"", b"short", b"\0" * 200])
def test_damaged_files_are_not_read(damage: bytes) -> None:
    folder = CacheFolder(KEY)
    folder.write("code", b"abc" * 50)
    assert folder.path is not None
    (folder.path / "code").write_bytes(damage)
    assert folder.read("code") is None
    assert folder.write("code", b"new")
    assert folder.read("code") == b"new"


def test_a_truncated_file_is_not_read() -> None:
    folder = CacheFolder(KEY)
    folder.write("code", b"abc" * 50)
    assert folder.path is not None
    whole = (folder.path / "code").read_bytes()
    (folder.path / "code").write_bytes(whole[:-1])
    assert folder.read("code") is None


def test_a_folder_that_went_away_is_made_again() -> None:
    folder = CacheFolder(KEY)
    assert folder.path is not None
    shutil.rmtree(folder.path)
    assert folder.read("code") is None
    assert folder.write("code", b"abc")
    assert folder.read("code") == b"abc"


def test_equal_sources_have_one_key_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []
    for place in ("one", "two", "three"):
        source = tmp_path / place / "cache_probe.py"
        source.parent.mkdir()
        source.write_text(PROBE if place != "three" else PROBE + "\n")
        os.utime(source, (0, len(keys)))
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(source.parent))
            keys.append(key_of(("cache_probe",), ("facts",)))
    assert keys[0] == keys[1] != keys[2]
    assert key_of(("emu.errors",), ("facts",)) != key_of(("emu.errors",), ("others",))


def test_pruning_keeps_the_last_used_and_those_in_use(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "emu"
    names = [f"{at:024x}" for at in range(KEPT_FOLDERS + 3)]
    for at, name in enumerate(names):
        (root / name).mkdir(parents=True)
        os.utime(root / name, (at, at))
    (root / "notes").mkdir()
    held = hold(root / names[0])
    assert held is not None
    prune(root)
    assert folders_of(root) == {names[0], *names[3:], "notes"}
    os.close(held)
    prune(root)
    assert folders_of(root) == {*names[3:], "notes"}


def test_a_new_folder_prunes_and_a_use_counts(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "emu"
    names = [f"{at:024x}" for at in range(KEPT_FOLDERS)]
    for at, name in enumerate(names):
        (root / name).mkdir(parents=True)
        os.utime(root / name, (at, at))
    used = CacheFolder(names[0])
    assert used.path is not None
    assert used.path.stat().st_mtime > time.time() - 3600
    CacheFolder(KEY)
    assert folders_of(root) == {KEY, names[0], *names[2:]}


def test_what_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "emu"
    root.mkdir(parents=True)
    root.chmod(0o777)
    folder = CacheFolder(KEY)
    assert folder.path == tmp_path / "temporary" / f"emu-cache-{os.getuid()}" / KEY
    assert folder.note == f"kept in {folder.path.parent}: {root} cannot be written"


def test_nothing_can_be_written_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    folder = CacheFolder(KEY)
    assert folder.path is None
    assert folder.note.startswith("kept nowhere: ")
    assert (folder.read("code"), folder.write("code", b"abc"), folder.size_bytes()) == (None, False, 0)


def python(source: str, *places: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def tiny(place: Path) -> str:
    """What a fresh process says that compiles or loads the probe there."""
    done = python(TINY, place, HERE)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    pytest.importorskip("numba")
    (tmp_path / "probe").mkdir()
    (tmp_path / "probe" / "cache_probe.py").write_text(PROBE)
    return tmp_path / "probe"


def test_another_process_and_another_copy_load_what_one_compiled(probe: Path, tmp_path: Path) -> None:
    assert tiny(probe) == "compiled"
    assert tiny(probe) == "loaded"
    shutil.copytree(probe, tmp_path / "copy")
    (tmp_path / "copy" / "cache_probe.py").touch()
    assert tiny(tmp_path / "copy") == "loaded"


def test_processes_that_compile_at_the_same_time_do_not_harm_one_another(probe: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as several:
        said = list(several.map(tiny, [probe] * 3))
    assert set(said) <= {"compiled", "loaded"}
    (folder,) = (tmp_path / "cache" / "emu").iterdir()
    assert len(list(folder.iterdir())) == 1, "one entry, and nothing half written"
    assert tiny(probe) == "loaded"


def test_code_that_is_damaged_is_compiled_again(probe: Path, tmp_path: Path) -> None:
    assert tiny(probe) == "compiled"
    (code,) = (tmp_path / "cache" / "emu").glob("*/cache_probe.doubled-*")
    code.write_bytes(code.read_bytes()[:1000])
    assert tiny(probe) == "compiled"
    assert tiny(probe) == "loaded"


def test_a_read_only_installation_without_a_home_keeps_its_code_elsewhere(
    probe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    shutil.copytree(HERE / "emu", installed / "emu", ignore=shutil.ignore_patterns("__pycache__"))
    for file in (installed, *installed.rglob("*")):
        file.chmod(0o555)
    (tmp_path / "file").touch()  # root may write to any folder, but not into a file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = []
    for _ in range(2):
        done = python(TINY, probe, installed)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    where = tmp_path / "temporary" / f"emu-cache-{os.getuid()}"
    note = f"kept in {where}: {tmp_path / 'file' / 'emu'} cannot be written"
    assert said == [f"compiled {note}", f"loaded {note}"]
    for file in (installed, *installed.rglob("*")):
        file.chmod(0o755)


CHOICE = """
from emu.engine.choose import choose_engine
from emu.errors import UsageError
engine, sentence = choose_engine("auto", None)
print(engine.name, sentence)
try:
    choose_engine("compiled", None)
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            "ImportError('Numba needs NumPy 2.9 or less.\\\\nmore')",
            "the compiled engine needs numba (Numba needs NumPy 2.9 or less.): pip install 'emu[fast]'",
        ),
        ("OSError('LLVM cannot be loaded')", "numba does not work here (OSError: LLVM cannot be loaded)"),
        ("RuntimeError()", "numba does not work here (RuntimeError: no reason given)"),
    ],
)
def test_plain_serves_where_numba_does_not(tmp_path: Path, raised: str, said: str) -> None:
    (tmp_path / "fake" / "numba").mkdir(parents=True)
    (tmp_path / "fake" / "numba" / "__init__.py").write_text(f"raise {raised}\n".replace("\\\\", "\\"))
    done = python(CHOICE, tmp_path / "fake", HERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"plain plain engine: {said}", said]
