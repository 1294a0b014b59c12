"""What a lost packet needed, what there was, and what would have saved it: by reason, cause and rule, from one table.

Each text is a format over the row's columns and over `facts_of`; the first line of the table that fits counts.  It says
what the reason's own test compares (drop_reason.REASONS), the other way round: the least change with which the test
would have let the packet through.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.kernel.drop_reason import (
    CAUSES,
    CPU_BACKLOG,
    CPU_BUSY,
    DEV_READY,
    DEVICE_CAP,
    DUP_FRAG,
    FRAG_EVICTED,
    FRAG_REASM_TIMEOUT,
    HDR_TRUNC,
    ICMP_CSUM,
    IP_CSUM,
    IP_INADDRERRORS,
    IP_INHDR,
    IP_NOPROTO,
    NO_CAUSE,
    NO_MEMORY,
    NO_SOCKET,
    NOMEM,
    NOT_SPECIFIED,
    OTHERHOST,
    PFMEMALLOC,
    PKT_TOO_SMALL,
    PROTO_MEM,
    QUEUE_PURGE,
    REASONS,
    RX_LENGTH,
    RX_MISSED,
    SOCKET_RCVBUFF,
    TCP_CSUM,
    TCP_OFO_DROP,
    TCP_OFO_QUEUE_PRUNE,
    TCP_OFOMERGE,
    TCP_OLD_DATA,
    UDP_CSUM,
    UNHANDLED_PROTO,
)
from emu.kernel.policy import RULE_CORE, RULE_FILTER, RULE_ICMP, RULE_MARK, RULE_NO_RESERVE, RULE_TCP, RULE_UDP, RULES

ANY = -1


class Need(NamedTuple):
    """What a packet lost for a reason needed; `causes` and `rules` narrow it down, empty: whatever they are."""

    reason: int
    needed: str
    there_was: str
    saved: tuple[str, ...]
    causes: tuple[int, ...] = ()
    rules: tuple[int, ...] = ()
    memalloc: int = ANY


_PAGES = "{zone} has free_pages {free_pages} at a GFP_ATOMIC floor of {floor_pages}: {short_of_pages}"
_COUNT = "rx_reserve_used of {skb_device} is {reserve_used_before} of cap {cap_skbs}; {socket_is}"
_NO_REPEAT = "nothing, and nothing is lost with it: the bytes are there already"
_SENDER = "nothing here: the sender made it so, or the wire damaged it"

NEEDS = (
    Need(
        RX_MISSED,
        "a receive buffer in the ring of {device}; the refill needed one from the reserve",
        "ring_free {ring_free}; {device} had {reserve_used_before} of its cap of {cap_skbs} reserve buffers out",
        (
            "a larger cap (device rx_reserve, now {cap_skbs})",
            "reserve buffers that come back sooner: what holds them is in the sockets' queues, or counted by nobody",
        ),
        causes=(DEVICE_CAP,),
    ),
    Need(
        RX_MISSED,
        "a receive buffer in the ring of {device}; the refill needed a page",
        "ring_free {ring_free}; " + _PAGES + "; and this policy has no reserve for receive buffers",
        (
            "{pages_to_have}",
            "a policy that lets the device into the reserve (emu policies)",
        ),
        causes=(NOMEM,),
        rules=(RULE_NO_RESERVE,),
    ),
    Need(
        RX_MISSED,
        "a receive buffer in the ring of {device}; the refill needed a page",
        "ring_free {ring_free}; " + _PAGES + "; the reserve gave none either",
        (
            "{pages_to_have}",
            "a reserve with pages left: fewer buffers held by readers that wait, or a larger reserve (min_free_kbytes)",
        ),
        causes=(NOMEM,),
    ),
    Need(
        RX_MISSED,
        "a free descriptor in the ring of {device}",
        "ring_free {ring_free}: the ring is full of packets that the softirq has not come to yet",
        ("a longer ring (device ring)", "a faster CPU, or fewer packets at a time: memory was not what lacked"),
        causes=(CPU_BUSY,),
    ),
    Need(
        RX_MISSED,
        "a receive buffer in the ring of {device}",
        "ring_free {ring_free}",
        ("a buffer in the ring when the frame arrived",),
    ),
    Need(
        RX_LENGTH,
        "a frame no longer than the device's largest receive buffer takes",
        "{length} bytes",
        ("a larger MTU of {device} (device mtu)", "a sender that keeps to the MTU"),
    ),
    Need(
        PFMEMALLOC,
        "SOCK_MEMALLOC on its socket, which block I/O depends on: only that passes while {skb_device} is in reserve",
        _COUNT,
        ("SOCK_MEMALLOC set on the socket: without it block I/O's own packets are dropped (emu explain bug 6)",),
        rules=(RULE_TCP, RULE_UDP),
        memalloc=1,
    ),
    Need(
        PFMEMALLOC,
        "{skb_device} out of reserve (its rx_reserve_used at 0), or a socket that is SOCK_MEMALLOC",
        _COUNT,
        (
            "rx_reserve_used of {skb_device} at 0: {packets_to_zero} must pass the check before it, each gives one back",
            "SOCK_MEMALLOC on its socket, if block I/O depends on it",
        ),
        rules=(RULE_TCP, RULE_UDP),
    ),
    Need(
        PFMEMALLOC,
        "{skb_device} out of reserve (its rx_reserve_used at 0): while it is in, every ICMP is dropped",
        _COUNT,
        ("rx_reserve_used of {skb_device} at 0: {packets_to_zero} must pass the check before it, each gives one back",),
        rules=(RULE_ICMP,),
    ),
    Need(
        PFMEMALLOC,
        "a buffer from ordinary memory, or a socket that is SOCK_MEMALLOC",
        "the skb is marked as the reserve's (pfmemalloc {pfmemalloc}); {socket_is}",
        (
            "an ordinary buffer: " + _PAGES + " when the verdict fell; the buffer was allocated earlier",
            "SOCK_MEMALLOC on its socket, if block I/O depends on it",
        ),
        rules=(RULE_MARK, RULE_FILTER),
    ),
    Need(
        PFMEMALLOC,
        "a buffer from ordinary memory, or a protocol that may use the reserve: ARP, IP, IPv6, VLAN",
        "the skb is tagged as the reserve's (pfmemalloc {pfmemalloc}); its class is {class}",
        ("an ordinary buffer: " + _PAGES + " when the verdict fell; the buffer was allocated earlier",),
        rules=(RULE_CORE,),
    ),
    Need(
        PFMEMALLOC,
        "a buffer from ordinary memory, or a socket that is SOCK_MEMALLOC",
        _COUNT,
        ("memory outside the reserve when it was received",),
    ),
    Need(
        NO_SOCKET,
        "a socket that listens at the destination of {flow}",
        "none",
        ("a program that listens there; memory was not what lacked",),
    ),
    Need(
        SOCKET_RCVBUFF,
        "room in the receive buffer of {socket_or_tap}",
        "none: what is queued there and unread, overhead included, fills it",
        ("a reader that comes sooner (readers)", "a larger receive buffer (readers.udp_rcvbuf, SO_RCVBUF)"),
    ),
    Need(
        PROTO_MEM,
        "room in the receive buffer of {socket}",
        "more than its receive buffer is queued, and pruning gave nothing back",
        ("a reader that comes sooner (readers)", "a larger receive buffer (readers.tcp_rcvbuf, SO_RCVBUF)"),
    ),
    Need(PKT_TOO_SMALL, "as many bytes as its headers say", "{length} bytes on the wire", (_SENDER,)),
    Need(HDR_TRUNC, "a whole link-layer header", "{length} bytes on the wire", (_SENDER,)),
    Need(IP_INHDR, "a sound IP header", "one with a wrong version, length or fragment", (_SENDER,)),
    Need(
        IP_CSUM,
        "the right IPv4 header checksum",
        "a wrong one",
        (_SENDER, "if the capture was taken before the sender's NIC finished it: --checksums trust"),
    ),
    Need(
        IP_NOPROTO,
        "a handler or a raw socket for the IP protocol of {flow}",
        "none",
        ("a raw socket for that protocol (raw)",),
    ),
    Need(
        TCP_CSUM,
        "the right TCP checksum",
        "a wrong one",
        (_SENDER, "if the capture was taken before the sender's NIC finished it: --checksums trust"),
    ),
    Need(
        UDP_CSUM,
        "the right UDP checksum",
        "a wrong one",
        (_SENDER, "if the capture was taken before the sender's NIC finished it: --checksums trust"),
    ),
    Need(ICMP_CSUM, "the right ICMP checksum", "a wrong one", (_SENDER,)),
    Need(
        UNHANDLED_PROTO,
        "a handler for its ethertype, or a device for its VLAN tag",
        "none (class {class}, VLAN {vlan})",
        ("a VLAN device for that tag, or a handler for that ethertype; memory was not what lacked",),
    ),
    Need(NOT_SPECIFIED, "to be something that {point} takes", "it is not", (_SENDER,)),
    Need(OTHERHOST, "this host's MAC address as its destination", "another host's", ("nothing: it was not for us",)),
    Need(
        NO_MEMORY,
        "memory for a copy, a clone, a fragment queue or a buffer to put in its place",
        _PAGES,
        ("{pages_to_have}",),
        causes=(NO_CAUSE, NOMEM),
    ),
    Need(
        NO_MEMORY,
        "a buffer to put in its place, from the reserve",
        "{device} had {reserve_used_before} of its cap of {cap_skbs} reserve buffers out",
        ("a larger cap (device rx_reserve, now {cap_skbs})", "{pages_to_have}"),
        causes=(DEVICE_CAP,),
    ),
    Need(NO_MEMORY, "memory", _PAGES, ("{pages_to_have}",)),
    Need(
        CPU_BACKLOG,
        "room in the CPU's input queue",
        "backlog_len {backlog_len}: full, or throttled since it was",
        ("a larger netdev_max_backlog (machine.netdev_max_backlog)", "a driver with NAPI, which has no such queue"),
    ),
    Need(TCP_OLD_DATA, "a byte that the host does not have", "none: it ends at or before rcv_nxt", (_NO_REPEAT,)),
    Need(
        TCP_OFO_QUEUE_PRUNE,
        "room in the receive buffer of {socket}",
        "none: its out-of-order queue was thrown away",
        ("a larger receive buffer (readers.tcp_rcvbuf, SO_RCVBUF)", "the segment that is missing before it"),
    ),
    Need(QUEUE_PURGE, "a reader before the socket closed", "none came", ("a program that reads before it closes",)),
    Need(DUP_FRAG, "bytes that its fragment queue does not hold", "they are there already", (_NO_REPEAT,)),
    Need(
        FRAG_REASM_TIMEOUT,
        "the other fragments of its datagram, in time",
        "ipfrag_time was over",
        ("the lost fragments: emu show --flow tells what became of them", "a longer ip.ipfrag_time_ns"),
    ),
    Need(
        FRAG_EVICTED,
        "room among the fragments that wait",
        "they hold more than ipfrag_high_thresh",
        ("a larger ip.ipfrag_high_thresh_bytes", "fewer fragments that never become whole"),
    ),
    Need(
        IP_INADDRERRORS,
        "a destination that is this host's address",
        "{flow}",
        ("nothing: it was not for us, and this host does not forward", "--host, if the wrong end was taken for ours"),
    ),
    Need(DEV_READY, "{device} up", "it was down, or went down with the packet in its ring", ("the interface up",)),
    Need(TCP_OFOMERGE, "a byte that the out-of-order queue does not hold", "none", (_NO_REPEAT,)),
    Need(TCP_OFO_DROP, "a byte that the host does not have", "none: a longer segment covers it", (_NO_REPEAT,)),
)


class Answer(NamedTuple):
    """A need with a row's numbers filled in."""

    needed: str
    there_was: str
    saved: tuple[str, ...]


