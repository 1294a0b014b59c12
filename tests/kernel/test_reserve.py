"""The reserve against a naive twin: v5's accounting as the mail gives it, on memory counted with one number."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines import (
    CLOSED,
    ISCSI,
    OPEN,
    Nic,
    Setup,
    arp,
    booted,
    icmp,
    leave_free,
    pages_left,
    plenty,
    rows_of,
    tcp,
    udp,
)

from emu.kernel.dev import netif_receive_skb
from emu.kernel.drop_reason import DELIVERED, DEVICE_CAP, DROPPED, NO_CAUSE, NO_SOCKET, NOMEM, PFMEMALLOC
from emu.kernel.flows import flow_received
from emu.kernel.invariants import HOLDS, check_conservation
from emu.kernel.machine import NONE, PACKET_BROADCAST
from emu.kernel.netdevice import adjust_memalloc_reserve, dev_memalloc_skb, reserve_for_device
from emu.kernel.skbuff import kfree_skb
from emu.wire.headers import CSUM_BAD, TOO_SHORT

HEADS_PER_PAGE = 15  # sk_buff of 256 bytes
DESCRIPTORS_PER_PAGE = 119  # size-32
OBJECTS_MAX = 24  # more free buffers than that would overflow the per-CPU array of size-4096

# What arrives, whether its socket is SOCK_MEMALLOC, and whether a check sees it.
PACKETS: dict[str, tuple[dict[str, int], bool, bool]] = {
    "iscsi": (tcp(OPEN, sport=ISCSI), True, True),
    "tcp": (tcp(), False, True),
    "tcp, closed port": (tcp(CLOSED), False, False),
    "tcp, bad header": (tcp(header_error=TOO_SHORT), False, False),
    "tcp, short with a bad checksum": (tcp(payload=56, l4_csum=CSUM_BAD), False, False),
    "udp": (udp(), False, True),
    "udp, memalloc": (udp(ISCSI, sport=ISCSI), True, True),
    "udp, closed port": (udp(CLOSED), False, False),
    "udp, broadcast": (udp(pkt_type=PACKET_BROADCAST), False, False),
    "icmp": (icmp(), False, True),
    "icmp, bad checksum": (icmp(l4_csum=CSUM_BAD), False, False),
    "arp": (arp(), False, False),
}


class Twin:
    """Facts A6 in the slow obvious way: free heads, buffers and descriptors, and pages below the floor."""

    def __init__(self, pages: int, caps: list[int]) -> None:
        self.pages = pages
        self.heads = 0
        self.buffers = 0
        self.descriptors = 0
        self.caps = caps
        self.used = [0] * len(caps)

    def take(self, memalloc: bool) -> bool:
        """One head, one buffer; what is missing costs a page, and a new buffer's slab a descriptor."""
        if self.heads == 0:
            if not memalloc or self.pages == 0:
                return False
            self.pages -= 1
            self.heads = HEADS_PER_PAGE
        if self.buffers == 0:
            if not memalloc or self.pages == 0:
                return False
            if self.descriptors == 0:
                if self.pages == 1:
                    return False
                self.pages -= 1
                self.descriptors = DESCRIPTORS_PER_PAGE
            self.descriptors -= 1
            self.pages -= 1
            self.buffers = 1
        self.heads -= 1
        self.buffers -= 1
        return True

    def give(self) -> None:
        """A freed skb's parts can be used again."""
        self.heads += 1
        self.buffers += 1

    def alloc(self, device: int) -> tuple[bool, bool, int]:
        """Whether there is an skb, whether it came from the reserve, and the cause when there is none."""
        if self.take(memalloc=False):
            return True, False, NO_CAUSE
        if self.used[device] >= self.caps[device]:
            return False, False, DEVICE_CAP
        if not self.take(memalloc=True):
            return False, False, NOMEM
        self.used[device] += 1
        return True, True, NO_CAUSE

    def check(self, device: int, memalloc: bool) -> bool:
        """Whether the packet is dropped for the reserve; it gives one back whose ever memory it has."""
        if self.used[device] == 0:
            return False
        self.used[device] -= 1
        return not memalloc


