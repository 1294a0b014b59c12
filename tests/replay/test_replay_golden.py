"""Twelve frames on the default crunch under each policy, worked out by hand from the sources in emu/kernel.

The start (boot): a ring of 256 is filled, the NIC owns up to the last step of 16 (240 descriptors), the background
holds 224 of them: 16 are left.  Zone Normal stands at its GFP_ATOMIC floor, 3/8 of pages_min: 119 of 316 pages without,
137 of 364 with the 54 pages that adjust_memalloc_reserve asked for.  No slab has a free object.

Frame 1 is an aggregated segment of 15 wire frames to an ordinary socket that nobody reads: 15 buffers are gone, one
descriptor is left.  What happens then is the policy:

* linux-2.6.12: the refill finds no page above the floor.  Frame 2 takes the last descriptor, from frame 3 on
  everything is RX_MISSED, the iSCSI answers too: the lockup.  Frame 4, which the host sends, polls once more, in vain.
* reserve-only: the refill takes pages without a watermark until the ring is full (free_pages 0) and everybody is
  served: no triage.  LLDP has no handler, a wrong TCP checksum is found by the socket.
* phillips-v5: the refill takes 50 buffers (rx_reserve_used 50, the cap): 50 pages for the data (2336 bytes lie in
  size-4096), 4 for heads (15 a slab), 1 for off-slab descriptors = 55, drawn through the per-CPU list in 6 batches of
  15: 137 - 90 = 47 free.  Slots 0 to 49 make tail 48: 64 descriptors after frame 2.  In reserve, TCP, UDP and ICMP each
  give one back (50 -> 49) and are dropped unless SOCK_MEMALLOC; ARP and LLDP are not checked and give none back.  A
  dropped buffer refills one slot from the slab, the one given back another, which is the reserve's again: so the next
  frame sees 50.  The 66th slot moves the tail to 64: 71 descriptors at frame 12.  The check comes before the checksum:
  frame 11 is PFMEMALLOC.
* mainline: no SOCK_MEMALLOC socket exists until frame 3 is on the wire: the ring runs dry as in 2.6.12.  The polls of
  frame 4 get a tagged page for the data, but struct sk_buff comes with plain GFP_ATOMIC, and no freed head lies in the
  slab: every refill fails.  The two tries draw two batches of 15 pages into the per-CPU list: 119 - 30 = 89.
"""

from pathlib import Path

import pytest
from replay_kit import (
    HOST_MAC,
    PEER_MAC,
    POLICY_NAMES,
    Raw,
    arp,
    ether,
    icmp,
    iscsi,
    outputs_in,
    paced,
    pcap,
    played,
    rows_of,
    run,
    sent,
    tcp,
    udp,
)
from syrupy.assertion import SnapshotAssertion

LLDP = 0x88CC
MSS = 1446  # what fits into an MTU of 1500 besides the headers that Scapy makes, and 14 bytes more of Ethernet
CAPTURE = pcap(
    paced(
        [
            tcp(payload=15 * MSS),
            udp(),
            iscsi(48),
            sent(),
            iscsi(1000),
            udp(),
            arp(),
            icmp(),
            ether(PEER_MAC, HOST_MAC, Raw(bytes(46)), type=LLDP),
            tcp(),
            tcp(broken=True),
            iscsi(0),
        ],
        gap_ns=500_000,
    )
)
COLUMNS = (
    "frame",
    "class",
    "flow",
    "memalloc",
    "verdict",
    "reason",
    "cause",
    "point",
    "policy_rule",
    "reserve_used_before",
    "reserve_used_after",
    "free_pages",
    "floor_pages",
    "ring_free",
)


def table(rows: list[dict[str, str]]) -> str:
    """The rows as a table to read."""
    lines = [COLUMNS, *(tuple(row[name] or "-" for name in COLUMNS) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_twelve_frames(policy: str, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """Every received frame's verdict and the numbers that decided it, as worked out above."""
    played(CAPTURE, policy=policy, outputs=outputs_in(tmp_path))
    assert table(rows_of(tmp_path / "log.csv")) == snapshot


@pytest.mark.parametrize(
    ("policy", "saved", "allocations", "floor"),
    [
        ("linux-2.6.12", 0, 0, 119),
        ("reserve-only", 3, 242, 137),
        ("phillips-v5", 3, 58, 137),
        ("mainline", 0, 0, 119),
    ],
)
def test_what_the_twelve_frames_come_to(policy: str, saved: int, allocations: int, floor: int) -> None:
    """Of three iSCSI frames so many survive; v5 draws its 50 and one more for each of 8 frames that gave one back."""
    summary = played(CAPTURE, policy=policy).summary
    assert summary["memalloc"] == {"received": 3, "delivered": saved, "dropped": 3 - saved}
    assert summary["devices"]["eth0"]["reserve_allocations"] == allocations
    pages_min = summary["memory"]["zones"]["Normal"]["pages_min"]
    assert pages_min - pages_min // 2 - (pages_min - pages_min // 2) // 4 == floor


def test_the_comments_of_the_twelve_frames(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """What Wireshark shows of them under the patch: interface and comments, frame by frame."""
    played(CAPTURE, outputs=outputs_in(tmp_path, annotate="all"))
    fields = ("-T", "fields", "-e", "frame.number", "-e", "frame.interface_name", "-e", "frame.comment")
    assert run("tshark", "-r", tmp_path / "out.pcapng", *fields) == snapshot