def answer_for(row: Mapping[str, Any]) -> Answer | None:
    """What a lost packet needed, what there was, what would have saved it; None when its row has no drop reason."""
    for need in NEEDS:
        if _fits(need, row):
            facts = facts_of(row)
            return Answer(
                need.needed.format_map(facts),
                need.there_was.format_map(facts),
                tuple(text.format_map(facts) for text in need.saved),
            )
    return None


def _fits(need: Need, row: Mapping[str, Any]) -> bool:
    return (
        row["reason"] == REASONS[need.reason].name
        and (not need.causes or row["cause"] in [CAUSES[cause].name for cause in need.causes])
        and (not need.rules or row["policy_rule"] in [RULES[rule] for rule in need.rules])
        and need.memalloc in (ANY, row["memalloc"])
    )


def facts_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's columns, and what follows from them in words; what the file does not say is `?`."""
    facts: dict[str, Any] = {name: "?" if value is None else value for name, value in row.items()}
    facts["skb_device"] = facts["skb_device"] or facts["device"]
    facts["socket_or_tap"] = facts["socket"] if facts["socket"] not in ("", "?") else "a socket that listens in"
    facts["socket_is"] = _socket_is(row)
    free, floor, used = row["free_pages"], row["floor_pages"], row["reserve_used_before"]
    facts["short_of_pages"], facts["pages_to_have"] = _pages(free, floor, facts["zone"])
    facts["packets_to_zero"] = "?" if used is None else f"{used} packet{'' if used == 1 else 's'}"
    return facts


def _socket_is(row: Mapping[str, Any]) -> str:
    if row["socket"] is None:
        return "its socket is not in this file, only that SOCK_MEMALLOC is " + ("set" if row["memalloc"] else "not set")
    if not row["socket"]:
        return "no socket was looked up"
    return f"socket {row['socket']} is {'one of block I/O' if row['memalloc'] else 'not SOCK_MEMALLOC'}"


def _pages(free: int | None, floor: int | None, zone: str) -> tuple[str, str]:
    """How far free pages are from what GFP_ATOMIC gets one at, and what would have had to be."""
    if free is None or floor is None:
        return "not known", "more free pages"
    if free > floor:
        # The numbers are those of the verdict; the refill, or the page's order, failed for another moment's.
        return "enough at that moment", "free memory a moment sooner, when it was asked for, or in larger pieces"
    missing = floor + 1 - free
    return f"{missing} too few for one page", f"{missing} more free page{'' if missing == 1 else 's'} in {zone}"
