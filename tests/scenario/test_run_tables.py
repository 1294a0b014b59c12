"""The tables of a run of the closed loop: what the machine and the world get of them, and what is refused."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import UsageError
from emu.kernel.machine import NEVER_NS
from emu.kernel.sock import READERS
from emu.scenario import LOOP_TABLES, Scenario
from emu.scenario_file import ScenarioError, load_scenario, show_scenario
from emu.scenario_parts import bit_rate_of, byte_rate_of, size_bytes_of, time_ns_of
from emu.traffic.crafted import START_NS
from emu.verdicts.expect import expectation_text, judge, parse_expectation, texts_for
from emu.world_of import closed_loop, host_window_scale, world_setup

RUN = """
[run]
for = "2s"
seed = 7

[vm]
clean = "8MiB"
anonymous = "40MiB"
dirty_ratio = 5

[[device]]
name = "eth0"

[[device]]
name = "eth1"
mtu = 9000

[[writer]]
rate = "20MB/s"
start = "1s"

[[writer]]
stop = "1.5s"

[[session]]
queue_depth = 8
write_size = "64KiB"
memalloc = false

[[session]]
device = "eth1"
target = "10.0.1.1"
immediate_data = false

[[download]]
reader = "rate"
rate = 50
rcvbuf = 30000
start = "100ms"

[[wire]]
device = "eth1"
latency = "1ms"
rate = "100Mbit/s"

[[blackout]]
start = "500ms"
for = "250ms"
direction = "to-host"
"""


def loaded(text: str, folder: Path, **how: Any) -> Scenario:
    file = folder / "run.toml"
    file.write_text(text)
    return load_scenario(str(file), **how)


def problems(text: str, folder: Path) -> dict[str, str]:
    with pytest.raises(ScenarioError) as caught:
        loaded(text, folder)
    return {problem.key: problem.sentence for problem in caught.value.problems}


def test_a_run_in_numbers(tmp_path: Path) -> None:
    """Worked out by hand: addresses, ports, times from the start of play, sizes in bytes and pages."""
    scenario = loaded(RUN, tmp_path)
    loop = closed_loop(scenario)
    assert loop.vm["boot_clean_pages"] == 2048
    assert loop.vm["boot_anonymous_pages"] == 10_240
    assert (loop.vm["dirty_ratio"], loop.vm["dirty_writeback_ns"]) == (5, 5 * 10**9)
    first, second = loop.writers
    assert (first["bytes_per_s"], first["start_ns"], first["stop_ns"]) == (20_000_000, START_NS + 10**9, NEVER_NS)
    assert (second["bytes_per_s"], second["stop_ns"]) == (0, START_NS + 1_500_000_000)
    assert loop.sessions[0]["write_bytes"] == 65_536
    assert loop.sessions[0]["immediate_bytes"] == 8192, "max_recv is the smallest of the three"
    assert loop.sessions[1]["immediate_bytes"] == 0
    assert [conn["dev"] for conn in loop.conns] == [0, 1, 0]
    assert [conn["mss"] for conn in loop.conns] == [1448, 8948, 1448]
    assert [conn["dport"] for conn in loop.conns] == [3260, 3260, 19]
    assert [conn["daddr"] for conn in loop.conns] == [0x0A000001, 0x0A000101, 0x0A000003]
    assert len({conn["sport"] for conn in loop.conns}) == 3
    assert [conn["connect_due_ns"] for conn in loop.conns] == [NEVER_NS, NEVER_NS, START_NS + 100_000_000]


def test_which_connections_are_memalloc_and_how_downloads_are_read(tmp_path: Path) -> None:
    """Rules on sockets, the download's by its own port, so that two downloads of one server may differ."""
    marked = closed_loop(loaded(RUN, tmp_path)).sock_rules
    assert [(rule["remote_addr"], rule["remote_port"], rule["memalloc"]) for rule in marked] == [
        (0x0A000001, 3260, 0),
        (0x0A000101, 3260, 1),
        (0x0A000003, 19, 0),
    ]
    assert [READERS[rule["reader"]] for rule in marked] == ["immediate", "immediate", "rate"], "initiators read at once"
    assert (marked[2]["read_rate"], marked[2]["rcvbuf"]) == (50, 30_000)
    assert marked[2]["local_port"] == closed_loop(loaded(RUN, tmp_path)).conns[2]["sport"]


def test_the_world_in_numbers(tmp_path: Path) -> None:
    """A device without a wire of its own has the default one; a blackout takes the directions that it says."""
    setup = world_setup(loaded(RUN, tmp_path))
    assert [tuple(wire) for wire in setup.wires] == [(50_000, 10**9), (1_000_000, 10**8)]
    (blackout,) = setup.blackouts
    assert (blackout.start_ns, blackout.end_ns) == (START_NS + 500_000_000, START_NS + 750_000_000)
    assert (blackout.to_host, blackout.from_host) == (True, False)
    assert [target.service_ns for target in setup.targets] == [200_000, 200_000]
    assert [server.bytes for server in setup.servers] == [0]
    assert setup.seed == 7


