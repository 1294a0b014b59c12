"""What is read of the real machine: from texts of the kernel and of ss, of this process, and in a namespace."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emu.live.lab.lab import Lab, open_in_namespace
from emu.live.state import LiveState, Program
from emu.live.status.iscsi_sockets import ask_ss, connections_in, worst_first
from emu.live.status.look_inside import look_inside, namespace_file
from emu.live.status.net_counters import COUNTERS, counters_in, interface_in
from emu.live.status.real_host import NIC, RealHost, RealHostReader

# As ss 6.1 printed them: a sender whose peer is gone, and the other end, which knows nothing of it.
TOLD = """\
ESTAB 0      4000   10.99.0.1:47910 10.99.0.2:3260 timer:(on,184ms,2) ts sack bbr wscale:10,10 rto:816 backoff:2 \
rtt:0.057/0.032 mss:1448 cwnd:1 bytes_sent:6996 segs_out:8 lastsnd:1272 unacked:1 retrans:1/5 lost:1 notsent:2552
ESTAB 0      0      10.99.0.2:3260 10.99.0.1:47910 ts sack bbr wscale:10,10 rto:204.5 rtt:0.02/0.01 cwnd:10
SYN-SENT 0 1 [fd00::1]:40000 [fd00::2]:3260
"""
DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:     532       8    0    0    0     0          0         0      532    8    0    0    0     0       0          0
 emu0:12345678     9    1    2    3     4          5         6      700      80    9    10    11     12      13      14
"""


def test_what_ss_tells_of_a_sender_that_waits_is_read() -> None:
    waits, other, begins = connections_in(TOLD, "x")
    assert (waits.local, waits.peer, waits.state) == ("10.99.0.1:47910", "10.99.0.2:3260", "ESTAB")
    assert (waits.rto_ms, waits.backoff, waits.cwnd, waits.unacked, waits.lost) == (816.0, 2, 1, 1, 1)
    assert (waits.retransmitted, waits.to_send_bytes, waits.namespace) == (5, 4000, "x")
    assert (other.rto_ms, other.backoff, other.lost) == (204.5, 0, 0)
    assert (begins.state, begins.local, begins.rto_ms) == ("SYN-SENT", "[fd00::1]:40000", 0.0)
    assert worst_first([begins, other, waits]) == [waits, other, begins]


def test_an_interface_is_read_by_its_name() -> None:
    found = interface_in(DEV, "emu0", "x")
    assert found is not None
    assert (found.bytes_in, found.packets_in, found.drops_in) == (12345678, 9, 2)
    assert (found.bytes_out, found.packets_out, found.drops_out) == (700, 80, 10)
    assert interface_in(DEV, "emu", "x") is None


def test_counters_have_the_names_of_nstat_and_a_missing_one_is_left_out() -> None:
    snmp = "Tcp: RtoMin RetransSegs\nTcp: 200 12\nUdp: RcvbufErrors\nUdp: 7\n"
    netstat = "TcpExt: TCPTimeouts TW\nTcpExt: 3 4\nIpExt: InOctets\nIpExt: 5\n"
    assert counters_in(snmp, netstat) == {"TcpRetransSegs": 12, "TcpExtTCPTimeouts": 3, "UdpRcvbufErrors": 7}


@pytest.mark.skipif(shutil.which("nstat") is None, reason="nstat is not installed")
def test_nstat_finds_the_counters_by_the_same_names() -> None:
    told = subprocess.run(["nstat", "-az", *COUNTERS], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0] for line in told.splitlines() if not line.startswith("#")}
    assert set(RealHostReader().look(LiveState(pid=os.getpid())).counters) == names & set(COUNTERS)


def test_this_process_is_read_with_percentages_from_the_second_look_on() -> None:
    reader, state = RealHostReader(), LiveState(pid=os.getpid(), host_if="lo")
    first = reader.look(state)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    second = reader.look(state)
    assert first.processes[0].cpu_percent is None
    assert not first.system.cpu_percent
    process = second.processes[0]
    assert (process.name, process.pid, process.lives) == (NIC, os.getpid(), True)
    assert process.cpu_percent is not None
    assert process.cpu_percent > 0
    assert process.rss_bytes is not None
    assert process.rss_bytes > 1 << 20
    assert process.descriptors is not None
    assert process.descriptors > 2
    assert len(second.system.cpu_percent) == os.cpu_count()
    assert all(0 <= percent <= 100 for percent in second.system.cpu_percent)
    assert 0 < second.system.available_bytes <= second.system.memory_bytes


def test_a_program_that_has_ended_and_one_that_cannot_be_are_told_as_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    programs = [Program(name="tgtd", pid=process.pid), Program(name="no", pid=-5)]
    found = RealHostReader().look(LiveState(pid=os.getpid()), programs).processes
    assert [(one.name, one.lives) for one in found] == [(NIC, True), ("tgtd", False), ("no", False)]


