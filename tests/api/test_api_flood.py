"""`emu.flood`: crafted traffic as an object."""

import gc
import signal
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from api_kit import LOGIN, NOP, command, printed, without_run
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_kit import tool
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import RawPcapReader

import emu
from emu.capture.write import CaptureWriter
from emu.traffic.flood.kinds import KINDS

WORDS = ("--count", "60", "--seed", "5")
TO_HOST = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2")


def frames_in(path: Path) -> list[bytes]:
    """The frames of a file, as Scapy reads it."""
    with RawPcapReader(str(path)) as reader:
        return [octets for octets, _ in reader]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "iscsi-acks"])
def test_a_flood_is_the_command(kind: str, tmp_path: Path) -> None:
    """Of every kind: the same file, the same report; its frames and packets are the file's."""
    crafted = emu.flood(kind, count=60, seed=5)
    mine, theirs = tmp_path / "mine.pcapng", tmp_path / "theirs.pcapng"
    report = crafted.write(mine)
    said = printed("flood", kind, *WORDS, "-w", theirs)
    assert mine.read_bytes() == theirs.read_bytes()
    assert report == crafted.report
    assert report | {"written": str(theirs)} == {key: value for key, value in said.items() if key != "emu_flood"}
    frames = list(crafted.frames())
    assert 60 <= len(frames) == report["frames"] <= 62  # a datagram's fragments are completed
    assert [octets for _, octets in frames] == frames_in(mine)
    assert [bytes(packet) for packet in crafted.packets(20)] == [octets for _, octets in frames[:20]]
    assert [int(packet.time * 10**9) for packet in crafted.packets(None)] == [time_ns for time_ns, _ in frames]
    rows = crafted.to_polars()
    assert rows["time_ns"].to_list() == [time_ns for time_ns, _ in frames]
    assert rows["length"].to_list() == [len(octets) for _, octets in frames]


@pytest.mark.parametrize(
    ("keywords", "recipe"),
    [
        ({"ports": range(9000, 9016)}, "udp:ports=9000-9015"),
        ({"ports": 16}, "udp:ports=16"),
        ({"size": range(64, 101)}, "udp:size=64..100"),
        ({"size": [64, 1400]}, "udp:size=64+1400"),
        ({"size": {64: 7, 1514: 1}}, "udp:size=64:7+1514:1"),
        ({"pps": 200_000}, "udp:pps=200000"),
        ({"pps": 1e6}, "udp:pps=1000000"),
        ({"mbps": Decimal("0.5")}, "udp:mbps=0.5"),
        ({"from_": "10.0.0.9", "for_": "1s"}, "udp:for=1s,from=10.0.0.9"),
        ({"poisson": True, "seed": None}, "udp:poisson=true"),
    ],
)
def test_options_in_pythons_types(keywords: dict[str, Any], recipe: str) -> None:
    """They become the words of the command line; repr() is a line."""
    assert emu.flood("udp", **keywords).recipe == recipe
    assert repr(emu.flood("udp", **keywords)) == f"<Flood {recipe!r}>"


@pytest.mark.parametrize(
    ("kind", "keywords", "error", "message"),
    [
        ("upd", {}, emu.UsageError, r"flood\(\): no kind of flood 'upd'; did you mean 'udp'\?"),
        ("udp", {"prots": 3}, emu.UsageError, r"flood\('udp'\): prots: .*ports"),
        ("udp", {"size": 30}, emu.UsageError, r"flood\('udp'\): size 30: udp over IPv4 needs 42"),
        ("udp", {"pps": 0}, emu.UsageError, r"flood\('udp'\): pps 0: expected a rate above 0"),
        ("udp", {"ports": range(1, 9, 2)}, emu.UsageError, "ports .*: expected a range that counts up by one"),
        ("udp", {"ports": range(0)}, emu.UsageError, "expected a range that counts up by one"),
        ("udp", {"count": 0}, emu.UsageError, "count"),
        ("udp", {"payload": b"x"}, TypeError, "payload=b'x': expected a text, a path or a number"),
        ("udp", {"template": 3}, TypeError, "int: is no capture"),
        ("udp", {"template": [Raw(b"x")]}, emu.UsageError, "no link layer"),
    ],
)
def test_what_cannot_be_asked_for(kind: str, keywords: dict[str, Any], error: type[Exception], message: str) -> None:
    """One line, which names the option as it was written."""
    with pytest.raises(error, match=message) as caught:
        emu.flood(kind, **keywords)
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """pcap by its name, pcapng otherwise; what cannot be written is a UsageError; nothing is printed."""
    crafted = emu.flood("udp", count=20)
    crafted.write(str(tmp_path / "a.pcap"))
    assert frames_in(tmp_path / "a.pcap") == [octets for _, octets in crafted.frames()]
    for path, message in (
        ("-", "name a file"),
        ("/nowhere/x.pcapng", "/nowhere/x"),
        (tmp_path / "x.pcap.gz", "compress"),
    ):
        with pytest.raises(emu.UsageError, match=message):
            crafted.write(path)
    with pytest.raises(emu.UsageError, match="--engine fast"):
        crafted.write(tmp_path / "b.pcap", engine="fast")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pcap"]


