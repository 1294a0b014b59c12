"""Random captures through random scenarios, on both engines, for a given time: all outputs must be the same bytes.

    python tools/soak.py --seconds 3600          until the hour is over; prints the seed of what differs
    python tools/soak.py --seed 4711 --runs 1    that one again

What a scenario may say is taken from its schema, so a key that is added is soaked too.  Exit code: 0 all runs agreed,
1 one did not, broke an invariant or took too long.
"""

import argparse
import hashlib
import io
import random
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import inspect

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("capture", "replay")]

from replay_kit import pcap, wild_frames  # noqa: E402

from emu.capture.compression import Source  # noqa: E402
from emu.capture.reader import CaptureReader  # noqa: E402
from emu.engine.plain import Engine, PlainEngine  # noqa: E402
from emu.errors import EmuError, UsageError  # noqa: E402
from emu.kernel.policy import POLICIES  # noqa: E402
from emu.play import replay  # noqa: E402
from emu.scenario import Scenario  # noqa: E402
from emu.scenario_file import load_scenario  # noqa: E402
from emu.task import Outputs, Task  # noqa: E402
from emu.verdicts.summary import summarise  # noqa: E402

MOST_FRAMES = 400
MOST_KEYS = 8
RUN_SECONDS = 300  # for one run on one engine: longer is a finding
LARGE = 1 << 20  # numbers without a bound of their own
# Keys whose texts or extremes need words of their own; None: left alone.
TEXTS: dict[str, tuple[Any, ...] | None] = {
    "schema": None,
    "why": None,
    "expect": None,
    "machine.geometry": None,
    "machine.memory": ("32MiB", "64MiB", "128MiB", "1GiB", "16GiB", 20_000),
    "policy.name": tuple(POLICIES),
    "policy.rules": None,
    "device.0.name": None,
    "replay.memalloc": ("none", "iscsi", "tcp", "tcp or udp port 53", "udp host 10.0.0.1"),
    "replay.closed": ("", "udp port 9", "tcp"),
    "replay.drain_ns": (0, 1_000_000, 1_000_000_000, 20_000_000_000),
    "socket.0.match": ("tcp", "udp port 53", "tcp host 10.0.0.9 port 3260"),
}


def bare(kind: Any) -> Any:
    """A type without its notes."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    return kind


def leaves(kind: Any, prefix: str = "") -> dict[str, Any]:
    """Every key of the schema with its type; of an array of tables, the first element's."""
    found: dict[str, Any] = {}
    for field in kind.fields:
        inner = bare(field.type)
        name = f"{prefix}{field.encode_name}"
        if isinstance(inner, inspect.ListType) and isinstance(bare(inner.item_type), inspect.StructType):
            found |= leaves(bare(inner.item_type), f"{name}.0.")
        elif isinstance(inner, inspect.StructType):
            found |= leaves(inner, f"{name}.")
        else:
            found[name] = inner
    return found


