"""The smallest world in which every rule of the patch is seen: five packets, computed by hand, and drawn as a golden.

The world (emu/scenarios/five-packets.toml), 2.6.12, L1 of 128 bytes:

* ZONE_NORMAL has 6 free pages and pages_min 15.  GFP_ATOMIC's floor is 15 - 15//2 = 8, 8 - 8//4 = 6, and a page is
  granted only above it: an ordinary allocation that needs a page fails, __GFP_MEMALLOC gets all six.  1024 pages make
  a per-CPU list that is filled one page at a time, so what is taken is what is free less.
* A buffer of 2048 bytes takes 2048 + 2 + 16 = 2066, in lines of 128 that is 2176, and 160 of shared info: 2336 bytes of
  size-4096, a page of its own; its head is one of 15 of a page; a slab of size-4096 keeps its descriptor in size-32,
  one page for 113 of them.  All caches are empty when play starts.
* The ring has 80 slots.  The driver shows the NIC 16 of 32 buffers; 48 are held by sockets outside.  e1000 moves the
  tail register when it has filled a slot that is a multiple of 16.
* The cap is two buffers.  Each packet comes alone, so each has a poll of its own, and the refill follows its check.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from emu_process import emu_here

from emu.cli.options import StepCommand
from emu.engine.stepping import Step, SteppingEngine
from emu.interrupt import Interruption
from emu.kernel.drop_reason import VERDICTS
from emu.play import replay
from emu.request import open_company, rewrite_of, task_of
from emu.scenario_file import named_scenario
from emu.verdicts.schema import row_values

GOLDEN = Path(__file__).parent / "golden"
UDP, ICMP, TCP, ARP = "udp", "icmp", "tcp", "arp"


class Stand(NamedTuple):
    """How things stand behind one packet: its verdict, the count that its check found and left, then the refill's."""

    verdict: str
    used_before: int
    used_after: int
    used_refilled: int  # rx_reserve_used behind the refill
    free_pages: int  # of ZONE_NORMAL, behind the refill
    buffers: int  # in the ring, behind the refill


# Under phillips-v5.  32 buffers are in the ring; each packet takes one out.
BY_HAND = (
    # UDP for a socket that nobody reads.  Nothing is out of the reserve, so it is queued and keeps its buffer.  The
    # refill: GFP_ATOMIC fails, __GFP_MEMALLOC takes a page of heads, one of descriptors, one of data (6 - 3 = 3), and
    # again, one page of data (2).  Two are out: the cap.  31 + 2 = 33 buffers.
    Stand("delivered", 0, 0, 2, 2, 33),
    # UDP again: the device is in reserve, so it gives one back and is dropped (its own buffer was ordinary memory).
    # That buffer goes back to its slab, so the refill gets it with GFP_ATOMIC; then one from the reserve (1 page).
    Stand("dropped", 2, 1, 2, 1, 34),
    # An echo request: icmp_rcv drops every type while the device is in reserve.  The refill as before: no page is left.
    Stand("dropped", 2, 1, 2, 0, 35),
    # The answer to block I/O: its socket is SOCK_MEMALLOC, so it passes, and gives one back though its own buffer was
    # ordinary memory.  It is read at once; the refill gets that buffer, and for a second there is no page, cap or not.
    Stand("delivered", 2, 1, 1, 0, 35),
    # ARP has no check: it is answered (without memory for the answer) and gives nothing back.
    Stand("delivered", 1, 1, 1, 0, 35),
)
# Without a reserve: sockets keep two buffers for good (30 are left), the others' come back.
BY_HAND_2_6_12 = (
    Stand("delivered", 0, 0, 0, 6, 31),
    Stand("delivered", 0, 0, 0, 6, 30),
    Stand("delivered", 0, 0, 0, 6, 30),
    Stand("delivered", 0, 0, 0, 6, 30),
    Stand("delivered", 0, 0, 0, 6, 30),
)


class Follower:
    """Notes each packet's verdict, and how the machine stands when its refill is over."""

    def __init__(self) -> None:
        self.stands: list[Stand] = []
        self.kinds: list[str] = []
        self._open: Any = None

    def __call__(self, step: Step) -> None:
        m = step.machine
        for p in step.decided:
            self._open = p
            self.kinds.append(kind_of(p))
        if self._open is not None and m.poll_len == 0:
            p, zone, dev = self._open, m.zone[1], m.dev[0]
            self.stands.append(
                Stand(
                    VERDICTS[p.verdict],
                    p.reserve_used_before,
                    p.reserve_used_after,
                    dev.rx_reserve_used,
                    zone.free_pages + zone.pcp_count,
                    dev.ring_filled,
                )
            )
            self._open = None


def kind_of(p: Any) -> str:
    """The protocol of a row, in one word."""
    return str(row_values(p, ["eth0"])["class"])


def follow(policy: str) -> Follower:
    """Play the five packets under a policy, followed."""
    follower = Follower()
    command = StepCommand(scenario=Path(named_scenario("five-packets")), policy=policy, engine="plain")
    task = task_of(command, [], policy=policy)
    with ExitStack() as opened:
        _, company, _ = open_company(command, rewrite_of(command), task, [], Interruption(), opened, print)
        replay(task, SteppingEngine(follower), company.reader, floods=company.floods, hosts=company.hosts)
    return follower


@pytest.mark.parametrize(("policy", "by_hand"), [("phillips-v5", BY_HAND), ("linux-2.6.12", BY_HAND_2_6_12)])
def test_five_packets_are_what_they_are_by_hand(policy: str, by_hand: tuple[Stand, ...]) -> None:
    follower = follow(policy)
    assert follower.kinds == [UDP, UDP, ICMP, TCP, ARP]
    assert tuple(follower.stands) == by_hand


@pytest.mark.parametrize("policy", ["phillips-v5", "linux-2.6.12", "reserve-only"])
def test_five_packets_are_drawn_as_reviewed(policy: str) -> None:
    done = emu_here("step", "five-packets", "--policy", policy, "--plain")
    assert done.code == 0, done.err
    assert done.out == (GOLDEN / f"five-packets.{policy}.txt").read_text(encoding="utf-8")


def test_the_walk_is_shown_without_a_terminal() -> None:
    """Standard input of the test is no terminal: --plain goes without saying."""
    assert emu_here("step", "five-packets").out == emu_here("step", "five-packets", "--plain").out
