"""`emu live` on an interface that exists: what goes through it, what it tells, what it leaves."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emu.cli.live_options import LiveCommand
from emu.errors import UsageError
from emu.live import packet_ring, ring
from emu.live.lab import privileges
from emu.live.lab.lab import Lab, open_in_namespace
from emu.live.lab.namespaces import make_namespace, remove_namespace
from emu.live.packet_ring import PacketPort, open_packet
from emu.live.session import live
from emu.live.state import LiveState

pytestmark = pytest.mark.live

LONGEST = 1518
PACKET_AUXDATA = 8
ETH_P_ALL = 3
HOST, PEER = "10.93.0.2", "10.93.0.1"
QUIET = ("readers.ordinary=immediate", "pressure.start=quiet", "policy.name=linux-2.6.12")


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, check=True, text=True).stdout


def promiscuity(namespace: str, name: str) -> str:
    words = ip("-d", "-n", namespace, "link", "show", name).split()
    return words[words.index("promiscuity") + 1]


class Ground:
    """Three namespaces: a peer at a plain veth's end (offloads as they are), its other end, and the host's."""

    def __init__(self) -> None:
        # Not of a lab: a process has one at a time, and `live` makes its own.
        self.peer, self.middle, self.host = self.names = [f"packet-{os.getpid()}-{name}" for name in "pmh"]
        for each in self.names:
            make_namespace(each)
        ip("-n", self.middle, "link", "add", "eth1", "type", "veth", "peer", "name", "peer0", "netns", self.peer)
        for namespace, name in ((self.middle, "eth1"), (self.peer, "peer0")):
            ip("-n", namespace, "link", "set", name, "up")
        ip("-n", self.peer, "addr", "add", f"{PEER}/24", "dev", "peer0")

    def raw(self, namespace: str, name: str) -> socket.socket:
        made = open_in_namespace(namespace, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ETH_P_ALL))
        made.bind((name, ETH_P_ALL))
        made.settimeout(3)
        return made

    def start(self, folder: Path, *more: str) -> "subprocess.Popen[str]":
        options = ["--host-if", "emuh0", "--host-namespace", self.host, "--host-address", f"{HOST}/24"]
        options += ["--wire-if", "eth1", "--wire-namespace", self.middle, "--for", "30s", "--json"]
        for text in QUIET:
            options += ["--set", text]
        argv = [sys.executable, "-m", "emu", "live", *options, "--engine", "plain", *more]
        with (folder / "out.json").open("w") as out:
            made = subprocess.Popen(argv, stdout=out, stderr=subprocess.PIPE, text=True)
        assert made.stderr is not None
        said = ""
        while "at most" not in said:
            line = made.stderr.readline()
            assert line, said
            said += line
        assert "eth1 (it exists: read by a packet socket) to emuh0 (a TAP)" in said
        return made


@pytest.fixture
def ground3(machine: Path) -> Iterator[Ground]:
    made = Ground()
    yield made
    for each in made.names:
        remove_namespace(each)


@pytest.fixture
def port(ground3: Ground) -> Iterator[PacketPort]:
    made = open_packet("eth1", ground3.middle, LONGEST)
    yield made
    made.close()


def end(process: "subprocess.Popen[str]", folder: Path) -> tuple[dict[str, object], str]:
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(10) == 0, said
    found: dict[str, object] = json.loads((folder / "out.json").read_text())["live"]
    return found, said


def send_all(ground3: Ground, sender: str, receiver: str, address: str, size: int) -> bytes:
    """What `receiver` gets of a TCP stream of random bytes that `sender` serves."""
    octets = os.urandom(size)
    with open_in_namespace(sender, socket.socket) as server:
        server.bind((address, 5000))
        server.listen()
        server.settimeout(8)

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.sendall(octets)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        got = bytearray()
        with open_in_namespace(receiver, socket.socket) as client:
            client.settimeout(8)
            client.connect((address, 5000))
            while part := client.recv(1 << 16):
                got += part
        thread.join(8)
    assert bytes(got) == octets
    return octets


def test_ping_and_tcp_pass_whatever_the_peer_offloads(ground3: Ground, tmp_path: Path) -> None:
    """A veth's peer hands over aggregated frames without checksums; the host gets neither."""
    process = ground3.start(tmp_path)
    try:
        ping = ["ip", "netns", "exec", ground3.peer, "ping", "-c", "3", "-i", "0.05", "-W", "2", HOST]
        assert subprocess.run(ping, capture_output=True, check=False).returncode == 0
        with ground3.raw(ground3.host, "emuh0") as seen:
            send_all(ground3, ground3.peer, ground3.host, PEER, 100_000)
            lengths = []
            seen.settimeout(0.2)
            try:
                while True:
                    frame, (_name, _protocol, kind, *_rest) = seen.recvfrom(1 << 17)
                    if kind != socket.PACKET_OUTGOING:
                        lengths.append(len(frame))
            except TimeoutError:
                pass
        assert max(lengths) == 1514
        send_all(ground3, ground3.host, ground3.peer, HOST, 100_000)
        assert promiscuity(ground3.middle, "eth1") == "1"
    finally:
        found, said = end(process, tmp_path)
    assert int(str(found["aggregated"])) > 0 < int(str(found["checksums_finished"]))
    assert "came aggregated" in said and "ethtool -K eth1 gro off lro off" in said
    assert set(dict(found["lost_outside"]).values()) == {0}  # type: ignore[call-overload]
    assert promiscuity(ground3.middle, "eth1") == "0"


