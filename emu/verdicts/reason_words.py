"""What each drop reason asked for, what there was, and what would have saved the packet, in words with a row's numbers.

One table for `emu explain`, `emu show --frame`, `emu diff` and `emu step`.  `needed`, `had` and `saved` are formats
over the columns of the log (`schema.COLUMNS`); names and texts are filled in as phrases, and what a row does not tell
as such (`explain.explain_row`).  The first line whose cause, rule and point are the row's speaks for it; a reason's
last line speaks for all that is left.  Each follows the code that decides: emu/kernel, at the reason's `point`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from emu.kernel import drop_reason as dr
from emu.kernel import policy


class Words(NamedTuple):
    """How a drop for a reason is explained; empty `causes`, `rules` or `points` mean any.

    `needed`, `had` and `saved` are noun phrases without a full stop.
    """

    reason: int
    needed: str
    had: str
    saved: str
    causes: tuple[int, ...] = ()
    rules: tuple[int, ...] = ()
    points: tuple[int, ...] = ()

    def speak_for(self, row: Mapping[str, Any]) -> bool:
        """Whether these words are about a row of the log that was dropped for this reason."""
        return all(row[column] in names for column, names in self.conditions().items() if names)

    def conditions(self) -> dict[str, tuple[str, ...]]:
        """The columns that decide whether the words fit, each with the values that it may have; none: any."""
        return {
            "cause": tuple(dr.CAUSES[cause].name for cause in self.causes),
            "policy_rule": tuple(policy.RULES[rule] for rule in self.rules),
            "point": tuple(dr.POINTS[point] for point in self.points),
        }


MEMORY = "free_pages {free_pages} of {zone}, of which GFP_ATOMIC gets one only above {floor_pages}"
RESERVE = "reserve_used_before {reserve_used_before} of cap_skbs {cap_skbs}"
DRIVERS = (dr.AT_CP_RX_POLL, dr.AT_TG3_RX)
READ_SOONER = "a reader that reads sooner, or a larger receive buffer"
RIGHT_CSUM = "a right checksum; where a capture holds what its host left to the NIC, replay.checksums trust"

WORDS = (
    Words(
        dr.RX_MISSED,
        "a receive descriptor of {device} that the NIC may fill (an aggregated frame: one for each segment)",
        f"ring_free {{ring_free}}, for the last refill stopped at the cap: {RESERVE}; {MEMORY}",
        "a reserve buffer that a checked packet gave back before the last refill, a cap_skbs above {cap_skbs}, or "
        "free_pages above {floor_pages} at that refill",
        causes=(dr.DEVICE_CAP,),
    ),
    Words(
        dr.RX_MISSED,
        "a receive descriptor of {device} that the NIC may fill (an aggregated frame: one for each segment)",
        f"ring_free {{ring_free}}, for the last refill got no memory, and the policy lets it use no reserve; {MEMORY}",
        "free_pages above {floor_pages} at the last refill, or a policy whose receive buffers may use the reserve",
        causes=(dr.NOMEM,),
        rules=(policy.RULE_NO_RESERVE,),
    ),
    Words(
        dr.RX_MISSED,
        "a receive descriptor of {device} that the NIC may fill (an aggregated frame: one for each segment)",
        f"ring_free {{ring_free}}, for the last refill got no memory, nor any of a reserve: {RESERVE}; {MEMORY}",
        "free_pages above {floor_pages} at the last refill, or a reserve that it might use and that was not empty",
        causes=(dr.NOMEM,),
    ),
    Words(
        dr.RX_MISSED,
        "a receive descriptor of {device} that the NIC may fill (an aggregated frame: one for each segment)",
        "ring_free {ring_free}, for the softirq has not come to the packets in the ring; backlog_len {backlog_len}",
        "a CPU with more time, a longer ring (device.*.ring), or fewer packets at once",
        causes=(dr.CPU_BUSY,),
    ),
    Words(
        dr.RX_MISSED,
        "a receive descriptor of {device} that the NIC may fill (an aggregated frame: one for each segment)",
        f"ring_free {{ring_free}}: {RESERVE}; {MEMORY}",
        "a refill that got memory, or a CPU that came sooner: the cause is not told",
    ),
    Words(
        dr.RX_LENGTH,
        "a frame no longer than {device} takes: 1518 B without FCS up to MTU 1500, else what its buffers hold",
        "length {length} B",
        "a larger MTU of {device} (device.*.mtu), or shorter frames",
    ),
    Words(
        dr.PFMEMALLOC,
        "a SOCK_MEMALLOC socket, while {device} has reserve buffers out",
        f"{{socket}} with memalloc {{memalloc}}; {RESERVE}",
        "SOCK_MEMALLOC on {socket}, or no reserve buffer out of {device}",
        rules=(policy.RULE_TCP, policy.RULE_UDP),
    ),
    Words(
        dr.PFMEMALLOC,
        "{device} with no reserve buffer out: icmp_rcv asks for no socket and drops every type",
        RESERVE,
        "no reserve buffer out of {device}; no socket saves ICMP",
        rules=(policy.RULE_ICMP,),
    ),
    Words(
        dr.PFMEMALLOC,
        "no mark: icmp_rcv asks for no socket and drops every type",
        "an skb that is marked as the reserve's: pfmemalloc {pfmemalloc}, from_reserve {from_reserve}",
        "a buffer that is not the reserve's; no socket saves ICMP",
        rules=(policy.RULE_MARK,),
        points=(dr.AT_ICMP_RCV,),
    ),
    Words(
        dr.PFMEMALLOC,
        "a SOCK_MEMALLOC socket, since the skb is marked as the reserve's",
        "{socket} with memalloc {memalloc}; pfmemalloc {pfmemalloc}, from_reserve {from_reserve}",
        "SOCK_MEMALLOC on {socket}, or a buffer that is not the reserve's",
        rules=(policy.RULE_MARK,),
    ),
    Words(
        dr.PFMEMALLOC,
        "ARP, IP, IPv6 or a VLAN tag: nothing else goes up in a buffer of the reserve",
        "{flow} with pfmemalloc {pfmemalloc}",
        "a buffer that is not the reserve's: more free memory when it was allocated",
        rules=(policy.RULE_CORE,),
    ),
    Words(
        dr.PFMEMALLOC,
        "a SOCK_MEMALLOC socket, since the buffer is the reserve's",
        "{socket} with memalloc {memalloc}; pfmemalloc {pfmemalloc}",
        "SOCK_MEMALLOC on {socket}, or a buffer that is not the reserve's: more free memory when it was allocated",
        rules=(policy.RULE_FILTER,),
    ),
    Words(
        dr.PFMEMALLOC,
        "a SOCK_MEMALLOC socket, or memory that is not the reserve's",
        f"memalloc {{memalloc}}, pfmemalloc {{pfmemalloc}}; {RESERVE}",
        "SOCK_MEMALLOC on {socket}, or memory that is not the reserve's",
    ),
    Words(
        dr.NO_SOCKET,
        "a socket that has joined, on the port of {flow}",
        "none",
        "a socket on that port when the datagram came",
        points=(dr.AT_UDP_V4_MCAST_DELIVER,),
    ),
    Words(
        dr.NO_SOCKET,
        "a socket for {flow}",
        "none",
        "a socket there, bound or listening, when the packet came",
    ),
    Words(
        dr.SOCKET_RCVBUFF,
        "room in the receive buffer of {socket}: rmem_alloc and truesize below rcvbuf together",
        "a buffer full of what nobody has read yet",
        f"{READ_SOONER} (readers.udp_rcvbuf, socket.*.rcvbuf, raw.*.rcvbuf)",
    ),
    Words(
        dr.PROTO_MEM,
        "room in the receive buffer of {socket} (rmem_alloc not above rcvbuf), and in TCP's memory (tcp_mem)",
        "too little of one of them, and pruning gave too little back",
        f"{READ_SOONER} (readers.tcp_rcvbuf, socket.*.rcvbuf)",
    ),
    Words(
        dr.PKT_TOO_SMALL,
        "all bytes that the headers of class {class} ask for and speak of",
        "length {length} B, which is too short",
        "a sender that sends the whole packet",
    ),
    Words(
        dr.HDR_TRUNC,
        "a whole link-layer header",
        "a frame of length {length} B that ends before it does",
        "a sender that sends the whole frame",
    ),
    Words(
        dr.IP_INHDR,
        "an IPv6 fragment of a multiple of 8 B, unless it is the last, that ends within 65535 B",
        "one of another length or place",
        "a sender that makes right fragments",
        points=(dr.AT_IPV6_FRAG_RCV,),
    ),
    Words(
        dr.IP_INHDR,
        "an IP header with the right version, and with lengths that fit",
        "a malformed one in length {length} B",
        "a sender that makes a right header",
    ),
    Words(dr.IP_CSUM, "a right checksum of the IPv4 header", "a wrong one", RIGHT_CSUM),
    Words(
        dr.IP_NOPROTO,
        "a protocol handler or a raw socket for {flow}",
        "neither",
        "a raw socket of that protocol (raw.*)",
    ),
    Words(dr.TCP_CSUM, "a right TCP checksum", "a wrong one", RIGHT_CSUM),
    Words(
        dr.UDP_CSUM,
        "a right UDP checksum",
        "a wrong one, which the reader found",
        RIGHT_CSUM,
        points=(dr.AT_UDP_RECVMSG,),
    ),
    Words(dr.UDP_CSUM, "a right UDP checksum, or a socket that takes the datagram", "neither", RIGHT_CSUM),
    Words(dr.ICMP_CSUM, "a right ICMP checksum", "a wrong one", RIGHT_CSUM),
    Words(
        dr.UNHANDLED_PROTO,
        "a VLAN device over {device} for vlan {vlan}",
        "none",
        "a VLAN device with that id (upper.*)",
        points=(dr.AT_VLAN_SKB_RECV,),
    ),
    Words(
        dr.UNHANDLED_PROTO,
        "a protocol handler for its ethertype, and a device for its VLAN tag if it has one",
        "not both: class {class}, vlan {vlan}",
        "a kernel with such a handler; for a tag a VLAN device (upper.*)",
    ),
    Words(
        dr.NOT_SPECIFIED,
        "a link-layer address of this host alone: TCP takes no broadcast and no multicast",
        "{flow} to many",
        "a sender that addresses the host",
        points=(dr.AT_TCP_V4_RCV,),
    ),
    Words(
        dr.NOT_SPECIFIED,
        "an ICMP type that is known, and that may be broadcast if it is",
        "another, in {flow}",
        "a sender that sends another type, or to the host alone",
        points=(dr.AT_ICMP_RCV,),
    ),
    Words(
        dr.NOT_SPECIFIED,
        "a fragment with bytes in it that ends within its datagram, and a datagram of at most 65535 B",
        "not that",
        "a sender that makes right fragments",
        points=(dr.AT_IP_DEFRAG, dr.AT_IPV6_FRAG_RCV),
    ),
    Words(
        dr.NOT_SPECIFIED,
        "what its protocol takes",
        "something else, at point {point}; the kernel has no word for it",
        "another packet",
    ),
    Words(
        dr.OTHERHOST,
        "the link-layer address of this host and, where it has a VLAN tag, a device for it",
        "another host's address, which a promiscuous {device} took, or no device for vlan {vlan}",
        "a sender that addresses the host, or a VLAN device (upper.*)",
    ),
    Words(
        dr.NO_MEMORY,
        "a new buffer for the ring of {device}, to take its packet out in the old one",
        f"none, at the cap: {RESERVE}; {MEMORY}",
        "a reserve buffer that a checked packet gave back before, a cap_skbs above {cap_skbs}, or free_pages above "
        "{floor_pages}",
        causes=(dr.DEVICE_CAP,),
    ),
    Words(
        dr.NO_MEMORY,
        "a new buffer for the ring of {device}, to take its packet out in the old one",
        f"none, and the policy lets it use no reserve; {MEMORY}",
        "free_pages above {floor_pages}, or a policy whose receive buffers may use the reserve",
        causes=(dr.NOMEM,),
        rules=(policy.RULE_NO_RESERVE,),
        points=DRIVERS,
    ),
    Words(
        dr.NO_MEMORY,
        "a new buffer for the ring of {device}, to take its packet out in the old one",
        f"none, nor any of a reserve: {RESERVE}; {MEMORY}",
        "free_pages above {floor_pages}, or a reserve that it might use and that was not empty",
        points=DRIVERS,
    ),
    Words(
        dr.NO_MEMORY,
        "memory for a fragment queue or a copy of the first fragment, with GFP_ATOMIC",
        f"none: {MEMORY}",
        "free_pages above {floor_pages}",
        points=(dr.AT_IP_DEFRAG, dr.AT_IPV6_FRAG_RCV),
    ),
    Words(
        dr.NO_MEMORY,
        "memory for the clone that a socket gets, with GFP_ATOMIC",
        f"none: {MEMORY}",
        "free_pages above {floor_pages}",
        points=(dr.AT_UDP_V4_MCAST_DELIVER, dr.AT_RAW_RCV),
    ),
    Words(
        dr.NO_MEMORY,
        "memory for what has to be made to take the packet",
        f"none: {MEMORY}",
        "free_pages above {floor_pages}",
    ),
    Words(
        dr.CPU_BACKLOG,
        "room in the CPU's input queue: up to netdev_max_backlog packets, and once it was full, none until it is empty",
        "backlog_len {backlog_len}",
        "a CPU with more time, a larger machine.netdev_max_backlog, or NAPI (device.*.napi)",
    ),
    Words(
        dr.TCP_OLD_DATA,
        "a byte that {socket} has not received yet",
        "none: the segment ends at or before rcv_nxt",
        "nothing: its data had come before",
    ),
    Words(
        dr.TCP_OFO_QUEUE_PRUNE,
        "room in the receive buffer of {socket} (rmem_alloc not above rcvbuf)",
        "too little, so the out-of-order queue went, and this segment in it",
        f"{READ_SOONER} (readers.tcp_rcvbuf), or no hole before it",
    ),
    Words(
        dr.QUEUE_PURGE,
        "a reader, before {socket} was closed",
        "none in time",
        "a reader that reads sooner, or a later end of the connection",
    ),
    Words(
        dr.DUP_FRAG,
        "bytes that no other fragment of its datagram has",
        "none: others cover it",
        "nothing: its bytes are there without it",
    ),
    Words(
        dr.FRAG_REASM_TIMEOUT,
        "every other fragment of its datagram, within ipfrag_time",
        "not all of them",
        "the fragments that are missing, in time: look for drops between the same addresses",
    ),
    Words(
        dr.FRAG_EVICTED,
        "room for its fragment queue: ipfrag_high_thresh bytes, 1024 queues",
        "more fragments than that, and this queue was the least recently used",
        "a larger ip.ipfrag_high_thresh_bytes, or fewer fragments",
    ),
    Words(
        dr.IP_INADDRERRORS,
        "an address of this host as its destination, or a host that forwards",
        "neither: {flow}",
        "its address among the host's (ip.local_addrs), or forwarding (ip.forward)",
    ),
    Words(
        dr.DEV_READY,
        "{device} up until the driver takes it off the ring",
        "an interface that goes down with the packet in its ring",
        "an interface that stays up",
        points=(dr.AT_E1000_DOWN,),
    ),
    Words(
        dr.DEV_READY,
        "{device} up",
        "an interface that is down",
        "an interface that is up when the frame arrives",
    ),
    Words(
        dr.TCP_OFOMERGE,
        "a byte that the out-of-order queue of {socket} does not have from another segment",
        "none: others cover it",
        "nothing: its bytes are there without it",
    ),
    Words(
        dr.TCP_OFO_DROP,
        "a byte that {socket} had not received when the hole before it was filled",
        "none: the segment ends at or before rcv_nxt",
        "nothing: its bytes are there without it",
    ),
)

_OF_ALL_ELSE = {words.reason for words in WORDS if not any(words.conditions().values())}
assert {reason.number for reason in dr.REASONS} - _OF_ALL_ELSE == {dr.NO_REASON}, "every row of a reason finds words"


def words_of(reason: int) -> tuple[Words, ...]:
    """All that is said of a reason, in the order in which a row tries them."""
    return tuple(words for words in WORDS if words.reason == reason)


def causes_of(reason: int) -> tuple[int, ...]:
    """The causes that can stand behind a reason."""
    behind = {cause for words in words_of(reason) for cause in words.causes}
    return tuple(cause.number for cause in dr.CAUSES if cause.number in behind)
