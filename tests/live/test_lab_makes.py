"""What a lab makes is as it was asked for: namespaces, TAPs, veth pairs, routes, programs."""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emu.errors import UsageError
from emu.live.lab.lab import Lab, Tap, open_in_namespace
from emu.live.lab.namespaces import make_namespace, remove_namespace

pytestmark = pytest.mark.live


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, check=True, text=True).stdout


def here() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def send_datagrams(namespace: str, to: str, count: int, octets: int = 18) -> None:
    sender = open_in_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sender:
        for _ in range(count):
            sender.sendto(bytes(octets), (to, 9))


def frames_waiting(tap: Tap) -> list[bytes]:
    frames = []
    while select.select([tap.fd], [], [], 0.2)[0]:
        frames.append(os.read(tap.fd, 65536))
    return frames


def test_a_namespace_has_a_loopback_that_is_up_and_no_ipv6(lab: Lab) -> None:
    name = lab.namespace("host")
    assert name == f"emu-{os.getpid()}-host"
    assert name in ip("netns", "list").split()
    assert ip("-n", name, "-6", "addr") == ""
    assert "127.0.0.1/8" in ip("-n", name, "addr", "show", "dev", "lo", "up")


def test_what_is_made_in_a_namespace_stays_there_and_the_thread_comes_back(lab: Lab) -> None:
    before = here()
    name = lab.namespace("a")
    with open_in_namespace(name, socket.socket) as made:
        assert here() == before
        with pytest.raises(OSError, match=r"[Uu]nreachable"):  # the outside is not reached from there
            made.connect(("192.0.2.1", 9))
    assert open_in_namespace(name, here) == Path(f"/run/netns/{name}").stat().st_ino != before
    assert open_in_namespace("", here) == before


def test_the_thread_comes_back_from_what_fails(lab: Lab) -> None:
    before = here()
    name = lab.namespace("a")
    with pytest.raises(ZeroDivisionError):
        open_in_namespace(name, lambda: 1 // 0)
    assert here() == before


@pytest.mark.parametrize("name", ["emu-none-of-that", "../../proc/self/ns/net", ".."])
def test_a_namespace_that_is_none_is_said_in_a_line(machine: Path, name: str) -> None:
    with pytest.raises(UsageError, match="namespace") as error:
        open_in_namespace(name, here)
    assert "\n" not in str(error.value)


def test_a_tap_gives_and_takes_whole_frames(lab: Lab) -> None:
    name = lab.namespace("host")
    tap = lab.tap("emuh0", namespace=name, address="10.77.0.2/24", mac="02:00:00:00:77:02")
    assert (tap.name, tap.mac, tap.namespace) == ("emuh0", "02:00:00:00:77:02", name)
    assert f"{tap.index}: emuh0" in ip("-n", name, "link")
    assert "emuh0" not in ip("link")
    assert "qlen 8192" in ip("-n", name, "link")
    with pytest.raises(BlockingIOError):
        os.read(tap.fd, 2048)
    ip("-n", name, "neigh", "add", "10.77.0.1", "lladdr", "02:00:00:00:77:01", "dev", "emuh0")
    send_datagrams(name, "10.77.0.1", 1)
    (frame,) = [frame for frame in frames_waiting(tap) if frame[12:14] == b"\x08\x00" and frame[23] == 17]
    assert frame[:12] == bytes.fromhex("020000007701 020000007702")
    assert len(frame) == 14 + 20 + 8 + 18

    who_has = bytes.fromhex(
        "ffffffffffff 020000007701 0806 0001080006040001 020000007701 0a4d0001 000000000000 0a4d0002"
    )
    os.write(tap.fd, who_has)
    (answer,) = [frame for frame in frames_waiting(tap) if frame[12:14] == b"\x08\x06" and frame[21] == 2]
    assert answer[22:28] == bytes.fromhex("020000007702")


def test_what_the_queue_of_a_tap_could_not_hold_is_counted(lab: Lab) -> None:
    name = lab.namespace("host")
    tap = lab.tap("emuh0", namespace=name, address="10.77.0.2/24", queue_frames=16)
    ip("-n", name, "neigh", "add", "10.77.0.1", "lladdr", "02:00:00:00:77:01", "dev", "emuh0")
    frames_waiting(tap)
    assert tap.lost_frames() == 0
    send_datagrams(name, "10.77.0.1", 100)
    read = len(frames_waiting(tap))
    assert read >= 16
    assert tap.lost_frames() == 100 - read > 0


def test_a_burst_as_long_as_the_queue_is_not_lost(lab: Lab) -> None:
    name = lab.namespace("host")
    tap = lab.tap("emuh0", namespace=name, address="10.77.0.2/24")
    ip("-n", name, "neigh", "add", "10.77.0.1", "lladdr", "02:00:00:00:77:01", "dev", "emuh0")
    sender = open_in_namespace(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sender:
        # Else the sender's own buffer is what ends the burst: frames that wait in the TAP are still charged to it.
        sender.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_SNDBUFFORCE
        for _ in range(8000):
            sender.sendto(bytes(18), ("10.77.0.1", 9))
    assert len(frames_waiting(tap)) >= 8000
    assert tap.lost_frames() == 0


def test_an_interface_that_exists_is_refused_and_stays(lab: Lab) -> None:
    name = lab.namespace("host")
    ip("-n", name, "link", "add", "theirs", "type", "veth", "peer", "name", "theirs2")
    ip("-n", name, "tuntap", "add", "dev", "kept", "mode", "tap")
    for taken in ("theirs", "kept", "lo"):
        with pytest.raises(UsageError, match=f"interface {taken} exists already"):
            lab.tap(taken, namespace=name)
    with pytest.raises(UsageError, match="theirs"):
        lab.veth("theirs", "mine", namespaces=(name, name))
    assert {"theirs@theirs2:", "kept:"} <= set(ip("-n", name, "link").split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"address": "10.77.0.2/33"}, "address '10.77.0.2/33'"),
        ({"mac": "02:00"}, "MAC '02:00'"),
        ({"mac": "01:00:00:00:00:01"}, "interface emuh0"),  # a group's: the kernel refuses
        ({"namespace": "emu-none"}, "namespace emu-none"),
    ],
)
def test_what_a_tap_cannot_have_is_said_and_it_is_gone(lab: Lab, more: dict[str, str], said: str) -> None:
    name = lab.namespace("host")
    before = open_descriptors()
    with pytest.raises(UsageError, match=said) as error:
        lab.tap("emuh0", **{"namespace": name, **more})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert "emuh0" not in ip("-n", name, "link")
    assert open_descriptors() == before


