"""Twelve frames under every policy, against tables that were worked out by hand (tests/kernel/golden)."""

from pathlib import Path
from typing import Any

import pytest
from machines import PLAIN, Nic, Setup, arp, booted, holds, icmp, iscsi, leave_free, paced, rows_of, tcp, udp

from emu.engine.loop import forget_verdict
from emu.kernel.dev import netif_receive_skb
from emu.kernel.drop_reason import POINTS, REASONS, RX_MISSED, VERDICTS
from emu.kernel.e1000 import missed
from emu.kernel.fate import count, note_memory
from emu.kernel.flows import flow_received
from emu.kernel.machine import NONE
from emu.kernel.netdevice import dev_memalloc_skb
from emu.kernel.policy import POLICIES, RULES

GOLDEN = Path(__file__).parent / "golden"
RING = 2
RESERVE_PAGES = 6
CAP = 3
HEAD = "frame class  memalloc buffer used   ring  verdict    point               reason      rule"


def segment(columns: Any, number: int) -> Any:
    """The `number`-th segment of its connection."""
    return columns | {"tcp_seq": 1 + number * columns["payload_length"], "tcp_ack": 1}


FRAMES: tuple[tuple[str, Any], ...] = (
    ("udp", udp()),
    ("iscsi", segment(iscsi(), 0)),
    ("udp", udp()),
    ("ping", icmp()),
    ("web", segment(tcp(sport=80), 0)),
    ("arp", arp()),
    ("udp", udp()),
    ("iscsi", segment(iscsi(), 1)),
    ("web", segment(tcp(sport=80), 1)),
    ("ping", icmp()),
    ("udp", udp()),
    ("iscsi", segment(iscsi(), 2)),
)


class World:
    """A ring of two buffers without the driver's steps of sixteen; a frame takes the older one, then it is refilled."""

    def __init__(self, policy: str) -> None:
        nic = Nic(ring=1, background=0, reserve=CAP if POLICIES[policy].rules["caps_reserve"] else 0)
        self.m = booted(Setup(policy, nics=(nic,), config={"free_pages_above_floor": 64}))
        self.ring: list[int] = []
        self.refill()
        leave_free(self.m, RESERVE_PAGES)

    def refill(self) -> None:
        """Fill up until an allocation fails."""
        while len(self.ring) < RING:
            b = dev_memalloc_skb(self.m, 0)
            self.m.dev[0].refill_cause = self.m.alloc_cause
            if b == NONE:
                return
            self.m.skb[b].next = NONE
            self.ring.append(b)

    def buffer(self, b: int) -> str:
        """Whose memory a buffer was allocated as."""
        skb = self.m.skb[b]
        return "M" if skb.pfmemalloc else "R" if skb.from_reserve else "n"

    def frame(self, p: Any) -> str:
        """Play one frame; the columns of the table from `memalloc` on."""
        forget_verdict(p)
        self.m.total.frames += 1
        self.m.total.received += 1
        if p.sport:
            flow_received(self.m, p)
        buffer = "-"
        if self.ring:
            b = self.ring.pop(0)
            buffer = self.buffer(b)
            netif_receive_skb(self.m, p, b)
        else:
            missed(self.m, 0, p, RX_MISSED)
            note_memory(self.m, p)
            count(self.m, p)
        self.refill()
        used = f"{p.reserve_used_before}->{p.reserve_used_after}"
        ring = "".join(map(self.buffer, self.ring)).ljust(RING, "-")
        reason, rule = REASONS[p.reason].name or "-", RULES[p.rule] or "-"
        said = f"{p.memalloc:>8} {buffer:<6} {used:<6} {ring:<5} {VERDICTS[p.verdict]:<10} {POINTS[p.point]:<19}"
        return f"{said} {reason:<11} {rule}"


def table(policy: str) -> str:
    """The twelve frames as this policy treats them."""
    world = World(policy)
    rows = rows_of(paced([columns for _, columns in FRAMES]), PLAIN)
    lines = [HEAD]
    for at, (name, _) in enumerate(FRAMES):
        lines.append(f"{at + 1:>5} {name:<6} {world.frame(rows[at])}")
    m = world.m
    m.background_held = m.background_held + len(world.ring)  # the ring of this test is not the driver's
    holds(m)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("policy", POLICIES)
def test_twelve_frames_fare_as_worked_out_by_hand(policy: str) -> None:
    """Below the reasoning, which is a comment, every column is what the machine does."""
    reasoning, _, expected = (GOLDEN / f"{policy}.txt").read_text(encoding="utf-8").partition("\n\n")
    assert all(line.startswith("#") for line in reasoning.splitlines())
    assert table(policy) == expected


def test_every_table_belongs_to_a_policy() -> None:
    """No table is left over, and no policy goes without one."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(POLICIES)
