"""A live run and the replay of its recording are the same to the byte, whatever came and whatever happened."""

import random
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_kit import Ended, Played, check_replay, playing, replayed, scripted, until
from replay_kit import NS, iscsi, tcp, udp, wild_octets

from emu.kernel.machine import EVENT_CONTEXT, EVENT_PAGES, EVENT_READ
from emu.live.live_run import Happening
from emu.request import scenario_of

POSTED = {"phillips-v1": "all", "phillips-v2": "1,2,3", "phillips-v4": "6,7,11", "phillips-v5": "6,7"}
POLICIES = ("linux-2.6.12", "phillips-v5", "phillips-v6", "mainline", "reserve-only")
KINDS = tuple((policy, "") for policy in POLICIES) + tuple(POSTED.items())
MACHINES = st.fixed_dictionaries(
    {
        "readers.ordinary": st.sampled_from(("real", "real", "needs-memory", "rate", "never")),
        "readers.memalloc": st.sampled_from(("immediate", "real")),
        "replay.peers": st.sampled_from(("real", "captured")),
        "pressure.start": st.sampled_from(("crunch", "crunch", "quiet")),
        "device.0.ring": st.sampled_from((80, 256)),
    }
)
HAPPENINGS = st.one_of(
    st.builds(Happening, st.just(EVENT_READ), st.integers(0, 12), st.integers(1, 5)),
    st.builds(Happening, st.just(EVENT_PAGES), st.integers(0, 1), st.integers(-40, 40)),
    st.builds(Happening, st.just(EVENT_CONTEXT), st.just(0), st.just(0)),
)
STEPS = st.lists(
    st.tuples(
        st.integers(0, 8),  # frames from the wire
        st.integers(0, 3),  # frames of the host
        st.lists(HAPPENINGS, max_size=4),
        st.sampled_from((0, 0, 0, 1_000_000, 100_000_000, 12 * NS)),  # for which nothing comes
        st.integers(0, 2),  # rounds
    ),
    min_size=3,
    max_size=25,
)


def frames(dice: random.Random, count: int) -> list[bytes]:
    """Whatever may come, but for frames without a byte: there are none."""
    return [wild_octets(dice) or b"\x00" for _ in range(count)]


def counted(ended: Ended, played: Played) -> None:
    """Nothing is lost or invented between what was sent, read, decided and handed over."""
    wire, total = ended.wire, played.machine.total
    assert int(wire.frames) == int(total.frames) == len(played.sent)
    assert int(total.frames) == int(total.received) + int(total.not_received) + int(total.not_played)
    decided = int(total.delivered) + int(total.dropped) + int(total.in_flight) + int(total.oops)
    assert int(total.received) == decided
    assert len(played.wire_got) == int(wire.sent)
    assert len(played.host_got) == int(wire.survivors) + played.run.held.released
    assert int(wire.survivors) - int(wire.handed_on) <= int(total.delivered)
    assert all(frame in played.sent for frame in played.host_got)


@settings(max_examples=25)
@given(kind=st.sampled_from(KINDS), machine=MACHINES, seed=st.integers(0, 1 << 32), steps=STEPS, small=st.booleans())
def test_a_recording_replays_to_the_same_bytes(
    kind: tuple[str, str], machine: dict[str, Any], seed: int, steps: Any, small: bool
) -> None:
    """Verdicts, log and annotated capture, from the capture and the stream alone; also where the kernel has died."""
    policy, posted = kind
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="emu-parity-") as name, scripted() as clock:
        folder = Path(name)
        with playing(
            folder,
            policy=policy,
            settings=machine | ({"policy.as_posted": posted} if posted else {}),
            batch=64 if small else 0,
        ) as played:
            for inbound, outbound, happened, gap_ns, rounds in steps:
                played.from_wire(*frames(dice, inbound))
                played.from_host(*frames(dice, outbound))
                played.happen(*happened)
                clock.now_ns += gap_ns
                played.rounds(rounds)
                if int(played.machine.oops):
                    break
            else:
                until(lambda: int(played.wire_frames) == len(played.sent) or int(played.machine.oops) > 0, played)
            ended = played.end()
        if not int(played.machine.oops):
            counted(ended, played)
        if int(played.machine.total.frames):
            check_replay(ended, folder / "again")


