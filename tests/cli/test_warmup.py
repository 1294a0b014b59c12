"""`emu warmup`: afterwards nothing is compiled when it is first used."""

import json
from pathlib import Path

from emu_process import NOP, emu


def test_afterwards_nothing_is_left_to_compile(tmp_path: Path) -> None:
    done = emu("warmup", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    cache = Path(found["cache"])
    assert {"warm-replay", "warm-flood", "warm-read"} <= {path.name for path in cache.iterdir()}
    before = sorted(path.name for path in cache.iterdir())
    replayed = emu("replay", NOP, "--engine", "compiled", "--loop", "2", "--json", "-w", tmp_path / "out.pcapng")
    crafted = emu("flood", "udp", "--count", "100", "--engine", "compiled", "-w", tmp_path / "udp.pcapng")
    assert (replayed.code, replayed.err, crafted.code, crafted.err) == (0, "", 0, "")
    shown = emu("show", tmp_path / "out.pcapng", "--engine", "compiled")
    assert shown.code == 0 and "compiling" not in shown.err
    assert sorted(path.name for path in cache.iterdir()) == before
