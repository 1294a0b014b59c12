"""Coverage-guided fuzzing with atheris: every target in turn, for a given time; crashes are kept and told.

    python tests/fuzz/run.py --seconds 3600             all targets, an hour in all
    python tests/fuzz/run.py --input capture FILE       one input again, without atheris

Exit code: 0 nothing was found, 1 something was, 2 atheris is missing.
"""

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
TARGETS = ("capture", "dissect", "scenario", "events")
INPUT_SECONDS = 20  # for one input: longer is a finding
LONGEST = 4096  # bytes of an input
PATIENCE_SECONDS = 30  # behind the time asked for, until a child is ended


def corpus_of(target: str) -> list[Path]:
    """The committed inputs of a target."""
    return sorted(path for path in (CORPUS / target).iterdir() if path.is_file())


def one_input(target: str, octets: bytes) -> None:
    """Run a target's harness on one input, as it is."""
    importlib.import_module(f"fuzz_{target}").one_input(octets)


def fuzz_here(target: str, seconds: int, folder: Path) -> None:
    """Fuzz in this process until the time is over; does not return."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["emu", f"fuzz_{target}"]):
        harness = importlib.import_module(f"fuzz_{target}")
    found = folder / "corpus"
    found.mkdir(exist_ok=True)
    options = (
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={folder}/found-",
        "-rss_limit_mb=2048",
        "-use_value_profile=1",
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], *options, str(found), str(CORPUS / target)], harness.one_input)
    atheris.Fuzz()


def fuzz(target: str, seconds: int, folder: Path) -> list[Path]:
    """Fuzz in a child, which is ended when it does not end by itself; the inputs that it stumbled over."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    command = [sys.executable, __file__, "--child", target, "--seconds", str(seconds), "--out", str(folder)]
    with log.open("wb") as said:
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            child.wait(seconds + INPUT_SECONDS + PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        except BaseException:
            child.kill()
            raise
    crashes = sorted(folder.glob("found-*"))
    lines = log.read_text(errors="replace").splitlines()
    runs = next((line.split()[-1] for line in lines if "number_of_executed_units" in line), "?")
    print(f"{target}: {runs} inputs in {seconds} s, {len(crashes)} found", flush=True)
    if child.returncode and not crashes:
        print("\n".join(lines[-20:]), file=sys.stderr)
        crashes = [log]
    for crash in crashes:
        print("\n".join(line for line in lines if "===" not in line)[-3000:])
        print(f"{target}: again with: {sys.executable} {__file__} --input {target} {crash}")
    return crashes


def main() -> int:
    """Parse the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="in all, shared by the targets")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; repeatable")
    parser.add_argument("--out", type=Path, help="where corpus and crashes are kept (default: a new folder)")
    parser.add_argument("--input", nargs=2, metavar=("TARGET", "FILE"), help="run one input again")
    parser.add_argument("--child", choices=TARGETS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.input:
        one_input(asked.input[0], Path(asked.input[1]).read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzzing needs atheris: pip install atheris", file=sys.stderr)
        return 2
    if asked.child:
        fuzz_here(asked.child, asked.seconds, asked.out)
        return 0
    out = asked.out or Path(tempfile.mkdtemp(prefix="emu-fuzz-"))
    targets = asked.target or TARGETS
    found = [crash for target in targets for crash in fuzz(target, max(1, asked.seconds // len(targets)), out / target)]
    print(f"corpus and crashes are in {out}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