def test_a_flood_without_an_end() -> None:
    """It has 10 000 frames, or as many as are asked for."""
    crafted = emu.flood("udp")
    assert crafted.report["frames"] == 10_000
    assert len(list(crafted.frames(3))) == len(crafted.packets(3)) == crafted.to_polars(3).height == 3
    assert len(list(crafted.frames(0))) == 0
    assert crafted.packets(1)[0] == next(iter(emu.flood("udp", count=1).packets()))


def test_headers_as_polars() -> None:
    """What Scapy reads in the same frames."""
    crafted = emu.flood("mixed-imix", count=200, seed=3)
    for row, packet in zip(crafted.to_polars().iter_rows(named=True), crafted.packets(None), strict=True):
        layer = packet.getlayer(UDP) or packet.getlayer(TCP)
        assert (row["source"], row["destination"]) == (packet[IP].src, packet[IP].dst)
        assert (row["sport"], row["dport"]) == ((layer.sport, layer.dport) if layer else (None, None))
        assert row["class"] == ("icmp" if layer is None else layer.name.lower())
        assert row["direction"] == "in"
    assert emu.flood("vlan", id=7, count=3).to_polars()["vlan"].to_list() == [7, 7, 7]
    six = emu.flood("ipv6-udp", count=1).to_polars().row(0, named=True)
    assert (six["source"], six["destination"]) == ("fd00::1", "fd00::2")


# --- played -----------------------------------------------------------------------------------------------------------


def test_a_flood_is_played_like_its_file(tmp_path: Path) -> None:
    """Made on the fly: the same verdicts, and nothing on disk between."""
    crafted = emu.flood("udp", ports=8, size=range(64, 1500), poisson=True, count=400, seed=9)
    crafted.write(tmp_path / "f.pcapng")
    result = emu.replay(crafted)
    assert result.verdicts().equals(emu.replay(tmp_path / "f.pcapng").verdicts())
    assert result.summary["floods"][0]["recipe"] == crafted.recipe
    assert without_run(result.summary) == without_run(emu.replay(flood=crafted.recipe).summary)


def test_a_flood_beside_a_capture() -> None:
    """As capture, as `flood`, or as a text: what the command does with --flood."""
    crafted = emu.flood("udp", pps=5)
    expected = without_run(printed("replay", NOP, "--flood", "udp:pps=5"))
    assert expected["received"] > 60
    for result in (emu.replay(NOP, crafted), emu.replay(NOP, flood=[crafted]), emu.replay(NOP, flood="udp:pps=5")):
        assert without_run(result.summary) == expected
    compared = emu.compare(NOP, flood=crafted, policies=["mainline", "phillips-v5"])
    assert without_run(compared["phillips-v5"].summary) == expected


def test_a_flood_on_a_device() -> None:
    """`device` says where it arrives; a device may have nothing else only if the scenario knows it."""
    two: Any = [{"name": "eth0"}, {"name": "eth1"}]
    result = emu.replay(device={"eth0": LOGIN, "eth1": emu.flood("arp", count=50)}, scenario={"device": two})
    devices = result.summary["devices"]
    assert devices["eth1"]["rx_packets"] + devices["eth1"]["rx_missed"] == 50
    again = emu.replay(device={"eth0": LOGIN}, flood="arp:count=50,device=eth1", scenario={"device": two})
    assert without_run(again.summary) == without_run(result.summary)


def test_a_crafted_session_is_a_flood_too(tmp_path: Path) -> None:
    """iscsi-acks: the command's bytes; on a replay its socket is known as block I/O's."""
    session = emu.flood("iscsi-acks", writes=40)
    session.write(tmp_path / "mine.pcapng")
    assert command("flood", "iscsi-acks", "--writes", "40", "-w", tmp_path / "theirs.pcapng")[0] == 0
    assert frames_in(tmp_path / "mine.pcapng") == frames_in(tmp_path / "theirs.pcapng")
    assert set(session.to_polars()["sport"]) == {3260}
    result = emu.replay(session)
    assert result.memalloc.received == result.received == session.report["frames"] > 40


# --- templates --------------------------------------------------------------------------------------------------------


def test_templates_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet, several, a function, a file: the same frames; a temporary file goes with its flood."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    packets = [TO_HOST / UDP(sport=5353, dport=port) / Raw(bytes(40)) for port in (53, 54)]
    file = tmp_path / "t.py"
    file.write_text(
        "from scapy.layers.inet import IP, UDP\n"
        "from scapy.layers.l2 import Ether\n"
        "from scapy.packet import Raw\n"
        "head = Ether(src='02:00:00:00:00:01', dst='02:00:00:00:00:02') / IP(src='10.0.0.1', dst='10.0.0.2')\n"
        "template = [head / UDP(sport=5353, dport=port) / Raw(bytes(40)) for port in (53, 54)]\n"
    )
    given_as: list[Any] = [packets, tuple(packets), lambda: packets, file, str(file)]
    floods = [emu.flood("udp", template=template, count=6) for template in given_as]
    frames = [list(each.frames()) for each in floods]
    assert all(each == frames[0] for each in frames)
    assert [Ether(octets)[UDP].dport for _, octets in frames[0]] == [53, 54] * 3
    assert list(emu.flood("udp", template=packets[0], count=1).frames()) == frames[0][:1]
    assert emu.replay(floods[0]).received == 6
    del floods
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["t.py"]


