"""The texts of the options: what they mean, and what each refusal says."""

from typing import Any

import pytest

from emu.errors import UsageError
from emu.traffic.rewrite.spec import MacMap, NetMap, PortMap, Rewrite, parse_rewrite

NS = 1_000_000_000


@pytest.mark.parametrize(
    ("options", "meaning"),
    [
        ({}, {}),
        ({"loop": 1, "map_ip": [], "loop_distinct": None}, {}),
        ({"map_mac": ["02:00:00:00:00:0A=0a-0b-0c-0d-0e-0f"]}, {"macs": (MacMap(0x02000000000A, 0x0A0B0C0D0E0F),)}),
        ({"map_ip": ["10.0.0.1=10.0.0.9"]}, {"nets": (NetMap(4, 32, 0x0A000001, 0x0A000009),)}),
        (
            {"map_ip": ["10.0.0.0/8=11.0.0.0/8", "fd00::/64=fd01::/64", "10.1.0.0/16=12.1.0.0/16"]},
            {
                "nets": (
                    NetMap(6, 64, 0xFD00 << 112, 0xFD01 << 112),
                    NetMap(4, 16, 0x0A010000, 0x0C010000),
                    NetMap(4, 8, 0x0A000000, 0x0B000000),
                )
            },
        ),
        (
            {"map_port": ["80=8080", "tcp:1-9=101-109", "udp:1=2"]},
            {"ports": (PortMap(0, 80, 80, 8080), PortMap(6, 1, 9, 101), PortMap(17, 1, 1, 2))},
        ),
        ({"shift_time": "-1.5"}, {"shift_ns": -1_500_000_000}),
        ({"shift_time": "+0.000000001s"}, {"shift_ns": 1}),
        ({"shift_time": "2h"}, {"shift_ns": 7200 * NS}),
        ({"rebase_time": "2005-08-12"}, {"rebase_ns": 1_123_804_800 * NS}),
        ({"rebase_time": "2005-08-12T02:00:00.5+02:00"}, {"rebase_ns": 1_123_804_800 * NS + NS // 2}),
        ({"rebase_time": "1123804800.25"}, {"rebase_ns": 1_123_804_800 * NS + NS // 4}),
        ({"truncate": 96, "fix_checksums": True}, {"truncate": 96, "fix_checksums": True}),
        (
            {"loop": 3, "loop_gap": "20ms", "loop_distinct": "ports"},
            {"loop": 3, "loop_gap_ns": 20_000_000, "loop_distinct": "ports"},
        ),
    ],
)
def test_a_text_means(options: dict[str, Any], meaning: dict[str, Any]) -> None:
    assert parse_rewrite(**options) == Rewrite(**meaning)


NET = "NET=NET, such as 10.0.0.0/24=192.168.7.0/24 or fd00::1=fd00::9"
TWICE = "expected maps apart from each other"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"map_mac": ["1=2"]}, "--map-mac 1=2: expected MAC=MAC, such as"),
        ({"map_mac": ["02:00:00:00:00:01=02:00:00:00:00"]}, "expected MAC=MAC"),
        ({"map_ip": ["10.0.0.1"]}, f"--map-ip 10.0.0.1: expected {NET}"),
        ({"map_ip": ["fe80::1%eth0=fe80::2"]}, f"--map-ip fe80::1%eth0=fe80::2: expected {NET}"),
        ({"map_ip": ["10.0.0.1=x"]}, "--map-ip 10.0.0.1=x: x is no IPv4 or IPv6 address or network"),
        ({"map_ip": ["10.0.0.1/24=10.1.0.0/24"]}, "10.0.0.1/24 has host bits; expected the network 10.0.0.0/24"),
        ({"map_ip": ["10.0.0.1=fd00::1"]}, "IPv4 on the left, IPv6 on the right; expected one"),
        ({"map_ip": ["10.0.0.0/24=10.1.0.0/16"]}, "/24 on the left, /16 on the right; expected one"),
        ({"map_ip": ["10.0.0.1=10.0.0.2", "10.0.0.1=10.0.0.3"]}, f"same source as --map-ip 10.0.0.1=10.0.0.2; {TWICE}"),
        ({"map_ip": ["10.0.0.0/24=10.9.0.0/24", "10.1.0.5=10.9.0.5"]}, "same target as --map-ip 10.0.0.0/24"),
        ({"map_port": ["tcp:80"]}, "--map-port tcp:80: expected [tcp:|udp:]PORT=PORT or ranges"),
        ({"map_port": ["80=65536"]}, "--map-port 80=65536: expected [tcp:|udp:]PORT=PORT"),
        ({"map_port": ["sctp:1=2"]}, "--map-port sctp:1=2: expected"),
        ({"map_port": ["1-5=1-4"]}, "--map-port 1-5=1-4: expected two ranges of equal length that count up"),
        ({"map_port": ["5-1=9-5"]}, "two ranges of equal length that count up"),
        ({"map_port": ["1-5=11-15", "tcp:5=99"]}, f"--map-port tcp:5=99: same source as --map-port 1-5=11-15; {TWICE}"),
        ({"map_port": ["1=11", "2=11"]}, "same target as --map-port 1=11"),
        ({"shift_time": "soon"}, "--shift-time soon: expected a time such as +1.5s or -20ms"),
        ({"shift_time": "0.5ns"}, "--shift-time 0.5ns: expected whole nanoseconds, and less than 146 years"),
        ({"shift_time": "999999d"}, "less than 146 years"),
        ({"shift_time": "1s", "rebase_time": "1"}, "--shift-time and --rebase-time exclude each other"),
        ({"rebase_time": "now"}, "--rebase-time now: expected a time such as 2005-08-12T00:00:00Z, or seconds"),
        ({"rebase_time": "2005-02-30"}, "--rebase-time 2005-02-30: "),
        ({"rebase_time": "1969-12-31"}, "--rebase-time 1969-12-31: expected a time from 1970 to 2116"),
        ({"truncate": 0}, "--truncate 0: expected a number of bytes from 1 up"),
        ({"loop": 0}, "--loop 0: expected a number of rounds from 1 to 1000000000"),
        ({"loop_gap": "1s"}, "--loop-gap 1s: there is no loop; expected --loop N with N from 2 up beside it"),
        ({"loop": 2, "loop_gap": "-1s"}, "--loop-gap -1s: expected a time such as 1.5s or 20ms"),
        ({"loop_distinct": "seq"}, "--loop-distinct seq: there is no loop"),
        ({"loop": 2, "loop_distinct": "x"}, "--loop-distinct x: expected one of none, addresses, ports, seq"),
        ({"loop": 70_000, "loop_distinct": "addresses"}, "--loop-distinct addresses can tell 65535 rounds apart"),
    ],
)
def test_a_refusal_says_what_and_where(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_rewrite(**options)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_ports_of_two_protocols_do_not_clash_and_a_freed_address_may_be_taken() -> None:
    parse_rewrite(map_port=["tcp:80=8080", "udp:80=8080"])
    parse_rewrite(map_ip=["10.0.0.0/24=10.9.0.0/24", "10.1.0.5=10.9.0.5", "10.0.0.5=10.7.0.1"])
    parse_rewrite(map_ip=["10.0.0.0/8=20.0.0.0/8", "10.1.0.0/16=20.1.0.0/16"])