def test_a_program_that_ends_between_two_looks_is_told_as_ended() -> None:
    reader = RealHostReader()
    with subprocess.Popen(["sleep", "60"]) as process:
        state = LiveState(pid=os.getpid(), programs=[Program(name="flood", pid=process.pid)])
        before = reader.look(state).processes[1].lives
        process.kill()  # nobody has waited for it: it is a zombie
        until = time.monotonic() + 10
        while reader.look(state).processes[1].lives:
            assert time.monotonic() < until
    assert before


def test_what_cannot_be_seen_is_said_and_nothing_is_raised() -> None:
    state = LiveState(pid=os.getpid(), host_if="no-such-if", host_namespace="", wire_if="x", wire_namespace="no-such")
    found = RealHostReader().look(state)
    assert [line for line in found.not_seen if not line.startswith("connections: ss is not installed")] == [
        "namespace no-such: is gone",
        "interface no-such-if: is not in the run's own namespace",
    ]
    assert found.counters


def test_a_machine_without_ss_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = RealHostReader().look(LiveState(pid=os.getpid()))
    assert found.not_seen == ["connections: ss is not installed (package iproute2)"]


def test_ss_that_is_slow_or_fails_does_not_stop_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ss = tmp_path / "ss"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for script, said in (("echo no >&2; exit 3", "ss ended with 3: no"), ("exec sleep 5", "has not answered")):
        ss.write_text(f"#!/bin/sh\n{script}\n")
        ss.chmod(0o755)
        with pytest.raises(OSError, match=said):
            ask_ss()


def test_a_look_that_fails_raises_where_it_was_asked_for() -> None:
    with pytest.raises(ZeroDivisionError):
        look_inside(namespace_file("", os.getpid()), lambda: 1 // 0)


@pytest.mark.live
def test_a_sender_whose_peer_is_gone_is_seen_to_back_off_in_its_namespace(lab: Lab) -> None:
    host, target = lab.namespace("host"), lab.namespace("target")
    lab.veth("statush", "statust", namespaces=(host, target), addresses=("10.99.0.2/24", "10.99.0.1/24"))
    home = Path("/proc/thread-self/ns/net").stat().st_ino
    listener = open_in_namespace(target, lambda: socket.create_server(("10.99.0.1", 3260)))
    sender = open_in_namespace(host, lambda: socket.create_connection(("10.99.0.1", 3260), 5))
    state = LiveState(pid=os.getpid(), host_if="statush", host_namespace=host, wire_if="statust", wire_namespace=target)
    reader = RealHostReader()
    with listener, sender:
        answered, _ = listener.accept()
        with answered:
            sender.sendall(b"x" * 1000)
            answered.recv(1000)
            calm = seen(reader, state, lambda real: len(real.connections) == 2)
            lab.spawn(["ip", "link", "set", "statust", "down"], name="cut", namespace=target).wait(10)
            sender.sendall(b"y" * 1000)
            cut = seen(reader, state, lambda real: any(one.backoff for one in real.connections))
    assert Path("/proc/thread-self/ns/net").stat().st_ino == home
    assert not calm.not_seen
    assert [one.backoff for one in calm.connections] == [0, 0]
    assert [interface.name for interface in calm.interfaces] == ["statush", "statust"]
    assert calm.interfaces[0].bytes_out > 1000
    worst = worst_first(cut.connections)[0]
    assert (worst.namespace, worst.peer, worst.unacked) == (host, "10.99.0.1:3260", 1)
    assert worst.rto_ms >= 2 * max(one.rto_ms for one in calm.connections if one.local == worst.local)
    # Not TcpRetransSegs: a segment that the interface itself refuses is not counted as sent again.
    assert cut.counters["TcpExtTCPTimeouts"] > calm.counters["TcpExtTCPTimeouts"]


@pytest.mark.live
def test_a_namespace_without_a_name_is_seen_as_that_of_its_process(lab: Lab) -> None:
    there = lab.namespace("there")
    lab.veth("statusa", "statusb", namespaces=(there, there))
    sleeper = lab.spawn(["sleep", "60"], name="sleeper", namespace=there)
    found = seen(RealHostReader(), LiveState(pid=sleeper.pid, host_if="statusa"), lambda real: bool(real.interfaces))
    assert [interface.name for interface in found.interfaces] == ["statusa"]
    assert not found.not_seen


@pytest.mark.live
def test_who_may_not_enter_a_namespace_is_told_what_to_do(lab: Lab) -> None:
    there = lab.namespace("closed")
    program = (
        "import os; from emu.live.status.real_host import RealHostReader; from emu.live.state import LiveState\n"
        f"print(RealHostReader().look(LiveState(pid=os.getpid(), host_namespace={there!r})).not_seen)"
    )
    without = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    done = subprocess.run([*without, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == f"['namespace {there}: only root may look into it (sudo emu live status)']\n", done.stderr


def seen(reader: RealHostReader, state: LiveState, wanted: Callable[[RealHost], bool]) -> RealHost:
    """What is seen of a run once it is as wanted; a machine that is busy takes its time."""
    until = time.monotonic() + 10
    while not wanted(real := reader.look(state)):
        assert time.monotonic() < until, real
        time.sleep(0.05)
    return real
