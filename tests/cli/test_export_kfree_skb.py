"""`emu export --format kfree_skb`: lines as ftrace prints them, of every skb that was thrown away."""

import re
from collections import Counter
from pathlib import Path

import pytest
from emu_process import emu, emu_here, refused
from export_kit import Made, make

from emu.verdicts.export.freed import WHY_NIC, WHY_RECYCLED
from emu.verdicts.export.kfree_skb import line_of, lines_of, protocol_of

# Linux 6.19 include/trace/events/skb.h, and what kernel/trace/trace_output.c prints before an event.
PRINTK = "skbaddr=%p rx_sk=%p protocol=%u location=%pS reason: %s"
CONVERSIONS = {
    "%pS": r"(?P<location>[a-z_0-9]+\+0x[0-9a-f]+|0x[0-9a-f]+)",
    "%p": r"([0-9a-f]{16})",
    "%u": r"(?P<protocol>\d+)",
    "%s": r"(?P<reason>[A-Z_0-9]+)",
}
CONTEXT = (
    r"^ *(?P<comm>\S.*)-(?P<pid>\d+) +\[(?P<cpu>\d{3})\] (?P<flags>[a-zA-Z0-9.#]{5}) +(?P<time>\d+\.\d{6}): kfree_skb: "
)
NO_POLICY = ".jsonl does not name the policy; a .parquet log does"
LINE = re.compile(CONTEXT + re.sub("%pS|%p|%u|%s", lambda found: CONVERSIONS[found[0]], PRINTK) + "$")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run."""
    return make(tmp_path_factory.mktemp("run"))


def test_lines_are_the_kernels_and_say_what_the_log_says(made: Made) -> None:
    done = emu_here("export", made.log, "--format", "kfree_skb")
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == len(made.freed)
    for line, row in zip(lines, made.freed, strict=True):
        found = LINE.match(line)
        assert found, line
        assert found["reason"] == row["reason"]
        assert found["location"] == f"{row['point']}+0x0"
        assert int(found["protocol"]) == 0x0800
        assert f"skbaddr={row['frame']:016x} " in line
        seconds, us = divmod((row["decided_ns"] + 500) // 1000, 1_000_000)
        assert found["time"] == f"{seconds}.{us:06}"
        assert ("rx_sk=0000000000000000" in line) == (row["socket"] == "")
    in_nic = len(made.dropped) - len(made.freed)
    said = [f"{len(lines)} lines exported", NO_POLICY, f"left out: {in_nic} packets that {WHY_NIC}"]
    assert done.err.splitlines() == [f"emu: {sentence}" for sentence in said]


def test_a_capture_gives_the_lines_of_its_log(made: Made, tmp_path: Path) -> None:
    target = tmp_path / "lines.txt"
    done = emu_here("export", made.capture, "--format", "kfree_skb", "-w", target)
    assert done.code == 0 and "events that came later" in done.err
    assert target.read_text() == emu_here("export", made.log, "--format", "kfree_skb").out
    piped = emu("export", "-", "--format", "kfree_skb", stdin=made.capture.read_bytes())
    assert (piped.code, piped.out) == (0, target.read_text())


def test_context_is_as_wide_as_ftraces() -> None:
    line = line_of(7, 647_428_165_499, 2048, "", "NO_SOCKET", "tcp_v4_rcv")
    assert line == (
        "          <idle>-0       [000] ..s1.   647.428165: kfree_skb: skbaddr=0000000000000007 "
        "rx_sk=0000000000000000 protocol=2048 location=tcp_v4_rcv+0x0 reason: NO_SOCKET"
    )
    assert "   647.428166: " in line_of(7, 647_428_165_500, 2048, "", "NO_SOCKET", "tcp_v4_rcv")


def test_what_frees_no_skb_has_no_line() -> None:
    counts: Counter[str] = Counter()
    rows = [
        (1, 5, 0, "udp", "udp a:1 > b:2", "", "dropped", "RX_MISSED", "nic"),
        (2, 5, 0, "udp", "", None, "dropped", "RX_MISSED", None),
        (3, 5, 0, "udp", "", "", "dropped", "NOMEM", "cp_rx_poll"),
        (4, 5, 0, "udp", "", "", "dropped", "NOMEM", "tg3_rx"),
        (5, 5, 0, "malformed", "", "", "event", "", "raw_rcv"),
        (6, 5, 0, "malformed", "", "", "event", "FRAG_REASM_TIMEOUT", "ip_expire"),
        (7, None, None, None, None, None, "dropped", "PFMEMALLOC", None),
    ]
    lines = lines_of(rows, counts)
    assert [line.split("skbaddr=")[1].split()[0] for line in lines] == [f"{number:016x}" for number in (6, 7)]
    assert "protocol=2048 location=ip_expire+0x0" in lines[0] and "location=0x0 " in lines[1]
    assert counts == {WHY_NIC: 2, WHY_RECYCLED: 2, "lines": 2}


@pytest.mark.parametrize(
    ("kind", "flow", "vlan", "point", "protocol"),
    [
        ("tcp", "tcp 10.0.0.1:80 > 10.0.0.2:81", 0, "tcp_v4_rcv", 2048),
        ("tcp", "tcp [fd00::1]:80 > [fd00::2]:81", 0, "tcp_v4_rcv", 34525),
        ("icmpv6", "icmpv6 fe80::1 > ff02::1", 0, "icmpv6_rcv", 34525),
        ("ip-other", "ip-proto-47 10.0.0.1 > 10.0.0.2", 0, "ip_local_deliver_finish", 2048),
        ("ip-other", "ip-proto-58 fe80::1 > ::", 0, "ip6_input_finish", 34525),
        ("arp", "arp 10.0.0.1 > 10.0.0.2", 0, "arp_rcv", 2054),
        ("ethertype-other", "ethertype 0x88cc", 0, "netif_receive_skb", 0x88CC),
        ("tcp", "tcp 10.0.0.1:80 > 10.0.0.2:81", 7, "vlan_skb_recv", 0x8100),
        ("malformed", "", 0, "ip_rcv", 2048),
        ("malformed", "", 0, "ipv6_rcv", 34525),
        ("malformed", "", 0, "inet_sock_destruct", 0),
    ],
)
def test_the_protocol_is_read_off_the_row(kind: str, flow: str, vlan: int, point: str, protocol: int) -> None:
    assert protocol_of(kind, flow, vlan, point) == protocol


def test_nothing_dropped_is_nothing_to_export(made: Made, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    kept = [line for line in made.log.read_text().splitlines() if '"verdict":"delivered"' in line]
    log.write_text("\n".join(kept) + "\n")
    said = refused("export", log, "--format", "kfree_skb", "-w", tmp_path / "x.txt", code=4)
    assert said.endswith("nothing to export: no skb was dropped")
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]
