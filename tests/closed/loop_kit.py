"""What the tests of whole runs share: small worlds, wild ones, and a run that is judged after every step."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from emu.closed import ENDED, ClosedRun
from emu.engine.plain import Engine, PlainEngine
from emu.kernel.invariants import HOLDS, SENTENCES, check_conservation, check_structures
from emu.kernel.policy import POLICIES
from emu.scenario_file import load_scenario
from emu.task import BATCH, NO_OUTPUTS, Outputs, Task
from emu.toml_text import toml_text

Tree = dict[str, Any]
Draw = st.DrawFn
FLOODS = ("udp", "icmp-echo", "arp", "tcp-bulk", "fragments", "synflood", "tcp-closed-port", "ipv6-udp")
TIGHT: Tree = {  # little for everything
    "zone": [
        {"name": "DMA", "free_pages": 0},
        {"name": "Normal", "present_pages": 1024, "min_pages": 8, "low_pages": 10, "high_pages": 12, "free_pages": 140},
    ]
}


def run_of_tree(
    tree: Tree, folder: Path, outputs: Outputs = NO_OUTPUTS, engine: Engine | None = None, batch: int = BATCH
) -> ClosedRun:
    """A run of a scenario given as tables."""
    path = folder / "scenario.toml"
    path.write_text(toml_text({"schema": 1, "why": "a test's"} | tree))
    task = Task(scenario=load_scenario(str(path)), name="scenario.toml", outputs=outputs, batch=batch)
    return ClosedRun(task, engine or PlainEngine())


def broken_rule(m: Any) -> str:
    """The sentence of the invariant that does not hold."""
    broken = check_conservation(m)
    return SENTENCES[broken if broken != HOLDS else check_structures(m)]


def conserved(run: ClosedRun, most_steps: int) -> int:
    """Step through a run; how many steps it took.  Every invariant must hold after each of them."""
    taken = 0
    while taken < most_steps:
        before_ns = run.elapsed_ns
        why = run.advance(steps=1)
        taken += 1
        sentence = broken_rule(run.machine)
        assert sentence == "holds", (taken, run.elapsed_ns, sentence)
        assert run.elapsed_ns >= before_ns, "time goes back"
        if why in ENDED:
            break
    return taken


@st.composite
def wild_worlds(draw: Draw) -> Tree:
    """A small closed world in which everything can go wrong."""
    devices = draw(st.integers(1, 2))
    names = [f"eth{d}" for d in range(devices)]
    tree: Tree = {
        "policy": {"name": draw(st.sampled_from([*POLICIES]))},
        "run": {
            "for": draw(st.sampled_from(["300ms", "3s", "40s"])),
            "sample": "20ms",
            "seed": draw(st.integers(0, 1000)),
            "stop_at_lockup": draw(st.booleans()),
            "flood": draw(st.lists(floods(names), max_size=2)),
        },
        "device": [draw(nics(name)) for name in names],
        "vm": {
            "dirty_ratio": draw(st.sampled_from([5, 40, 100])),
            "dirty_background_ratio": draw(st.sampled_from([0, 0, 0, 10])),
            "anonymous": draw(st.sampled_from(["0MiB", "2MiB"])),
        },
        "writer": draw(st.lists(writers(), max_size=3)),
        "session": [draw(sessions(names, s)) for s in range(draw(st.integers(1, 3)))],
        "wire": [{"device": name, "rate": draw(st.sampled_from(["1Gbit/s", "10Mbit/s"]))} for name in names],
        "download": [draw(downloads(names, n)) for n in range(draw(st.integers(0, 2)))],
        "blackout": [draw(blackouts(names)) for _ in range(draw(st.integers(0, 4)))],
        "at": draw(st.lists(plans(names), max_size=3)),
        "readers": {"ordinary": draw(st.sampled_from(["needs-memory", "immediate", "never"]))},
    }
    if draw(st.booleans()):
        tree |= {"zone": [dict(TIGHT["zone"][0]), TIGHT["zone"][1] | {"free_pages": draw(st.integers(30, 400))}]}
        tree["vm"]["anonymous"] = "0MiB"
    return tree


@st.composite
def nics(draw: Draw, name: str) -> Tree:
    driver = draw(st.sampled_from(["e1000", "e1000", "e1000-ps", "e1000e", "8139cp", "tg3"]))
    return {
        "name": name,
        "driver": driver,
        **({"ring": draw(st.sampled_from([80, 96]))} if driver in ("e1000", "e1000e") else {}),
        **({"napi": draw(st.booleans())} if driver == "e1000" else {}),
        "rx_reserve": draw(st.sampled_from([0, 2, 40])),
        "mtu": 9000 if driver in ("e1000", "e1000e") and draw(st.booleans()) else 1500,
    }


@st.composite
def floods(draw: Draw, names: list[str]) -> str:
    kind = draw(st.sampled_from(FLOODS))
    size = ",size=1514" if kind == "udp" and draw(st.booleans()) else ""
    return f"{kind}:pps={draw(st.sampled_from(['300', '3k']))},device={draw(st.sampled_from(names))}{size}"


@st.composite
def writers(draw: Draw) -> Tree:
    return {"rate": draw(st.sampled_from(["unlimited", "20MB/s", "400kB/s"])), "start": draw(times(5))}


@st.composite
def sessions(draw: Draw, names: list[str], number: int) -> Tree:
    return {
        "device": names[number % len(names)],
        "target": f"10.0.0.{10 + number}",
        "queue_depth": draw(st.sampled_from([1, 8])),
        "write_size": draw(st.sampled_from(["4KiB", "16KiB", "128KiB"])),
        "immediate_data": draw(st.booleans()),
        "initial_r2t": draw(st.booleans()),
        "first_burst": "8KiB",
        "max_burst": draw(st.sampled_from(["8KiB", "64KiB"])),
        "service": draw(st.sampled_from(["0s", "200us", "5ms"])),
        "nop_interval": draw(st.sampled_from(["0s", "5ms", "5s"])),
        "nop_timeout": draw(st.sampled_from(["20ms", "15s"])),
        "sndbuf": draw(st.sampled_from([2048, 65_536])),
        "iscsid": draw(st.sampled_from(["needs-memory", "locked"])),
        "memalloc": draw(st.booleans()),
    }


@st.composite
def downloads(draw: Draw, names: list[str], number: int) -> Tree:
    return {
        "device": names[number % len(names)],
        "server": f"10.0.0.{30 + number}",
        "start": draw(times(30)),
        "reader": draw(st.sampled_from(["needs-memory", "immediate", "never"])),
        "rcvbuf": draw(st.sampled_from([4096, 87_380])),
        "bytes": draw(st.sampled_from(["0B", "64KiB"])),
    }


@st.composite
def blackouts(draw: Draw, names: list[str]) -> Tree:
    return {
        "device": draw(st.sampled_from(names)),
        "start": draw(times(80)),
        "for": f"{draw(st.integers(1, 400))}ms",
        "direction": draw(st.sampled_from(["to-host", "from-host", "both"])),
    }


@st.composite
def plans(draw: Draw, names: list[str]) -> Tree:
    action = draw(st.sampled_from(["down", "up", "mtu", "pages", "min_free_kbytes"]))
    entry: Tree = {"time": draw(times(80)), "action": action}
    if action in ("down", "up", "mtu"):
        entry["device"] = draw(st.sampled_from(names))
    if action in ("mtu", "pages", "min_free_kbytes"):
        entry["value"] = draw(st.sampled_from([600, 1500, 1200]))
    return entry


def times(most_ms: int) -> st.SearchStrategy[str]:
    return st.integers(0, most_ms).map(lambda ms: f"{ms}ms")