# --- shown, and interrupted -------------------------------------------------------------------------------------------


def test_a_flood_shows_itself() -> None:
    """Its recipe, what it is, its first frames; in HTML all of it escaped."""
    crafted = emu.flood("udp", count=10, payload="hex:3c623e")
    assert "UDP datagrams" in str(crafted)
    assert str(crafted).count(" > ") == 5
    html = crafted._repr_html_()
    assert html.startswith("<pre")
    assert " &gt; 10.0.0.2:9000" in html


def test_an_interruption_closes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a KeyboardInterrupt; the file is complete in itself, and the report says how far it came."""
    write = CaptureWriter.write

    def interrupted(self: CaptureWriter, *words: Any) -> None:
        write(self, *words)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(CaptureWriter, "write", interrupted)
    crafted = emu.flood("udp", count=100_000)
    with pytest.raises(emu.Interrupted) as caught:
        crafted.write(tmp_path / "f.pcapng")
    assert caught.value.result is crafted
    frames = crafted.report["frames"]
    assert 0 < frames < 100_000
    assert crafted.report["incomplete"] == f"interrupted after frame {frames}"
    assert len(frames_in(tmp_path / "f.pcapng")) == frames


@settings(max_examples=12)
@given(
    count=st.integers(1, 60),
    seed=st.integers(0, 2**62 - 1),
    ports=st.integers(1, 20),
    least=st.integers(60, 200),
    more=st.integers(0, 300),
)
def test_whatever_is_asked_for_is_made(count: int, seed: int, ports: int, least: int, more: int) -> None:
    """Frames, packets, rows and the report agree, and it is the same every time."""
    crafted = emu.flood(
        "udp", count=count, seed=seed, ports=range(9000, 9000 + ports), size=range(least, least + more + 1)
    )
    frames = list(crafted.frames())
    assert (
        frames == list(crafted.frames()) == list(emu.flood("udp", **_options(count, seed, ports, least, more)).frames())
    )
    assert crafted.report["frames"] == len(frames) == count
    assert crafted.report["bytes"] == sum(len(octets) for _, octets in frames)
    assert all(least <= len(octets) <= least + more for _, octets in frames)
    rows = crafted.to_polars()
    assert set(rows["dport"]) == set(range(9000, 9000 + min(ports, count)))
    assert rows["length"].sum() == crafted.report["bytes"]


def _options(count: int, seed: int, ports: int, least: int, more: int) -> dict[str, Any]:
    return {"count": count, "seed": str(seed), "ports": f"9000-{8999 + ports}", "size": f"{least}..{least + more}"}


def test_the_list_of_kinds_is_the_commands() -> None:
    """Every kind of `emu flood --list` can be asked for, and capinfos is content with what is written."""
    code, listed = command("flood", "--list")
    assert code == 0
    for kind in KINDS:
        assert kind in listed
        assert emu.flood(kind).kind == kind
    assert tool("capinfos")


def test_a_flood_is_rewritten_as_it_is_written(tmp_path: Path) -> None:
    """The keywords are the command's options; an unknown one is told with the nearest."""
    mine, theirs = tmp_path / "mine.pcapng", tmp_path / "theirs.pcapng"
    crafted = emu.flood("udp", count=30)
    crafted.write(mine, map_ip={"10.0.0.0/24": "192.0.2.0/24"}, loop=2, truncate=60)
    maps = ("--map-ip", "10.0.0.0/24=192.0.2.0/24", "--loop", "2", "--truncate", "60")
    printed("flood", "udp", "--count", "30", *maps, "-w", theirs)
    assert mine.read_bytes() == theirs.read_bytes()
    assert len(frames_in(mine)) == 60
    assert {Ether(octets)[IP].dst for octets in frames_in(mine)} == {"192.0.2.2"}
    with pytest.raises(TypeError, match=r"keyword argument 'map_up'; did you mean 'map_ip'"):
        crafted.write(mine, map_up={"10.0.0.1": "10.0.0.9"})


@pytest.mark.parametrize(("kind", "error"), [(None, TypeError), (3, TypeError), ("a\nb", emu.UsageError)])
def test_what_is_no_kind_is_told_in_one_line(kind: Any, error: type[Exception]) -> None:
    """A text of several lines too."""
    with pytest.raises(error, match="kind") as told:
        emu.flood(kind)
    assert "\n" not in str(told.value)


def test_a_float_is_a_rate_whatever_its_digits() -> None:
    """A third has no end; the rate is taken to a billionth."""
    assert emu.flood("udp", pps=1000 / 3, count=10).report["achieved_pps"] == 333.333