@pytest.mark.parametrize("name", ["", "sixteen-octets-16", "a b", "a/b", "..", "a:b"])
def test_a_name_that_no_interface_can_have_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(UsageError, match="interface"):
        lab.tap(name, namespace=lab.namespace("host"))


def test_a_veth_joins_two_namespaces_with_plain_frames(lab: Lab) -> None:
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.veth("va", "vb", namespaces=(a, b), addresses=("10.78.0.1/24", "10.78.0.2/24"))
    heard = open_in_namespace(b, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with heard:
        heard.bind(("10.78.0.2", 9))
        heard.settimeout(2)
        send_datagrams(a, "10.78.0.2", 1)
        assert heard.recv(100) == bytes(18)
    for name, device in ((a, "va"), (b, "vb")):
        shown = subprocess.run(
            ["nsenter", f"--net=/run/netns/{name}", "ethtool", "-k", device], capture_output=True, check=True, text=True
        ).stdout
        for offload in ("rx-checksumming", "tx-checksumming", "tcp-segmentation-offload", "generic-receive-offload"):
            assert f"\n{offload}: off" in shown


def test_a_route_has_the_congestion_control_that_was_asked_for(lab: Lab) -> None:
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.veth("va", "vb", namespaces=(a, b), addresses=("10.78.0.1/24", "10.78.0.2/24"))
    lab.route_congestion(a, "10.78.0.0/24", "va")
    assert "congctl cubic" in ip("-n", a, "route", "get", "10.78.0.2")
    assert ip("-n", a, "route", "show").count("10.78.0.0/24") == 1
    with pytest.raises(UsageError, match="not of this run"):
        lab.route_congestion("", "10.78.0.0/24", "va")
    with pytest.raises(UsageError, match="no-such"):
        lab.route_congestion(a, "10.78.0.0/24", "va", "no-such")


def test_a_program_runs_in_its_namespace_and_session(lab: Lab) -> None:
    name = lab.namespace("a")
    made = lab.spawn(["sleep", "60"], name="sleeper", namespace=name)
    assert Path(f"/proc/{made.pid}/ns/net").stat().st_ino == Path(f"/run/netns/{name}").stat().st_ino
    assert os.getsid(made.pid) == made.pid != os.getsid(0)


def test_a_program_that_is_not_there_is_said_in_a_line(lab: Lab) -> None:
    with pytest.raises(UsageError, match="emu-no-such-program: there is no such program"):
        lab.spawn(["emu-no-such-program"], name="none")


def test_a_program_is_not_started_in_another_thread(lab: Lab) -> None:
    said: list[BaseException] = []

    def start() -> None:
        try:
            lab.spawn(["sleep", "60"], name="sleeper")
        except RuntimeError as error:
            said.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(said[0])


def test_a_program_is_asked_by_its_signal_then_killed(machine: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    slow = "print(flush=True)\ntime.sleep(60)"
    polite = f"def end(*_): open({str(told)!r}, 'w').close(); exit(0)\nsignal.signal(2, end)"
    deaf = "signal.signal(15, signal.SIG_IGN)"
    polite, deaf = (f"import signal,time\n{said}\n{slow}" for said in (polite, deaf))
    with Lab() as made:
        first = made.spawn([sys.executable, "-c", polite], name="p", stop=signal.SIGINT, stdout=subprocess.PIPE)
        second = made.spawn([sys.executable, "-c", deaf], name="d", stdout=subprocess.PIPE)
        for program in (first, second):
            assert program.stdout
            program.stdout.readline()
            program.stdout.close()
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert told.exists()
    assert (first.returncode, second.returncode) == (0, -signal.SIGKILL)


def test_a_namespace_that_another_made_is_refused_and_stays(machine: Path) -> None:
    name = f"emu-{os.getpid()}-theirs"
    make_namespace(name)
    try:
        with Lab() as made, pytest.raises(UsageError, match="exists already"):
            made.namespace("theirs")
        assert name in ip("netns", "list").split()
    finally:
        remove_namespace(name)


def test_nothing_is_made_outside_of_the_context(machine: Path) -> None:
    with pytest.raises(RuntimeError):
        Lab().namespace("a")
    with Lab() as made, pytest.raises(UsageError, match="of this process"):
        Lab().__enter__()
    assert not made.folder.exists()
