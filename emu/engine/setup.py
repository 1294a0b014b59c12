"""From a scenario to a machine that is ready to play."""

from collections.abc import Mapping, Sequence
from typing import Any

from emu.engine.plain import Engine
from emu.kernel.boot import boot
from emu.kernel.machine import Machine


def build_machine(
    engine: Engine,
    *,
    config: Mapping[str, int],
    policy: Mapping[str, int],
    devices: Sequence[Mapping[str, int]],
    sock_rules: Sequence[Mapping[str, int]] = (),
    zones: Mapping[int, Mapping[str, int]] | None = None,
) -> Any:
    """A booted machine; each mapping fills the record of its name (`Config`, `Policy`, `Device`, `SockRule`).

    `zones`: what is known of a zone, by its number (`ZoneSaid`).
    """
    m = engine.new(Machine)
    engine.fill(m.config, config)
    engine.fill(m.policy, policy)
    engine.fill(m, {"devices": len(devices), "netdevs": len(devices), "sock_rules": len(sock_rules)})
    for d, values in enumerate(devices):
        engine.fill(m.dev[d], values)
    for rule, values in enumerate(sock_rules):
        engine.fill(m.sock_rule[rule], values)
    for zone, values in (zones or {}).items():
        engine.fill(m.zone_said[zone], dict(values) | {"said": 1})
    engine.function(boot)(m)
    return m
