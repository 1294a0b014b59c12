"""Several captures, or interfaces of one, each on its device, and the host known by another MAC on each."""

import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from traffic_kit import kit

from emu.capture.merge import open_captures
from emu.engine.plain import PlainEngine
from emu.play import Replay
from emu.scenario import DeviceTable, PressureTable, ReadersTable, Scenario
from emu.task import Outputs, Task

A0, A1, PEER = "02:00:00:00:00:a0", "02:00:00:00:00:a1", "02:00:00:00:00:0b"


def to(mac: str, peer: str = PEER) -> bytes:
    """A segment to one of the host's devices."""
    return kit.ether(peer, mac, kit.IP(src=kit.PEER, dst=kit.HOST) / kit.TCP(sport=1000, dport=80) / kit.Raw(bytes(9)))


def sent(mac: str) -> bytes:
    """A segment that one of the host's devices sends."""
    return kit.ether(mac, PEER, kit.IP(src=kit.HOST, dst=kit.PEER) / kit.TCP(sport=80, dport=1000))


def pcapng(frames: list[tuple[bytes, int, int]], names: list[str]) -> bytes:
    """A capture of several interfaces: (octets, interface, microseconds)."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for name in names:
        padded = name.encode() + bytes(-len(name) % 4)
        parts.append(block(1, struct.pack("<HHIHH", 1, 0, 0, 2, len(name)) + padded + bytes(4)))
    for octets, iface, time in frames:
        head = struct.pack("<IIIII", iface, 0, time, len(octets), len(octets))
        parts.append(block(6, head + octets))
    return b"".join(parts)


class Played:
    """A replay of captures on a machine of two devices."""

    def __init__(self, captures: list[tuple[Path, int]], folder: Path, batch: int = 4096, **task: Any) -> None:
        engine = PlainEngine()
        scenario = Scenario(
            device=[DeviceTable(name="eth0"), DeviceTable(name="eth1", mtu=9000)],
            pressure=PressureTable(start="quiet"),
            readers=ReadersTable(ordinary="immediate"),
        )
        outputs = Outputs(str(folder / "out.pcapng"), "all", str(folder / "log.csv"))
        with closing(open_captures([(str(path), device) for path, device in captures], engine)) as reader:
            self.replay = Replay(Task(scenario, "test", outputs=outputs, batch=batch, **task), engine, reader, [])
            self.outcome = self.replay.run()
        self.rows = kit.rows_of(folder / "log.csv")

    @property
    def arrivals(self) -> list[tuple[str, str]]:
        """Frame by frame: the device, and what became of it; the log leaves out what is not received."""
        return [(row["frame"], row["device"]) for row in self.rows if row["verdict"] == "delivered"]


def test_two_captures_arrive_on_two_devices(tmp_path: Path) -> None:
    """In the order of their times; each device has the host's MAC of its own capture."""
    one, two = tmp_path / "one.pcap", tmp_path / "two.pcap"
    one.write_bytes(kit.pcap(kit.paced([to(A0), sent(A0), to(A0)], 1_000)))
    two.write_bytes(kit.pcap(kit.paced([to(A1), sent(A1), to(A1)], 1_000, kit.NS + 500)))
    done = Played([(one, 0), (two, 1)], tmp_path)
    assert done.arrivals == [("1", "eth0"), ("2", "eth1"), ("5", "eth0"), ("6", "eth1")]
    assert int(done.outcome.machine.total.not_received) == 2
    assert [host.mac & 0xFF for host in done.replay.hosts.values()] == [0xA0, 0xA1]
    names = kit.run("tshark", "-r", tmp_path / "out.pcapng", "-T", "fields", "-e", "frame.interface_name").split()
    assert names == ["eth0", "eth1"] * 3


@pytest.mark.parametrize("batch", [1, 3, 4096])
def test_interfaces_of_one_capture_arrive_on_the_devices_of_their_names(tmp_path: Path, batch: int) -> None:
    """The annotated output keeps the devices apart, and is played again with the same result."""
    frames = [
        (to(A0), 0, 0),
        (to(A1), 2, 1_000),
        (to(A0, "02:00:00:00:00:0c"), 1, 2_000),
        (sent(A1), 2, 3_000),
        (to(A1, "02:00:00:00:00:0d"), 3, 4_000),
        (to(A0, "02:00:00:00:00:0e"), 3, 5_000),
    ]
    first = tmp_path / "first.pcapng"
    first.write_bytes(pcapng(frames, ["eth0", "eth0-drop", "eth1", "wlan0"]))
    done = Played([(first, -1)], tmp_path, batch)
    # What no device has the name of is the first's, where frame 5 is somebody else's.
    assert done.arrivals == [("1", "eth0"), ("2", "eth1"), ("3", "eth0"), ("6", "eth0")]
    again = tmp_path / "again"
    again.mkdir()
    assert Played([(tmp_path / "out.pcapng", -1)], again, batch).arrivals == done.arrivals


@pytest.mark.parametrize("batch", [1, 700, 4096])
def test_a_device_that_comes_late_is_told_its_host_by_its_first_unicast_frame(tmp_path: Path, batch: int) -> None:
    """Whatever the batch: what comes after the first 1024 frames is not waited for."""
    one, two = tmp_path / "one.pcap", tmp_path / "two.pcap"
    one.write_bytes(kit.pcap(kit.paced([to(A0)] * 1100, 1_000)))
    late = [kit.ether(PEER, kit.BROADCAST, kit.IP(src=kit.PEER, dst="255.255.255.255") / kit.UDP()), to(A1), sent(A1)]
    two.write_bytes(kit.pcap(kit.paced(late * 3, 1_000, kit.NS + 1_099 * 1_000)))
    done = Played([(one, 0), (two, 1)], tmp_path, batch)
    assert [int(frame) - 1100 for frame, device in done.arrivals if device == "eth1"] == [2, 5, 8]
    assert done.replay.hosts[1].mac & 0xFF == 0xA1


def test_host_is_asked_for_where_it_is_met(tmp_path: Path) -> None:
    """--host need not be met on every device: the others decide for themselves."""
    one, two = tmp_path / "one.pcap", tmp_path / "two.pcap"
    one.write_bytes(kit.pcap(kit.paced([to(A0), sent(A0), sent(A0)])))
    two.write_bytes(kit.pcap(kit.paced([to(A1).replace(bytes([10, 0, 0, 2]), bytes([10, 0, 1, 2]))])))
    done = Played([(one, 0), (two, 1)], tmp_path, host=kit.HOST)
    assert [(host.mac & 0xFF, host.because) for host in done.replay.hosts.values()] == [
        (0xA0, f"--host {kit.HOST}"),
        (0xA1, "its MAC is in most unicast frames"),
    ]


def test_each_device_has_its_mtu(tmp_path: Path) -> None:
    """A frame that is an aggregate on one device is a jumbo frame on another."""
    long = kit.ether(PEER, A0, kit.IP(src=kit.PEER, dst=kit.HOST) / kit.TCP() / kit.Raw(bytes(4000)))
    for device, segments in ((0, 3), (1, 1)):
        path = tmp_path / f"{device}.pcap"
        path.write_bytes(kit.pcap(kit.paced([long])))
        done = Played([(path, device)], tmp_path)
        assert int(done.outcome.machine.dev[device].rx_packets) == segments