def test_a_vlan_tag_survives_and_nothing_stays_after_a_kill(ground3: Ground, tmp_path: Path) -> None:
    process = ground3.start(tmp_path)
    try:
        with ground3.raw(ground3.peer, "peer0") as sender, ground3.raw(ground3.host, "emuh0") as receiver:
            tagged = bytes.fromhex("ffffffffffff 020000009301 8100 6005 0806") + bytes(range(46))
            receiver.setsockopt(packet_ring.SOL_PACKET, PACKET_AUXDATA, 1)
            sender.send(tagged)
            frame = b""
            while frame[6:12] != tagged[6:12]:
                frame, beside, _flags, _sender = receiver.recvmsg(2048, 64)
            # The kernel takes the tag off for this socket, too, and tells it beside the frame.
            assert frame == tagged[:12] + tagged[16:]
            status, _len, _snaplen, _mac, _net, tci, tpid = struct.unpack("=IIIHHHH", beside[0][2])
            assert (status & ring.VLAN_VALID, tci, tpid) == (ring.VLAN_VALID, 0x6005, 0x8100)
    finally:
        process.kill()
        process.wait(5)
        assert process.stderr is not None
        process.stderr.close()
    assert promiscuity(ground3.middle, "eth1") == "0"
    assert "eth1" in ip("-n", ground3.middle, "link", "show", "up")
    assert "emuh0" not in ip("-n", ground3.host, "link")


def test_what_we_send_does_not_come_back_and_losses_are_counted(ground3: Ground, port: PacketPort) -> None:
    frame = bytes.fromhex("ffffffffffff 020000009302 88b5") + bytes(50)
    for _ in range(5):
        assert os.write(port.fd, frame) == len(frame)
    with ground3.raw(ground3.peer, "peer0") as peer:
        more = port.slots + 100
        peer.setsockopt(socket.SOL_SOCKET, packet_ring.SO_SNDBUFFORCE, 64 << 20)
        for _ in range(more):
            peer.send(frame)
        deadline = time.monotonic() + 3
        while port.lost_frames() < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert 100 <= port.lost_frames() <= 110  # what the kernels of both ends say to each other comes, too
    assert port.lost_frames() == port.lost_frames()  # a look resets the kernel's counter, not ours


def test_an_interface_that_goes_down_or_away_is_said(ground3: Ground, port: PacketPort) -> None:
    assert port.gone() == ""
    ip("-n", ground3.middle, "link", "set", "eth1", "down")
    assert port.gone() == "interface eth1 is down"
    with pytest.raises(UsageError, match=r"eth1 is down.*ip link set eth1 up"):
        open_packet("eth1", ground3.middle, LONGEST)
    ip("-n", ground3.middle, "link", "set", "eth1", "up")
    ip("-n", ground3.middle, "link", "delete", "eth1")
    assert port.gone() == "interface eth1 has gone"


def test_an_interface_that_was_down_between_two_looks_is_said_and_the_next_wait_sleeps(
    ground3: Ground, port: PacketPort
) -> None:
    for state in ("down", "up"):
        ip("-n", ground3.middle, "link", "set", "eth1", state)
    waits = select.poll()
    waits.register(port.ring["fd"], select.POLLERR)
    assert waits.poll(0), "what the kernel has noted wakes whoever waits"
    assert port.gone() == "interface eth1 has been down"
    assert not waits.poll(0)