class Reserve(RuleBasedStateMachine):
    """Two devices draw on one small reserve; packets come and go in any order."""

    @initialize(pages=st.integers(0, 16), caps=st.tuples(st.integers(0, 8), st.integers(0, 8)))
    def build(self, pages: int, caps: tuple[int, int]) -> None:
        """Everybody reads at once, so that every packet's memory comes back when it is decided."""
        quiet = plenty() | {"crunch": 1}
        nics = tuple(Nic(ring=1, background=0, reserve=cap) for cap in caps)
        self.m = booted(Setup("phillips-v5", config=quiet, nics=nics))
        leave_free(self.m, pages)
        self.twin = Twin(pages, list(caps))
        self.held: list[list[int]] = [[], []]
        self.next_seq: dict[str, int] = {}

    @rule(device=st.integers(0, 1), times=st.integers(1, 6))
    def refill(self, device: int, times: int) -> None:
        """A receive buffer: GFP_ATOMIC, then the cap, then __GFP_MEMALLOC, as the twin has it."""
        for _ in range(times):
            if sum(map(len, self.held)) >= OBJECTS_MAX - 2:
                return
            b = dev_memalloc_skb(self.m, device)
            got, from_reserve, cause = self.twin.alloc(device)
            assert (b != NONE, self.m.alloc_cause) == (got, cause)
            if b != NONE:
                assert (self.m.skb[b].from_reserve, self.m.skb[b].dev) == (from_reserve, device)
                self.held[device].append(b)

    @precondition(lambda self: any(self.held))
    @rule(name=st.sampled_from(sorted(PACKETS)), device=st.integers(0, 1), at=st.integers(0, 100))
    def packet(self, name: str, device: int, at: int) -> None:
        """A packet in one of the device's buffers: a check gives one back and drops what is not memalloc."""
        if not self.held[device]:
            device = 1 - device
        columns, memalloc, checked = PACKETS[name]
        seq = self.next_seq.setdefault(name, 1)
        self.next_seq[name] += columns.get("payload_length", 0)
        p = rows_of([columns | {"time_ns": 0, "dev": device, "tcp_seq": seq}])[0]
        b = self.held[device].pop(at % len(self.held[device]))
        self.m.skb[b].next = NONE
        if p.header_error == 0 and "sport" in columns and p.pkt_type == 0:
            flow_received(self.m, p)
        before = self.twin.used[device]
        refused = checked and self.twin.check(device, memalloc)
        netif_receive_skb(self.m, p, b)
        self.twin.give()
        assert (p.verdict == DROPPED and p.reason == PFMEMALLOC) == refused
        assert (p.reserve_used_before, p.reserve_used_after) == (before, self.twin.used[device])
        if memalloc:
            assert p.verdict == DELIVERED

    @precondition(lambda self: any(self.held))
    @rule(device=st.integers(0, 1))
    def free(self, device: int) -> None:
        """A driver that frees a buffer itself leaves the count where it is (Garzik's point)."""
        if self.held[device]:
            kfree_skb(self.m, self.held[device].pop())
            self.twin.give()

    @invariant()
    def agrees(self) -> None:
        """The counts are the twin's and within bounds, and no page is lost."""
        if not hasattr(self, "m"):
            return
        m = self.m
        assert [m.dev[d].rx_reserve_used for d in range(2)] == self.twin.used
        assert all(0 <= m.dev[d].rx_reserve_used <= m.dev[d].rx_reserve for d in range(2))
        assert pages_left(m) == self.twin.pages
        m.total.received = m.total.delivered + m.total.dropped
        m.total.frames = m.total.received
        assert check_conservation(m) == HOLDS
        assert m.skbs_used == sum(map(len, self.held)) + 2


TestReserve = Reserve.TestCase
TestReserve.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def starved(pages: int, policy: str = "phillips-v5", **nic: Any) -> Any:
    """A machine whose every buffer needs the reserve, of which so many pages are left."""
    m = booted(Setup(policy, nics=(Nic(ring=1, background=0, **nic),)))
    leave_free(m, pages)
    return m


