"""The bugs of the patch of August 2005, as posted: the one table behind `--as-posted`, `emu bugs`, docs and tests.

Source: Phillips' mails to linux-mm, 3 to 12 August 2005, read against Linux 2.6.12; who noticed stands in each row.
A policy row plays its revision as intended; `Config.as_posted` switches bugs back on, bit n for bug n.
"""

from typing import NamedTuple

from emu.kernel.machine import Machine

(
    BUG_NONE,
    BUG_GFP_LEVEL_MASK,
    BUG_OFF_SLAB,
    BUG_MARK,
    BUG_COMPILE,
    BUG_NULL,
    BUG_NO_MEMALLOC,
    BUG_LEGACY,
    BUG_FFS,
    BUG_SYSCTL,
    BUG_DOWN,
    BUG_UDP_LABEL,
    BUG_TIME_WAIT,
    BUG_PACKET_SPLIT,
    BUG_UPPER_DEVICE,
    BUG_RX_ONLY,
) = range(16)

V1, V2, V3, V4, V5, V6 = (f"phillips-v{revision}" for revision in range(1, 7))
EVERY = (V1, V2, V3, V4, V5, V6)
COUNTING = (V3, V4, V5, V6)
READING = "derived from reading the patch against 2.6.12; no mail of 2005 that was found says so"


class See(NamedTuple):
    """How to see a bug: a capture and a scenario that expects it, and what to change to expect the opposite.

    `settings` are arguments of --set that take the bug away, `expect` is what holds of the summary then.
    """

    scenario: str
    capture: str
    settings: tuple[str, ...]
    expect: tuple[str, ...]


class Bug(NamedTuple):
    """One bug: which revisions have it, what it does, and what a policy row does instead.

    `stays`: a limit of the design, in the policy rows too; then `intended` says why, else how the row has it right.
    """

    number: int
    revisions: tuple[str, ...]
    title: str
    effect: str
    source: str
    noticed: str
    intended: str
    see: See
    stays: bool = False