def test_a_connection_over_a_vlan_is_tagged_on_the_nic_below(tmp_path: Path) -> None:
    upper = "[[upper]]\nname = 'eth1.7'\nkind = 'vlan'\nlower = ['eth1']\nvlan_id = 7\n"
    nics = "[[device]]\n[[device]]\nname = 'eth1'\nmtu = 9000\n"
    scenario = loaded(f"{nics}{upper}[[session]]\ndevice = 'eth1.7'\n[[download]]\n", tmp_path)
    tagged, plain = world_setup(scenario).targets[0].peer, world_setup(scenario).servers[0].peer
    assert (tagged.dev, tagged.vlan, tagged.mss) == (1, 7, 8948)
    assert (plain.dev, plain.vlan) == (0, 0)
    bond = "[[upper]]\nname = 'bond0'\nkind = 'bond'\nlower = ['eth1']\n"
    found = problems(f"{nics}{bond}[[session]]\ndevice = 'bond0'\n", tmp_path)
    assert "'bond0' is not one of" in found["session.0.device"]


def test_windows_are_scaled_as_the_largest_buffer_needs(tmp_path: Path) -> None:
    """2.6.12 tcp_select_initial_window: 174760 is halved twice to fit 16 bits, 65535 not at all."""
    assert host_window_scale(loaded(RUN, tmp_path)) == 2
    assert host_window_scale(loaded(RUN + "[tcp]\nrmem = [4096, 30000, 65535]\n", tmp_path)) == 0


def test_a_session_makes_a_run_and_a_run_begins_quiet(tmp_path: Path) -> None:
    """[[session]] alone is enough; [pressure] start may say otherwise; a replay has none of it."""
    scenario = loaded("[[session]]\n", tmp_path)
    assert scenario.is_run
    assert scenario.pressure.start == "quiet"
    assert loaded("[[session]]\n[pressure]\nstart = 'crunch'\n", tmp_path).pressure.start == "crunch"
    replay = loaded("why = 'x'\n", tmp_path)
    assert (replay.is_run, replay.pressure.start) == (False, "crunch")
    assert not set(LOOP_TABLES) & {line.strip("[]").split(" ")[0] for line in show_scenario(replay).splitlines()}


def test_a_run_that_is_shown_is_the_same_run(tmp_path: Path) -> None:
    """`show` prints every default, and what it prints has the same digest."""
    scenario = loaded(RUN, tmp_path)
    again = loaded(show_scenario(scenario), tmp_path)
    assert again == scenario
    assert again.digest() == scenario.digest() != loaded(RUN, tmp_path, settings={"run.seed": 8}).digest()


def test_the_digest_of_a_replay_does_not_know_of_runs() -> None:
    """Recordings and reports of replays keep their scenario's checksum."""
    scenario = load_scenario(None)
    tables = {key: value for key, value in msgspec.to_builtins(scenario).items() if key not in LOOP_TABLES}
    import hashlib

    assert scenario.digest() == hashlib.sha256(msgspec.json.encode(tables)).hexdigest()


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("[vm]\n", "vm", "needs [run] or [[session]]"),
        ("[[writer]]\n", "writer", "needs [run] or [[session]]"),
        ("[run]\n[[writer]]\n", "writer.0", "needs a [[session]]"),
        ("[run]\nfor = '0s'\n", "run.for", "expected 1 to"),
        ("[run]\nfor = 'soon'\n", "run.for", "expected a time"),
        ("[run]\nsample = '1ns'\n", "run.sample", "expected 1000"),
        ("[run]\nflood = ['nonsense']\n", "run.flood.0", "nonsense"),
        ("[run]\n[replay]\nflood = ['udp']\n", "replay.flood", "a run has run.flood"),
        ("[run]\n[replay]\nmemalloc = 'none'\n", "replay.memalloc", "session.*.memalloc"),
        ("[run]\n[ip]\nlocal_addrs = ['10.9.9.9']\n", "ip.local_addrs", "10.0.0.2 is missing"),
        ("[run]\n[vm]\ndirty_expire = '2min'\n", "vm.dirty_expire", "expected 1 to 60000000000"),
        ("[run]\n[vm]\nclean = '1GiB'\n", "vm", "the machine has 134217728"),
        ("[run]\n[vm]\nclean = 'much'\n", "vm.clean", "expected a size"),
        ("[run]\n[vm]\ndirty_ratio = 101\n", "vm.dirty_ratio", "from 0 to 100"),
        ("[[session]]\n[[writer]]\nrate = '0MB/s'\n", "writer.0.rate", "more than nothing"),
        ("[[session]]\n[[writer]]\nstart = '2s'\nstop = '2s'\n", "writer.0.stop", "not after its start"),
        ("[[session]]\nwrite_size = '6000B'\n", "session.0.write_size", "not a multiple of 4096"),
        ("[[session]]\nmax_recv = '1MiB'\n", "session.0.max_recv", "expected 512 to 262144"),
        ("[[session]]\nfirst_burst = '1MiB'\n", "session.0.first_burst", "more than max_burst"),
        ("[[session]]\ndevice = 'eth7'\n", "session.0.device", "'eth7' is not one of eth0"),
        ("[[session]]\ntarget = 'fd00::1'\n", "session.0.target", "IPv4 address of one host"),
        ("[[session]]\ntarget = '224.0.0.1'\n", "session.0.target", "IPv4 address of one host"),
        ("[[session]]\ntarget = '10.0.0.2'\n", "session.0.target", "the emulated host's own"),
        ("[[session]]\nqueue_depth = 0\n", "session.0.queue_depth", "from 1 to 128"),
        ("[[session]]\niscsid = 'asleep'\n", "session.0.iscsid", "needs-memory"),
        ("[run]\n[[download]]\nrate = 3\n", "download.0.rate", "needs reader = 'rate'"),
        ("[run]\n[[wire]]\nrate = '1Gb'\n", "wire.0.rate", "'1Gbit/s'"),
        ("[run]\n[[wire]]\n[[wire]]\ndevice = 'eth0'\n", "wire.1.device", "has a wire already"),
        ("[run]\n[[blackout]]\nstart = '1s'\n", "blackout.0", "'for' is missing"),
        ("[run]\n[[blackout]]\nstart = '1s'\nfor = '0s'\n", "blackout.0.for", "expected 1 to"),
        ("[run]\n[expect.linux]\noutcome = 'x'\n", "expect.linux", "'linux' is not one of *"),
        ("[expect]\nmainline = 3\n", "expect.mainline", "expected a table of values"),
        ("expect = 3\n", "expect", "an array of texts or a table of values"),
    ],
)
def test_what_cannot_be_is_refused_at_its_key(text: str, key: str, said: str, tmp_path: Path) -> None:
    found = problems(text, tmp_path)
    assert list(found) == [key]
    assert said in found[key]


