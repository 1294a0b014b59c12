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
    uppers: Sequence[Mapping[str, int]] = (),
    plan: Sequence[Mapping[str, int]] = (),
    free_blocks: Sequence[int] = (),
) -> Any:
    """A booted machine; each mapping fills the record of its name (`Config`, `Policy`, `Device`, `SockRule`, `Plan`).

    `uppers` are the devices behind `devices`; `free_blocks` says how many free blocks of each order ZONE_NORMAL has.
    """
    m = engine.new(Machine)
    engine.fill(m.config, config)
    engine.fill(m.policy, policy)
    netdevs = [*devices, *uppers]
    engine.fill(m, {"devices": len(devices), "netdevs": len(netdevs), "sock_rules": len(sock_rules)})
    engine.fill(m, {"plan_len": len(plan)})
    engine.fill(m.config, {"free_blocks_given": bool(free_blocks)})
    for order, blocks in enumerate(free_blocks):
        m.config.free_blocks[order] = blocks
    for entry, values in enumerate(plan):
        engine.fill(m.plan[entry], values)
    for d, values in enumerate(netdevs):
        engine.fill(m.dev[d], values)
    for rule, values in enumerate(sock_rules):
        engine.fill(m.sock_rule[rule], values)
    engine.function(boot)(m)
    return m
