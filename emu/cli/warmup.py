"""`emu warmup`: compile now what the compiled engine would compile when it is first used."""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from emu.cli.options import ReplayCommand
from emu.cli.replay import print_json
from emu.cli.run_options import RunCommand
from emu.closed_runs import run_closed_once
from emu.crafting import craft_told
from emu.engine.cache import CacheFolder
from emu.engine.choose import choose_engine
from emu.engine.plain import LIVE
from emu.errors import Exit, UsageError
from emu.live.warm import warm
from emu.request import inputs_of, outputs_of
from emu.runs import run_once
from emu.task import NO_OUTPUTS
from emu.traffic.flood.kinds import parse_flood
from emu.verdicts.log import import_polars
from emu.verdicts.read import open_verdicts

CRAFTED = {
    "session.pcapng": "iscsi-acks:writes=20,write_size=16KiB,direction=both,digests=both",
    "mix.pcapng": "mixed-imix:count=200,poisson,burst=1ms/1ms",
    "old.pcap": "fragments:count=60",
}


def warmup(as_json: bool) -> int:
    """Use every part of the engine once, on crafted traffic that nobody sees; the exit code."""
    started = time.perf_counter()
    engine, _ = choose_engine("compiled", None)
    with tempfile.TemporaryDirectory(prefix="emu-warmup-") as folder:
        for what in uses(Path(folder)):
            if not as_json:
                print(f"emu: {what}", file=sys.stderr)
    seconds = time.perf_counter() - started
    kept: CacheFolder = engine.cache  # type: ignore[attr-defined]  # the compiled engine's
    size_bytes = kept.size_bytes()
    if as_json:
        print_json(
            {
                "emu_warmup": 1,
                "seconds": round(seconds, 3),
                "cache": None if kept.path is None else str(kept.path),
                "cache_bytes": size_bytes,
            }
        )
        return Exit.DONE
    where = f"{size_bytes / 1e6:.1f} MB in {kept.path}"
    print(f"all is compiled, in {seconds:.0f} s: {where}" + (f" ({kept.note})" if kept.note else ""))
    return Exit.DONE if kept.path is not None else Exit.USAGE


def uses(folder: Path) -> Iterator[str]:
    """Run them one after the other; what each is, before it begins."""
    for name, text in CRAFTED.items():
        yield f"crafting {text.partition(':')[0]}"
        craft_told(parse_flood(text, "warmup"), nullcontext(), quiet, write=str(folder / name), engine="compiled")
    session, mix, old = (str(folder / name) for name in CRAFTED)
    events, written = str(folder / "events.jsonl"), str(folder / "out.pcapng")
    log = str(folder / "log.parquet") if logs_can_be_written() else None
    yield "replaying"
    replay(ReplayCommand(capture=[session], write=written, log=log, record_events=events, engine="compiled"))
    if log is not None:
        yield "reading verdicts back"
        open_verdicts(written, wanted_by="emu warmup", engine="compiled", say=quiet)
    yield "replaying a recording"
    replay(ReplayCommand(capture=[session], events=events, engine="compiled"))
    yield "merging, rewriting and looping"
    replay(
        ReplayCommand(
            capture=[session, mix, old],
            flood=["udp:pps=1k"],
            map_ip=["10.0.0.0/24=192.0.2.0/24"],
            fix_checksums=True,
            loop=2,
            filter="ip",
            policy="mainline",
            settings=["machine.geometry=6.x-e1000e"],
            engine="compiled",
        )
    )
    yield "a live run"
    warm(choose_engine("compiled", None, LIVE)[0], with_log=log is not None)
    yield "running the closed loop"
    run_closed_once(
        RunCommand(scenario="recovery", duration="200ms", engine="compiled", baseline=False),
        NO_OUTPUTS._replace(write=str(folder / "run.pcapng"), log=log),
        unwatched,
        quiet,
    )


def unwatched(_what: str, _lasts_ns: int) -> AbstractContextManager[None]:
    """Nobody watches a run that only compiles."""
    return nullcontext()


def replay(command: ReplayCommand) -> None:
    """A replay that shows nothing."""
    run_once(command, inputs_of(command), outputs_of(command), lambda _task: nullcontext(), quiet)


def quiet(_sentence: str) -> None:
    """What is said of these runs concerns nobody."""


def logs_can_be_written() -> bool:
    """Whether polars is there."""
    try:
        import_polars("warmup")
    except UsageError:
        return False
    return True