def test_a_peer_is_on_one_device(tmp_path: Path) -> None:
    text = "[[device]]\n[[device]]\nname = 'eth1'\n[[session]]\n[[session]]\ndevice = 'eth1'\n"
    assert "10.0.0.1 is on eth0 already" in problems(text, tmp_path)["session.1.target"]


def test_expectations_of_each_policy(tmp_path: Path) -> None:
    """A policy has those of `*` and its own; others do not apply."""
    text = """
[run]
[expect."*"]
"memalloc.dropped" = 0
[expect.mainline]
outcome = "progress"
lockup = "null"
"block_io.longest_stall_ms" = ">= 1000"
"""
    expected = loaded(text, tmp_path).expect
    assert texts_for(expected, "linux-2.6.12") == ["memalloc.dropped == 0"]
    assert texts_for(expected, "mainline") == [
        "memalloc.dropped == 0",
        "outcome == 'progress'",
        "lockup == null",
        "block_io.longest_stall_ms >= 1000",
    ]
    assert texts_for(["frames == 1"], "mainline") == ["frames == 1"]


SUMMARY = {"outcome": "LOCKUP", "lockup": None, "lost": 3, "got": 3, "share": 0.5, "logged_in": True}


@pytest.mark.parametrize(
    ("path", "value", "holds"),
    [
        ("outcome", "LOCKUP", True),
        ("outcome", "progress", False),
        ("outcome", "!= LOCKUP", False),
        ("outcome", "== 'LOCKUP'", True),
        ("lockup", "null", True),
        ("lockup", "!= null", False),
        ("lost", 3, True),
        ("lost", "<= got", True),
        ("lost", "> 3", False),
        ("share", 0.5, True),
        ("logged_in", True, True),
        ("logged_in", False, False),
    ],
)
def test_a_value_of_a_table_is_an_expectation(path: str, value: Any, holds: bool) -> None:
    assert judge(parse_expectation(expectation_text(path, value)), SUMMARY).holds is holds


@pytest.mark.parametrize(
    ("parse", "text", "number"),
    [
        (time_ns_of, "1.5 s", 1_500_000_000),
        (time_ns_of, 17, 17),
        (size_bytes_of, "4KiB", 4096),
        (size_bytes_of, "1.5MiB", 1_572_864),
        (size_bytes_of, "3 kB", 3000),
        (byte_rate_of, "unlimited", 0),
        (byte_rate_of, "20MB/s", 20_000_000),
        (bit_rate_of, "2.5Gbit/s", 2_500_000_000),
    ],
)
def test_numbers_with_units(parse: Any, text: str | int, number: int) -> None:
    assert parse(text) == number


@given(st.text(max_size=12))
def test_a_text_is_a_number_with_a_unit_or_is_refused(text: str) -> None:
    """No other error than ValueError, and never a negative number."""
    for parse in (time_ns_of, size_bytes_of, byte_rate_of, bit_rate_of):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "expected" in str(error)


def test_a_replay_refuses_a_run(tmp_path: Path) -> None:
    from emu.cli.options import ReplayCommand
    from emu.request import scenario_of

    (tmp_path / "run.toml").write_text("[run]\n")
    with pytest.raises(UsageError, match="is played by: emu run"):
        scenario_of(ReplayCommand(scenario=tmp_path / "run.toml"), [])