FIXED = ("policy.as_posted=",)
BUGS = (
    Bug(
        BUG_GFP_LEVEL_MASK,
        EVERY,
        "__GFP_MEMALLOC is not in GFP_LEVEL_MASK",
        "cache_grow() calls BUG() for a flag that it does not know, so the first reserve allocation that has to grow a "
        "slab kills the kernel. Objects that lie ready do not; but the plain attempt has just failed to grow the same "
        "slab. Only memalloc_page (v6, data pages of split packets) escapes.",
        "2.6.12 mm/slab.c cache_grow, include/linux/gfp.h; Zijlstra's patch of 8 Aug 2006 adds the bit",
        READING,
        "the bit is in the mask",
        See("01-gfp-level-mask.toml", "crowd.pcap", FIXED, ("oops == 0", "memalloc.dropped == 0")),
    ),
    Bug(
        BUG_OFF_SLAB,
        EVERY,
        "the off-slab descriptor comes without __GFP_MEMALLOC",
        "Slabs of objects of 512 bytes and more have their descriptor in another slab, which is allocated with the "
        "flags inside GFP_LEVEL_MASK: plain GFP_ATOMIC. When no descriptor lies ready, the reserve cannot be used. "
        "Seen where bug 1 is not, that is with BUG() compiled out.",
        "2.6.12 mm/slab.c cache_grow (local_flags), alloc_slabmgmt",
        READING,
        "the descriptor comes with the caller's flags",
        See(
            "02-off-slab-descriptor.toml",
            "crowd.pcap",
            FIXED,
            ("devices.eth0.reserve_allocations > 0", "memalloc.dropped == 0"),
        ),
    ),
    Bug(
        BUG_MARK,
        (V1, V2),
        "the skb's mark is never set",
        "That an skb came from the reserve is meant to be kept in a bit of skb->priority, which alloc_skb clears and "
        "nothing sets. Nothing is ever dropped for the reserve, which is used without bound.",
        "Phillips v1, 3 Aug 2005; v2, 5 Aug 2005; 2.6.12 net/core/skbuff.c alloc_skb",
        READING,
        "an skb from the reserve is marked",
        See("03-mark-never-set.toml", "crowd.pcap", FIXED, ("drops_by_reason.PFMEMALLOC > 0",)),
    ),
    Bug(
        BUG_COMPILE,
        (V2,),
        "an undeclared identifier in dev_alloc_skb_reserve",
        "The patch does not compile, so there is no kernel to run: emu refuses.",
        "Phillips v2, 5 Aug 2005 07:51; one-line fix by the author at 08:09",
        "Phillips, 18 minutes later",
        "the one-line fix is in",
        See("04-does-not-compile.toml", "crowd.pcap", FIXED, ("received > 0", "oops == 0")),
    ),
    Bug(
        BUG_NULL,
        (V3, V4),
        "the skb from the reserve is not stored",
        "dev_memalloc_skb counts the buffer but forgets it, then writes skb->dev through a null pointer: an oops at "
        "the first reserve buffer, which leaks.",
        "Phillips v3, 6 Aug 2005; v4, 7 Aug 2005; right in v5, 8 Aug 2005",
        READING,
        "the skb is stored, as in v5",
        See("05-null-dereference.toml", "crowd.pcap", FIXED, ("oops == 0", "memalloc.dropped == 0")),
    ),
    Bug(
        BUG_NO_MEMALLOC,
        EVERY,
        "nobody sets SOCK_MEMALLOC",
        "No code of the patch, no setsockopt and no change to iSCSI or nbd marks a socket. So no socket is critical, "
        "and block I/O's own packets are dropped to save memory for block I/O.",
        "Phillips v1 to v6; mainline has sk_set_memalloc",
        "implied by the mails: the block drivers were to follow",
        "the user says which flows are block I/O (replay.memalloc)",
        See("06-no-sock-memalloc.toml", "crowd.pcap", FIXED, ("memalloc.dropped == 0",)),
    ),
    Bug(
        BUG_LEGACY,
        (V4, V5),
        "e1000's ordinary refill is not patched",
        "Only the packet-split refill calls dev_memalloc_skb, and packet split is a build option for some chips. An "
        "ordinary e1000 never uses the reserve. (In v3 no driver called it at all.)",
        "Phillips v4, 7 Aug 2005; v5, 8 Aug 2005, whose text claims the opposite; v6 patches both",
        READING,
        "every driver's refill calls it",
        See(
            "07-legacy-refill.toml",
            "crowd.pcap",
            FIXED,
            ("devices.eth0.reserve_allocations > 0", "memalloc.dropped == 0"),
        ),
    ),
    Bug(
        BUG_FFS,
        (V5,),
        "estimate_skb_pages takes ffs for fls",
        "With NET_IP_ALIGN a buffer's size + 15 is odd, so its lowest bit counts and 4 bytes are estimated per buffer: "
        "5 pages for 50 buffers that need 54.",
        "Phillips v5, 8 Aug 2005, estimate_skb_pages",
        "Phillips, follow-up of 9 Aug 2005",
        "v5 counts as v6 does",
        See(
            "08-ffs.toml",
            "crowd.pcap",
            FIXED,
            ("devices.eth0.memalloc_pages == 54", "memory.min_free_kbytes == 1664"),
        ),
    ),
    Bug(
        BUG_SYSCTL,
        (V5,),
        "the reserve lives in min_free_kbytes",
        "adjust_memalloc_reserve adds to the variable that the administrator sets: a write to the sysctl wipes the "
        "reserve out, and an interface that goes down subtracts its share from the administrator's value.",
        "Phillips v5, 8 Aug 2005, mm/page_alloc.c; v6 keeps var_free_kbytes apart",
        "Phillips, follow-up of 9 Aug 2005",
        "it is how v5 works; v6 is the cure",
        See(
            "09-sysctl.toml",
            "crowd.pcap",
            ("policy.name=phillips-v6",),
            ("memory.min_free_kbytes == 1664",),
        ),
        stays=True,
    ),
    Bug(
        BUG_DOWN,
        (V5, V6),
        "an interface that goes down keeps its reserve",
        "The line that gives the reserve back stands inside the branch that powers down a copper PHY, which cards with "
        "Wake-on-LAN, fibre or management do not take. Every down and up, a change of the MTU included, adds again.",
        "Phillips v5 and v6, drivers/net/e1000/e1000_main.c e1000_down",
        "Phillips, follow-up to v6, 12 Aug 2005 13:35",
        "down gives back what up took",
        See("10-down.toml", "crowd.pcap", FIXED, ("memory.min_free_kbytes == 1664",)),
    ),
    Bug(
        BUG_UDP_LABEL,
        (V4, V5, V6),
        "UDP's drop label lies inside the no-port path",
        "A refused datagram counts as NoPorts and is answered with an ICMP port unreachable (one a second, six in a "
        "burst), which costs memory and tells a connected peer that the port is closed. The reference to the socket is "
        "never put: the socket can never be freed.",
        "Phillips v4 to v6, net/ipv4/udp.c udp_rcv drop_noncritical; copied into Zijlstra's patches of Aug 2006",
        READING,
        "the reference is put and the datagram is freed",
        See(
            "11-udp-label.toml",
            "crowd.pcap",
            FIXED,
            ("counters.udp_refs_leaked == 0", "counters.UdpNoPorts == 0", "drops_by_reason.PFMEMALLOC > 0"),
        ),
    ),
    Bug(
        BUG_TIME_WAIT,
        COUNTING,
        "a TIME_WAIT bucket is read as a socket",
        "The check reads the flags of a struct sock where a smaller struct lies, so it sees whatever memory follows: "
        "taken as not SOCK_MEMALLOC. While the device is in reserve a packet for a connection in TIME_WAIT is dropped.",
        "Phillips v3 to v6, net/ipv4/tcp_ipv4.c tcp_v4_rcv",
        READING,
        "TIME_WAIT is not checked",
        See(
            "12-time-wait.toml",
            "time-wait.pcap",
            FIXED,
            ("memalloc.dropped == 0",),
        ),
    ),
    Bug(
        BUG_PACKET_SPLIT,
        (V6,),
        "the packet-split term of the reserve is broken twice",
        "PS_PAGE_BUFFERS is the text MAX_PS_BUFFERS-1 without parentheses, so 50 buffers count as 4 - 50 pages and not "
        "150; and rx_ps is asked before it is set, so the first time up the term is skipped.",
        "Phillips v6, 12 Aug 2005, e1000_up; 2.6.12 drivers/net/e1000/e1000.h, e1000_hw.h",
        READING,
        "three data pages per buffer are added, every time",
        See("13-packet-split.toml", "crowd.pcap", FIXED, ("devices.eth0.memalloc_pages == 204",)),
    ),
    Bug(
        BUG_UPPER_DEVICE,
        COUNTING,
        "VLAN, bond and bridge have a count of their own",
        "The driver counts at the NIC, the check asks skb->dev, which is the upper device by then and is never in "
        "reserve: nothing is dropped and nothing given back, until the NIC's whole cap is out for good.",
        "Phillips v3 to v6; 2.6.12 net/8021q, drivers/net/bonding, net/bridge rewrite skb->dev",
        "Graf, 8 Aug 2006, of Zijlstra's patch: the device at free time is not the one that allocated",
        "a count per device cannot be symmetric",
        See(
            "14-vlan.toml",
            "vlan.pcap",
            ("policy.name=reserve-only",),
            ("drops_by_reason.PFMEMALLOC == 0", "memalloc.dropped == 0"),
        ),
        stays=True,
    ),
    Bug(
        BUG_RX_ONLY,
        COUNTING,
        "only reception has a reserve",
        "What block I/O sends, its ACKs, its answers to R2T and its data, is still allocated with GFP_ATOMIC and fails "
        "at the floor.",
        "Phillips v3 to v6; 2.6.12 net/ipv4/tcp_output.c tcp_send_ack; mainline's sk_set_memalloc covers transmission",
        "Zijlstra's patch of 8 Aug 2006 reserves for outgoing segments too",
        "the patch is for reception only",
        See(
            "15-rx-only.toml",
            "crowd.pcap",
            ("pressure.start=quiet",),
            ("counters.tx_alloc_failed == 0",),
        ),
        stays=True,
    ),
)

assert tuple(bug.number for bug in BUGS) == tuple(range(1, 16)), "a bug's number is its place"


def bugs_of(policy: str) -> tuple[int, ...]:
    """The numbers of the bugs that a policy's revision was posted with; none for what is no revision of the patch."""
    return tuple(bug.number for bug in BUGS if policy in bug.revisions)


def has_bug(m: Machine, bug: int) -> bool:
    """Whether this kernel has that bug."""
    return m.config.as_posted >> bug & 1 == 1


def oops(m: Machine, bug: int, point: int) -> None:
    """The kernel dies here of a bug; what it was doing is left as it stands, and the run ends (`engine.loop`)."""
    if m.oops == BUG_NONE:
        m.oops = bug
        m.oops_point = point
        m.oops_ns = m.now_ns