def test_the_cap_is_named_when_pages_are_left_and_the_pages_when_the_cap_is_not_reached() -> None:
    """With pages for all, the 51st buffer meets DEVICE_CAP; with pages for none, the first meets NOMEM."""
    m = starved(100)
    got = [dev_memalloc_skb(m, 0) != NONE for _ in range(51)]
    assert got == [True] * 50 + [False]
    assert (m.alloc_cause, m.dev[0].rx_reserve_used, m.dev[0].rx_reserve_used_max) == (DEVICE_CAP, 50, 50)
    m = starved(0)
    assert dev_memalloc_skb(m, 0) == NONE
    assert (m.alloc_cause, m.dev[0].rx_reserve_used) == (NOMEM, 0)


def test_fifty_buffers_take_fifty_pages_four_of_heads_and_one_of_descriptors() -> None:
    """The true cost of the default cap on an e1000: 54 pages, as v6 estimates, and one that it forgets."""
    m = starved(100)
    left = pages_left(m)
    for _ in range(50):
        dev_memalloc_skb(m, 0)
    assert left - pages_left(m) == 55


def test_a_cap_of_nothing_is_a_policy_without_the_reserve() -> None:
    """rx_reserve 0 (loopback, VLAN): never a reserve buffer, cause DEVICE_CAP."""
    m = starved(100, reserve=0)
    assert (dev_memalloc_skb(m, 0), m.alloc_cause) == (NONE, DEVICE_CAP)


@pytest.mark.parametrize(("policy", "buffers"), [("linux-2.6.12", 0), ("reserve-only", 92)])
def test_without_a_cap_the_reserve_is_taken_to_the_last_page(policy: str, buffers: int) -> None:
    """2.6.12 gets nothing; without a cap 100 pages go: 92 for buffers, 7 for heads, 1 for descriptors, none counted."""
    m = starved(100, policy)
    got = 0
    while dev_memalloc_skb(m, 0) != NONE:
        got += 1
    assert (got, m.alloc_cause, m.dev[0].rx_reserve_used) == (buffers, NOMEM, 0)


def test_an_aggregated_packet_gives_back_one_per_segment_and_never_more_than_there_is() -> None:
    """Four segments were four buffers: the count falls by four, or to zero."""
    m = starved(100)
    m.dev[0].rx_reserve_used = 6
    seen = []
    for _ in range(3):
        p = rows_of([udp(segments=4, time_ns=0)])[0]
        flow_received(m, p)
        b = dev_memalloc_skb(m, 0)
        m.dev[0].rx_reserve_used -= m.skb[b].from_reserve
        m.skb[b].next = NONE
        netif_receive_skb(m, p, b)
        seen.append((p.reserve_used_before, p.reserve_used_after, p.reason == PFMEMALLOC))
    assert seen == [(6, 2, True), (2, 0, True), (0, 0, False)]


def test_a_device_promises_its_estimate_when_it_comes_up_and_closing_would_take_it_back() -> None:
    """v5 with its follow-up: 54 pages for 50 e1000 buffers, added to min_free_kbytes as 216 kB."""
    m = booted(Setup("phillips-v5", config=plenty()))
    assert (m.dev[0].memalloc_pages, m.min_free_kbytes, m.var_free_kbytes) == (54, 1448 + 216, 0)
    reserve_for_device(m, 0)
    assert m.min_free_kbytes == 1448 + 432
    adjust_memalloc_reserve(m, -2 * m.dev[0].memalloc_pages)
    assert m.min_free_kbytes == 1448


def test_a_closed_port_keeps_the_count_and_the_reason_is_the_sockets() -> None:
    """TCP to a closed port never reaches the check, so it neither gives back nor is dropped for the reserve."""
    m = starved(100)
    m.dev[0].rx_reserve_used = 5
    p = rows_of([tcp(CLOSED, time_ns=0)])[0]
    b = dev_memalloc_skb(m, 0)
    m.skb[b].next = NONE
    used = m.dev[0].rx_reserve_used
    netif_receive_skb(m, p, b)
    assert (p.reason, m.dev[0].rx_reserve_used) == (NO_SOCKET, used)