def value_of(dice: random.Random, key: str, kind: Any) -> Any:
    """A value that may stand at a key; None: none is known."""
    if key in TEXTS:
        words = TEXTS[key]
        return None if words is None else dice.choice(words)
    kinds = [bare(each) for each in kind.types] if isinstance(kind, inspect.UnionType) else [kind]
    kind = dice.choice([each for each in kinds if not isinstance(each, inspect.NoneType)])
    if isinstance(kind, inspect.LiteralType):
        return dice.choice(kind.values)
    if isinstance(kind, inspect.BoolType):
        return dice.random() < 0.5
    if isinstance(kind, inspect.IntType):
        least, most = kind.ge or 0, min(LARGE, LARGE if kind.le is None else kind.le)
        step = kind.multiple_of or 1
        drawn = min(most, least + dice.choice((0, 1, dice.randrange(100), dice.randrange(most - least + 1))))
        return -(-drawn // step) * step
    return None


def scenario_of(dice: random.Random, keys: dict[str, Any]) -> Scenario | None:
    """A scenario with some keys set, or None when they contradict each other."""
    settings = {"policy.name": dice.choice(tuple(POLICIES))}
    for key in dice.sample(sorted(keys), dice.randrange(MOST_KEYS + 1)):
        value = value_of(dice, key, keys[key])
        if value is not None:
            settings[key] = value
    if any(key.startswith("socket.0.") for key in settings):
        settings.setdefault("socket.0.match", "tcp")
    try:
        return load_scenario(None, settings)
    except UsageError:
        return None


def played(
    engine: Engine, capture: bytes, scenario: Scenario, batch: int, limit: int | None
) -> tuple[Any, dict[str, str]]:
    """The summary and a checksum of each output."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="emu-soak-")))
        names = [str(folder / name) for name in ("out.pcapng", "log.csv", "events.jsonl")]
        outputs = Outputs(names[0], "all", names[1], "all", names[2])
        source = Source(io.BytesIO(capture), "soak", len(capture))
        reader = stack.enter_context(CaptureReader(source, "soak", engine))
        task = Task(scenario, "soak", outputs=outputs, batch=batch, limit=limit)
        signal.alarm(RUN_SECONDS)
        try:
            outcome = replay(task, engine, reader)
        except EmuError as error:
            return f"{type(error).__name__}: {error}".replace(str(folder), ""), {}
        finally:
            signal.alarm(0)
        summary = {key: value for key, value in summarise(outcome).items() if key != "run"}
        return summary, {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def one_run(seed: int, engines: list[Engine], keys: dict[str, Any]) -> int:
    """One capture under one scenario by every engine, in batches of different sizes; how many frames were compared."""
    dice = random.Random(seed)
    scenario = scenario_of(dice, keys)
    if scenario is None:
        return 0
    frames = wild_frames(dice.randrange(1 << 32), dice.randrange(1, MOST_FRAMES))
    capture = pcap(frames)
    limit = dice.choice((None, None, None, 1, 100))
    found = [played(engine, capture, scenario, dice.choice((1, 7, 100, 4096)), limit) for engine in engines]
    for engine, other in zip(engines[1:], found[1:], strict=True):
        assert other == found[0], f"{engine.name} differs from {engines[0].name}:\n{difference(found[0], other)}"
    return len(frames)


def difference(one: tuple[Any, Any], other: tuple[Any, Any]) -> str:
    """Which parts of two results differ."""
    if isinstance(one[0], str) or isinstance(other[0], str):
        return f"{one[0]!s:.300}\n{other[0]!s:.300}"
    parts = [f"{key}: {one[0][key]} / {other[0][key]}" for key in one[0] if one[0][key] != other[0][key]]
    return "\n".join([*parts, *(name for name in one[1] if one[1][name] != other[1].get(name))])


def too_long(_signal: int, _frame: Any) -> None:
    raise AssertionError(f"one run took more than {RUN_SECONDS} s")


def main() -> int:
    """Parse the command line and soak; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, help="stop after so many")
    parser.add_argument("--seed", type=int, default=None, help="of the first run (default: the clock)")
    parser.add_argument("--plain-only", action="store_true", help="two plain runs, in different batches")
    asked = parser.parse_args()
    engines: list[Engine] = [PlainEngine(), PlainEngine()]
    if not asked.plain_only:
        from emu.engine.compiled import CompiledEngine

        engines[1] = CompiledEngine()
    signal.signal(signal.SIGALRM, too_long)
    seed = time.time_ns() if asked.seed is None else asked.seed
    keys = leaves(inspect.type_info(Scenario))
    until = time.monotonic() + asked.seconds
    runs = refused = frames = 0
    while time.monotonic() < until and (asked.runs is None or runs + refused < asked.runs):
        try:
            compared = one_run(seed, engines, keys)
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be told
            again = f"{sys.executable} {__file__} --seed {seed} --runs 1" + " --plain-only" * asked.plain_only
            print(f"seed {seed}: {type(error).__name__}: {error}\nagain with: {again}")
            return 1
        if runs == 0:
            until = time.monotonic() + asked.seconds  # what was compiled until now is not soaked
        runs, refused, frames = runs + (compared > 0), refused + (compared == 0), frames + compared
        seed += 1
    print(f"{runs} runs of {frames} frames agree; {refused} scenarios were refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
