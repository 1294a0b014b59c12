"""What a user asks of a crafted iSCSI session: seeds, counts, times, refusals; and that it replays."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_pair import engine_named
from session_kit import PLAIN, crafted, pcap_of
from session_walk import walk
from traffic_kit import kit

from emu.errors import UsageError
from emu.kernel.machine import DIR_INBOUND
from emu.play import replay
from emu.scenario_file import load_scenario
from emu.task import Task
from emu.traffic.crafted import START_NS, crafted_of
from emu.traffic.expression import parse_flows
from emu.traffic.iscsi.options import IscsiAcks, check, recipe_of
from emu.traffic.iscsi.session import SessionReader
from emu.verdicts.summary import summarise

QUIET = {"pressure.start": "quiet", "readers.ordinary": "immediate"}

SAME: dict[str, dict[str, Any]] = {
    "to the initiator": {"writes": 300},
    "both ways": {"writes": 40, "direction": "both", "write_size": "64KiB"},
    "IPv6, digests, pings": {
        "writes": 30,
        "direction": "both",
        "target": "fd00::7",
        "digests": "both",
        "write_size": "12KiB",
        "pps": 700,
        "nop_interval": "5ms",
    },
    "as many frames as asked": {"count": 777, "seed": 5},
}


@pytest.mark.parametrize("options", list(SAME.values()), ids=list(SAME))
def test_both_engines_craft_the_same_bytes_at_the_same_times(options: dict[str, Any]) -> None:
    assert crafted(engine_named("compiled"), **options) == crafted(**options)


def test_numbers_near_their_end_are_the_same_compiled() -> None:
    """The largest time, the largest seed and the largest rate stay within 64 bits."""
    options: dict[str, Any] = {"writes": 20, "seed": 1 << 62, "service": "1h", "rtt": "1h", "pps": 10**9}
    assert crafted(engine_named("compiled"), **options) == crafted(**options)


def test_the_seed_decides_all_that_is_free() -> None:
    """Same seed, same bytes; another seed has other sequence numbers, tags, port and response times."""
    one, again, other = (crafted(writes=20, seed=seed) for seed in (7, 7, 8))
    assert one == again
    assert [frame.time_ns for frame in one] != [frame.time_ns for frame in other]
    assert len({frames[0].octets[36:42] for frames in (one, other)}) == 2


@pytest.mark.parametrize("direction", ["to-initiator", "both"])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_count_cuts_and_changes_nothing_else(direction: str, count: int) -> None:
    """So many frames, the first ones of a session without end; with a number of writes, at most the whole session."""
    frames = crafted(count=count, direction=direction)
    assert len(frames) == count
    assert frames == crafted(most=count, writes=1000, direction=direction)
    whole = crafted(writes=3, direction=direction)
    assert crafted(writes=3, direction=direction, count=count) == whole[:count]


def test_without_options_a_thousand_writes() -> None:
    """The default is a whole session, from SYN to FIN, on the day of the patch."""
    frames = crafted()
    assert sum(frame.octets[66:67] == b"\x21" for frame in frames) == 1000
    assert [frame.octets[47] for frame in (frames[0], frames[-1])] == [0x12, 0x11]
    assert START_NS < frames[0].time_ns < START_NS + 10**9


def test_the_start_is_where_it_is_put() -> None:
    """Another start moves every frame by as much, and changes no byte."""
    here = SessionReader(IscsiAcks(writes=3), PLAIN)
    rows = PLAIN.rows(kit.Packet, 64)
    moved = SessionReader(IscsiAcks(writes=3), PLAIN, start_ns=5, device=2)
    moved_rows = PLAIN.rows(kit.Packet, 64)
    count = here.read(rows, 0, 64)
    assert count == moved.read(moved_rows, 0, 64) and here.octets == moved.octets
    assert {rows[at].file_time_ns - moved_rows[at].file_time_ns for at in range(count)} == {START_NS - 5}
    assert moved.interfaces[0].device == 2 and moved.interfaces[0].name == "eth0"


def test_a_rate_is_kept_without_drift() -> None:
    """Write k is sent k / pps after the first, rounded down to a nanosecond, when nothing else holds it up."""
    found = walk(crafted(direction="both", writes=100, pps="3", write_size=512, service="1ms"), 8)
    sent = found.times["SCSICommand"]
    assert [time - sent[0] for time in sent] == [k * 10**9 // 3 for k in range(100)]


def test_a_response_takes_the_round_trip_and_the_service_time() -> None:
    """One write at a time: a quarter more or less than asked, and spread in between."""
    found = walk(crafted(direction="both", writes=200, queue_depth=1, write_size=512, service="1ms", rtt="3ms"), 1)
    took = [
        response - command
        for command, response in zip(found.times["SCSICommand"], found.times["SCSIResponse"], strict=True)
    ]
    wire_ns = 8 * (66 + 48 + 512 + 24)
    assert 3_750_000 + wire_ns <= min(took) < 3_850_000
    assert 4_150_000 < max(took) <= 4_250_000 + wire_ns
    assert len(set(took)) > 100


def test_pings_come_at_their_interval() -> None:
    """Each follows the one before by the interval, and is answered before the next."""
    found = walk(crafted(direction="both", writes=40, pps=20, nop_interval="140ms", service=0), 8)
    pings = found.times["NOPIn"]
    assert len(pings) == found.counts["NOPOut"] == 13
    assert {later - earlier for earlier, later in itertools.pairwise(pings)} == {140_000_000}


def test_what_it_says_of_itself() -> None:
    """The section's comment: the host is the initiator, and its connection to the target is a memalloc socket."""
    options = IscsiAcks(target="fd00::1", port=3261, writes=5)
    reader = SessionReader(options, PLAIN)
    (said,) = crafted_of(reader.section_comments)
    assert (said.host_mac, said.host_addresses) == ("02:00:00:00:00:02", ["fd00::2"])
    assert said.recipe == "iscsi-acks:target=fd00::1,port=3261,writes=5" == recipe_of(options)
    (socket,) = said.sockets
    (term,) = parse_flows(socket.match, "the comment")
    assert socket.memalloc and (term.port, term.family) == (3261, 6)
    assert recipe_of(IscsiAcks()) == "iscsi-acks"