def options_for(ground3: Ground, **more: str) -> LiveCommand:
    usual = {"host_if": "emuh0", "wire_if": "eth1", "wire_namespace": ground3.middle, "host_namespace": ground3.host}
    return LiveCommand(**(usual | {"duration": "10s", "engine": "plain"} | more), settings=QUIET)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"wire_address": "10.93.0.9/24"}, "--wire-address 10.93.0.9/24: interface eth1 exists"),
        ({"host_mac": "02:00:00:00:00:07"}, "is a TAP, whose own MAC"),
        ({"wire_if": "lo"}, "interface lo: expected an Ethernet"),
        ({"host_if": "eth1", "wire_if": "emuw0", "host_namespace": "middle"}, "--host-mac 02:"),
    ],
)
def test_what_an_existing_interface_cannot_be_is_said_in_a_line(
    ground3: Ground, more: dict[str, str], said: str
) -> None:
    more = {key: ground3.middle if value == "middle" else value for key, value in more.items()}
    with pytest.raises(UsageError, match=said) as error:
        live(options_for(ground3, **more), lambda _said: None, lambda _state: None)
    assert "\n" not in str(error.value)


def test_real_readers_behind_an_existing_interface_are_refused(ground3: Ground) -> None:
    asked = options_for(ground3, host_if="eth1", host_namespace=ground3.middle, wire_if="emuw0")
    with pytest.raises(UsageError, match=r"cannot be seen from here; --set readers\.ordinary=immediate"):
        live(replace(asked, settings=[]), lambda _said: None, lambda _state: None)


def test_both_interfaces_may_exist(ground3: Ground) -> None:
    """A host behind a veth of its own: the peer pings it through two rings."""
    middle = ground3.middle
    ip("-n", middle, "link", "add", "eth2", "type", "veth", "peer", "name", "host0", "netns", ground3.host)
    ip("-n", middle, "link", "set", "eth2", "up")
    ip("-n", ground3.host, "link", "set", "host0", "address", "02:00:00:00:93:05", "up")
    ip("-n", ground3.host, "addr", "add", f"{HOST}/24", "dev", "host0")
    ping = ["ip", "netns", "exec", ground3.peer, "ping", "-c", "3", "-i", "0.05", "-W", "2", HOST]
    done: list[int] = []

    def started(_state: LiveState) -> None:
        threading.Thread(
            target=lambda: done.append(subprocess.run(ping, capture_output=True, check=False).returncode)
        ).start()

    asked = options_for(ground3, host_if="eth2", host_namespace=middle, host_mac="02:00:00:00:93:05", duration="1500ms")
    ended = live(asked, lambda _said: None, started)
    assert done == [0]
    assert ended.live["sent_by_host"] >= 3 <= ended.live["survivors"]
    assert promiscuity(middle, "eth1") == promiscuity(middle, "eth2") == "0"


def test_the_run_ends_when_the_interface_goes_and_warns_of_what_answers_beside(ground3: Ground) -> None:
    ip("-n", ground3.middle, "addr", "add", "10.93.0.7/24", "dev", "eth1")
    said: list[str] = []

    def started(_state: LiveState) -> None:
        ip("-n", ground3.middle, "link", "delete", "eth1")

    ended = live(options_for(ground3, host_namespace=ground3.middle), said.append, started)
    assert ended.run.summary["incomplete"] == "interface eth1 has gone"
    assert any("interface eth1 has 10.93.0.7" in sentence for sentence in said)
    assert any("in one namespace" in sentence and "arp_ignore=1" in sentence for sentence in said)


def test_an_interface_of_another_run_is_not_taken(lab: Lab) -> None:
    name = lab.namespace("other")
    lab.tap("emuh0", namespace=name)
    with pytest.raises(UsageError, match=f"interface emuh0 is of another live run, process {os.getpid()}"):
        open_packet("emuh0", name, LONGEST)


def test_only_the_capabilities_that_a_run_needs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "effective_capabilities", lambda: 1 << privileges.CAP_NET_ADMIN)
    privileges.needs_privileges(namespaces=False)
    with pytest.raises(UsageError, match="CAP_SYS_ADMIN"):
        privileges.needs_privileges()
    with pytest.raises(UsageError, match="CAP_NET_RAW"):
        privileges.needs_capabilities(privileges.CAP_NET_RAW)
