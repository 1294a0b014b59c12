"""What a scenario says of the IP layers reaches the machine, and what it cannot mean is found."""

from typing import Any

import msgspec
import pytest
from machines import PLAIN

from emu.kernel.sock import READER_NEEDS_MEMORY, READER_RATE
from emu.machine_of import machine_of
from emu.scenario import Scenario
from emu.scenario_checks import CHECKS
from emu.scenario_file import load_scenario

SETTINGS: dict[str, Any] = {
    "ip.local_addrs": ["10.0.0.2", "fe80::a", "2001:db8::ffff:ffff:ffff:ffff"],
    "ip.forward": True,
    "ip.ipfrag_high_thresh_bytes": 100_000,
    "ip.ip6frag_time_ns": 5,
    "ip.ipfrag_low_thresh_bytes": 50_000,
    "tap.0.device": "eth0",
    "tap.1.reader": "rate",
    "tap.1.rate": 7,
    "tap.1.rcvbuf": 4096,
    "raw.0.protocol": 132,
    "raw.1.protocol": 58,
    "raw.1.family": 6,
    "socket.0.match": "udp",
    "socket.0.local_port": 5353,
    "socket.0.members": 3,
}


def test_the_keys_reach_the_machine() -> None:
    """Every key of [ip], [[tap]], [[raw]] and [[socket]] members is a field of the record."""
    m = machine_of(PLAIN, load_scenario(None, SETTINGS))
    assert [(m.local_addr[i].family, m.local_addr[i].addr_hi, m.local_addr[i].addr) for i in range(m.local_addrs)] == [
        (4, 0, 0x0A000002),
        (6, -0x0180_0000_0000_0000, 10),
        (6, 0x20010DB8_00000000, -1),
    ]
    assert (m.config.ip_forward, m.config.ipfrag_high_thresh[0], m.config.ipfrag_high_thresh[1]) == (
        1,
        100_000,
        262_144,
    )
    assert (m.config.ipfrag_low_thresh[0], m.config.ipfrag_time_ns[0], m.config.ipfrag_time_ns[1]) == (
        50_000,
        30_000_000_000,
        5,
    )
    assert [(m.tap[i].dev, m.tap[i].reader, m.sk[m.tap[i].sk].rcvbuf) for i in range(m.taps)] == [
        (0, READER_NEEDS_MEMORY, 108_544),
        (-1, READER_RATE, 4096),
    ]
    assert [(m.raw[i].family, m.raw[i].protocol) for i in range(m.raws)] == [(4, 132), (6, 58)]
    assert [m.sock_rule[i].members for i in range(m.sock_rules)] == [0, 3]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"ip.local_addrs": ["10.0.0.300"]}, "ip.local_addrs.0"),
        ({"ip.local_addrs": ["10.0.0.2", "fe80::1%eth0"]}, "ip.local_addrs.1"),  # frames have no zone
        ({"ip.ip6frag_low_thresh_bytes": 300_000}, "ip.ip6frag_low_thresh_bytes"),
        ({"tap.0.device": "eth7"}, "tap.0.device"),
        ({"socket.0.match": "udp", "socket.0.members": 2}, "socket.0.members"),
        ({"socket.0.match": "tcp", "socket.0.local_port": 1, "socket.0.members": 2}, "socket.0.members"),
    ],
)
def test_what_cannot_be_meant_is_named(settings: dict[str, Any], key: str) -> None:
    """A check yields the dotted key and a sentence."""
    tree: dict[str, Any] = {}
    for dotted, value in settings.items():
        at = tree
        *tables, last = [word for word in dotted.split(".") if not word.isdigit()]
        for word in tables:
            at = at.setdefault(word, {})
        at[last] = value
    for table in ("tap", "socket"):
        if table in tree:
            tree[table] = [tree[table]]
    scenario = msgspec.convert(tree, Scenario)
    assert [found for check in CHECKS for found, _ in check(scenario)] == [key]
    assert [found for check in CHECKS for found in check(Scenario())] == []