@pytest.mark.parametrize("options", [{}, {"direction": "both", "write_size": "64KiB", "digests": "header"}])
def test_a_quiet_machine_delivers_all_of_it(options: dict[str, Any], tmp_path: Path) -> None:
    """Crafted on the fly and out of a file: nothing is dropped, and all of it is for memalloc sockets."""
    scenario = load_scenario(None, QUIET)
    reader = SessionReader(IscsiAcks(writes=30, **options), PLAIN)
    on_the_fly = summarise(replay(Task(scenario, "crafted"), PLAIN, reader))
    frames = crafted(writes=30, **options)
    received = sum(frame.direction == DIR_INBOUND for frame in frames)
    assert (on_the_fly["dropped"], on_the_fly["received"]) == (0, received)
    assert on_the_fly["memalloc"]["delivered"] == on_the_fly["memalloc"]["received"] > 30
    from_file = kit.played(pcap_of(frames, tmp_path / "session.pcap"), settings=QUIET).summary
    assert from_file["delivered"] == on_the_fly["delivered"] and from_file["memalloc"] == on_the_fly["memalloc"]


REFUSED: list[tuple[str, Any]] = [
    ("initiator", "10.0.0"),
    ("target", "fd00::1"),
    ("target", "10.0.0.2"),
    ("target", "224.0.0.1"),
    ("target", "fe80::1%eth0"),
    ("initiator_mac", "01:00:5e:00:00:01"),
    ("target_mac", "02:00"),
    ("port", 0),
    ("from_port", 65536),
    ("writes", 0),
    ("writes", "many"),
    ("write_size", 0),
    ("write_size", 1000),
    ("write_size", "32MiB"),
    ("write_size", "4 potatoes"),
    ("queue_depth", 0),
    ("queue_depth", 1025),
    ("direction", "to-target"),
    ("first_burst", "512KiB"),
    ("max_burst", 513),
    ("max_recv", "512KiB"),
    ("mss", 535),
    ("mss", 16_071),
    ("lun", 16_384),
    ("digests", "md5"),
    ("service", "200"),
    ("rtt", "2h"),
    ("pps", 0),
    ("pps", "-1"),
    ("nop_interval", "1ns"),
    ("seed", -1),
    ("count", 0),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(key: str, value: object) -> None:
    """The line names the key, what was expected and what was found."""
    options: dict[str, Any] = {"initiator": "10.0.0.2"} | {key: value}
    with pytest.raises(UsageError) as refusal:
        check(IscsiAcks(**options))
    said = str(refusal.value)
    assert said.startswith(f"iscsi-acks: {key}: expected ") and str(value) in said and "\n" not in said


def test_scapy_is_loaded_only_to_craft() -> None:
    """Options and their checks, which every command line has, do without."""
    code = (
        "import sys, emu.traffic.iscsi.session as s, emu.traffic.iscsi.options as o; o.check(o.IscsiAcks());"
        " print(any(name.split('.')[0] == 'scapy' for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