@pytest.mark.parametrize("policy", ["linux-2.6.12", "phillips-v5", "mainline"])
def test_the_same_script_is_the_same_run(tmp_path: Path, policy: str) -> None:
    """With the clock of a script nothing is left to chance: every file is the same."""
    found = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        dice = random.Random(7)
        with scripted(), playing(folder, policy=policy, settings={"readers.ordinary": "rate"}) as played:
            for _ in range(20):
                played.from_wire(*frames(dice, dice.randrange(8)))
                played.from_host(*frames(dice, dice.randrange(3)))
                played.rounds()
            played.end()
        found.append((played.host_got, {path.name: path.read_bytes() for path in folder.iterdir()}))
    assert found[0] == found[1]
    assert set(found[0][1]) == {"w.pcapng", "log.csv", "events.jsonl", "host.pcapng"}


def oopsing(folder: Path, after: int) -> tuple[Ended, Played]:
    """A run whose kernel dies of a bug that its patch was posted with, and some frames that come after that."""
    settings = {"policy.as_posted": "all", "readers.ordinary": "never", "device.0.ring": 80}
    with scripted(), playing(folder, policy="phillips-v1", settings=settings) as played:
        for _ in range(300):
            played.from_wire(udp(), tcp(), iscsi(), udp(6000))
            played.rounds()
            if int(played.machine.oops):
                break
        assert int(played.machine.oops)
        for _ in range(after):
            played.from_wire(udp(), iscsi())
            played.rounds()
        return played.end(), played


@pytest.mark.parametrize("after", [0, 1, 20])
def test_an_oops_ends_it_and_the_recording_is_whole(tmp_path: Path, after: int) -> None:
    """Frames that come after it are not played, however long the wire needs to notice: nobody receives them."""
    ended, played = oopsing(tmp_path, after)
    assert ended.outcome.oops_frame > 0
    survivors = len(played.host_got)
    assert survivors == int(ended.wire.survivors)
    run = check_replay(ended, tmp_path / "again")
    assert run.summary["oops"] == ended.summary["oops"]


def test_a_recording_names_its_scenario_and_its_host(tmp_path: Path) -> None:
    """Nothing has to be said again; what is said and differs is refused."""
    from emu.cli.options import ReplayCommand
    from emu.errors import UsageError

    with scripted(), playing(tmp_path, policy="phillips-v4", settings={"device.0.ring": 96}) as played:
        for _ in range(10):
            played.from_wire(udp(), iscsi())
            played.rounds()
        ended = played.end()
    scenario = scenario_of(ReplayCommand(), [], None, str(tmp_path / "events.jsonl"))
    assert scenario == ended.outcome.task.scenario
    with pytest.raises(UsageError, match="recorded under another scenario"):
        replayed(tmp_path, tmp_path / "again", policy="mainline")
    with pytest.raises(UsageError, match="recorded under another scenario"):
        replayed(tmp_path, tmp_path / "again", settings=["device.0.ring=128"])
    assert replayed(tmp_path, tmp_path / "again", settings=["device.0.ring=96"]).summary["frames"] == 20


@pytest.mark.slow
@pytest.mark.xdist_group("compiled")
@pytest.mark.parametrize("readers", ["real", "rate"])
@pytest.mark.parametrize(("live", "later"), [("compiled", "plain"), ("plain", "compiled"), ("compiled", "compiled")])
def test_engines_agree_on_a_recording(tmp_path: Path, live: str, later: str, readers: str) -> None:
    """Compiled code reads the system's clock, so a run is no script's; what it was is in the stream: both play that."""
    pytest.importorskip("numba")
    from engine_pair import engine_named

    dice = random.Random(3)
    script = nullcontext() if live == "compiled" else scripted()
    with script, playing(tmp_path, engine=engine_named(live), settings={"readers.ordinary": readers}) as played:
        for _ in range(60):
            played.from_wire(*frames(dice, dice.randrange(8)))
            played.from_host(*frames(dice, dice.randrange(3)))
            played.happen(*[Happening(EVENT_READ, dice.randrange(9), 1) for _ in range(dice.randrange(3))])
            played.rounds(dice.randrange(1, 3))
        until(lambda: int(played.wire_frames) == len(played.sent), played)
        ended = played.end()
    counted(ended, played)
    check_replay(ended, tmp_path / "again", engine=later)
