"""Devices, upper devices, free blocks and the timeline of a scenario: what the machine gets, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import (
    DRIVER_BOND,
    DRIVER_E1000_PS,
    DRIVER_VLAN,
    PLAN_DOWN,
    PLAN_MIN_FREE_KBYTES,
    PLAN_MTU,
    ZONE_NORMAL,
)
from emu.machine_of import machine_of
from emu.scenario_checks import CHECKS
from emu.scenario_file import load_scenario
from emu.scenario_parts import time_ns_of

UPPERS = """
[[device]]
name = "eth0"
driver = "e1000-ps"
napi = false
promisc = true
mtu = 9000
ring = 96

[[upper]]
name = "bond0"
kind = "bond"
lower = ["eth0"]

[[upper]]
name = "bond0.7"
kind = "vlan"
lower = ["bond0"]
vlan_id = 7
vlan_protocol = "802.1ad"

[[at]]
time = "1.5s"
action = "mtu"
device = "eth0"
value = 1500

[[at]]
time = 10
action = "down"
device = "eth0"

[[at]]
time = "2 ms"
action = "min_free_kbytes"
value = 4000

[pressure]
free_blocks = [500, 0, 3]
background_skbs = 0

[replay]
vlans = "listed"
"""


def scenario_of(tmp_path: Path, text: str) -> Any:
    """The scenario that a TOML text describes."""
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return load_scenario(str(path))


def refusals(tmp_path: Path, text: str) -> dict[str, str]:
    """What the checks say of a scenario, by key."""
    scenario = scenario_of(tmp_path, text)
    return {key: sentence for check in CHECKS for key, sentence in check(scenario)}


def test_the_machine_gets_devices_uppers_blocks_and_the_plan_by_time(tmp_path: Path) -> None:
    """Every key of the example lands in its field; the plan is sorted."""
    assert refusals(tmp_path, UPPERS) == {}
    m = machine_of(PlainEngine(), scenario_of(tmp_path, UPPERS))
    nic, bond, vlan = (m.dev[d] for d in range(3))
    assert (m.devices, m.netdevs) == (1, 3)
    assert (nic.driver, nic.napi, nic.promisc, nic.ring_size, nic.master) == (DRIVER_E1000_PS, 0, 1, 96, 1)
    assert (bond.driver, bond.lower_mask) == (DRIVER_BOND, 1)
    assert (vlan.driver, vlan.lower_mask, vlan.vlan_tag) == (DRIVER_VLAN, 2, 0x88A8 << 16 | 7)
    entries = [(m.plan[at].time_ns, m.plan[at].action, m.plan[at].value) for at in range(m.plan_len)]
    assert entries == [
        (10, PLAN_DOWN, 0),
        (2_000_000, PLAN_MIN_FREE_KBYTES, 4000),
        (1_500_000_000, PLAN_MTU, 1500),
    ]
    assert (m.zone[ZONE_NORMAL].nr_free[2], m.config.vlans_inferred) == (3, 0)


@pytest.mark.parametrize(("driver", "ring", "weight"), [("e1000", 256, 64), ("8139cp", 64, 16), ("tg3", 200, 64)])
def test_a_driver_brings_its_own_ring_and_weight(tmp_path: Path, driver: str, ring: int, weight: int) -> None:
    """What the file leaves out is the driver's default; the background leaves 32 buffers."""
    m = machine_of(PlainEngine(), scenario_of(tmp_path, f'[[device]]\ndriver = "{driver}"\n'))
    assert (m.dev[0].ring_size, m.dev[0].weight, m.background_held) == (ring, weight, ring - 32)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[[device]]\nring = 100\n[pressure]\nbackground_skbs = 0", "device.0.ring", "steps of 16"),
        ('[[device]]\ndriver = "8139cp"\nring = 128', "device.0.ring", "64 to 64"),
        ('[[device]]\ndriver = "tg3"\nmtu = 9000', "device.0.mtu", "68 to 1500"),
        ('[[device]]\ndriver = "e1000-ps"\nmtu = 12544', "device.0.mtu", "12543"),
        ('[[device]]\ndriver = "tg3"\nnapi = false', "device.0.napi", "always polled"),
        ("[[device]]\nnapi = false\n[machine]\nnetdev_max_backlog = 2048", "machine.netdev_max_backlog", "2047"),
        ('[[upper]]\nname = "b"\nkind = "bond"\nlower = ["eth1"]', "upper.0.lower", "'eth1'"),
        ('[[upper]]\nname = "v"\nkind = "vlan"\nlower = ["eth0"]', "upper.0.vlan_id", "VLAN"),
        ('[[upper]]\nname = "eth0"\nkind = "bond"\nlower = ["eth0"]', "upper.0.name", "another device"),
        (
            "\n".join(f'[[upper]]\nname = "b{at}"\nkind = "bond"\nlower = ["eth0"]' for at in range(2)),
            "upper.1.lower",
            "already",
        ),
        ('[[at]]\ntime = "soon"\naction = "up"\ndevice = "eth0"', "at.0.time", "1.5s"),
        ('[[at]]\ntime = 1\naction = "up"', "at.0.device", "eth0"),
        ('[[at]]\ntime = 1\naction = "pages"\nvalue = 1\ndevice = "eth0"', "at.0.device", "no device"),
        ('[[at]]\ntime = 1\naction = "mtu"\ndevice = "eth0"', "at.0.value", "needs"),
        ('[[at]]\ntime = 1\naction = "mtu"\ndevice = "eth0"\nvalue = 20000', "at.0.value", "16110"),
        ('[[at]]\ntime = 1\naction = "min_free_kbytes"\nvalue = -1', "at.0.value", "0 or more"),
        ('[pressure]\nstart = "quiet"\nfree_blocks = [1]', "pressure.free_blocks", "crunch"),
    ],
)
def test_what_cannot_be_is_refused_by_key(tmp_path: Path, text: str, key: str, says: str) -> None:
    """Each check names the key and says what is possible."""
    with pytest.raises(UsageError) as refused:
        scenario_of(tmp_path, text)
    assert any(f" {key}: " in line and says in line for line in str(refused.value).splitlines())


def test_times_are_read_exactly() -> None:
    """Decimals of any unit, without floats."""
    times = [time_ns_of(text) for text in ("1.5s", "0.000000001s", "200ms", "3 us", "7ns", "2min", "1h", 12)]
    assert times == [1_500_000_000, 1, 200_000_000, 3_000, 7, 120_000_000_000, 3_600_000_000_000, 12]
    with pytest.raises(ValueError, match="expected a time"):
        time_ns_of("-1s")
