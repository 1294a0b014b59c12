"""Verdicts, drop reasons and their causes: the one table from which log, comments, help and docs are made.

Reasons carry the kernel's own word (v6.19 include/net/dropreason-core.h, without the SKB_DROP_REASON_ prefix; the
numbers there are not ABI, so ours are our own).  Ours alone are marked: a NIC that has no buffer never makes an skb,
so the kernel has no reason for it.
"""

from typing import NamedTuple

PENDING, DELIVERED, DROPPED, IN_FLIGHT, NOT_RECEIVED, OOPS, NOT_PLAYED, FILTERED, LATER = range(9)
VERDICTS = ("pending", "delivered", "dropped", "in_flight", "not_received", "oops", "not_played", "filtered", "event")

# Why a NIC had no buffer: what stopped the last refill of its ring.
NO_CAUSE, DEVICE_CAP, NOMEM, CPU_BUSY = range(4)


class Named(NamedTuple):
    """A constant with the sentence that explains it."""

    number: int
    name: str
    sentence: str


CAUSES = (
    Named(NO_CAUSE, "", ""),
    Named(
        DEVICE_CAP,
        "DEVICE_CAP",
        "the ring's refill stopped because the device held its cap of reserve buffers",
    ),
    Named(
        NOMEM,
        "NOMEM",
        "the ring's refill stopped because no page was granted, reserve included if the policy has one",
    ),
    Named(CPU_BUSY, "CPU_BUSY", "the ring is full of packets that the softirq has not come to yet"),
)

(
    NO_REASON,
    RX_MISSED,
    RX_LENGTH,
    PFMEMALLOC,
    NO_SOCKET,
    SOCKET_RCVBUFF,
    PROTO_MEM,
    PKT_TOO_SMALL,
    HDR_TRUNC,
    IP_INHDR,
    IP_CSUM,
    IP_NOPROTO,
    TCP_CSUM,
    UDP_CSUM,
    ICMP_CSUM,
    UNHANDLED_PROTO,
    NOT_SPECIFIED,
    OTHERHOST,
    NO_MEMORY,  # NOMEM to the kernel and to the user; here that is a cause
    CPU_BACKLOG,
    TCP_OLD_DATA,
    TCP_OFO_QUEUE_PRUNE,
    QUEUE_PURGE,
    DUP_FRAG,
    FRAG_REASM_TIMEOUT,
    FRAG_EVICTED,
    IP_INADDRERRORS,
    DEV_READY,
    TCP_OFOMERGE,
    TCP_OFO_DROP,
) = range(30)


class Reason(NamedTuple):
    """A drop reason: the word, where it is decided, what it means; what it asks for: emu/verdicts/reason_words.py.

    `by_protocol`: the packet itself is why, or that nobody wants it, whatever memory there is.  A live run hands such a
    packet on: the real stack says so itself, and may answer.
    """

    number: int
    name: str
    point: str
    sentence: str
    source: str
    ours: bool = False
    by_protocol: bool = False


REASONS = (
    Reason(NO_REASON, "", "", "not dropped", ""),
    Reason(
        RX_MISSED,
        "RX_MISSED",
        "nic",
        "The NIC had no receive buffer for the frame; no skb ever existed. `cause` says why the ring was dry.",
        "2.6.12 drivers/net/e1000/e1000_main.c; counted by the hardware as MPC (rx_missed_errors)",
        ours=True,
    ),
    Reason(
        RX_LENGTH,
        "RX_LENGTH",
        "nic",
        "The frame is longer than the device's largest receive buffer allows; the NIC discards it.",
        "2.6.12 drivers/net/e1000/e1000_main.c (long packets are not enabled at MTU 1500); ethtool rx_length_errors",
        ours=True,
    ),
    Reason(
        PFMEMALLOC,
        "PFMEMALLOC",
        "tcp_v4_rcv, udp_rcv, icmp_rcv, sk_filter_trim_cap, __netif_receive_skb_core",
        "Memory is for block I/O only: the packet's socket is not SOCK_MEMALLOC, and its device is in reserve (the "
        "2005 patch) or its buffer came from the reserve (mainline).",
        "Phillips v5, 8 Aug 2005 (tcp_ipv4.c, udp.c, icmp.c); v6.19 net/core/filter.c and net/core/dev.c",
    ),
    Reason(
        NO_SOCKET,
        "NO_SOCKET",
        "tcp_v4_rcv, udp_rcv, udp_v4_mcast_deliver",
        "No socket listens there; TCP answers with a RST, UDP with an ICMP port unreachable, a multicast with nothing.",
        "2.6.12 net/ipv4/tcp_ipv4.c tcp_v4_rcv no_tcp_socket, net/ipv4/udp.c udp_rcv, udp_v4_mcast_deliver",
        by_protocol=True,
    ),
    Reason(
        SOCKET_RCVBUFF,
        "SOCKET_RCVBUFF",
        "sock_queue_rcv_skb",
        "The receive buffer of the UDP or raw socket is full: nobody has read it.",
        "2.6.12 include/net/sock.h sock_queue_rcv_skb",
    ),
    Reason(
        PROTO_MEM,
        "PROTO_MEM",
        "tcp_data_queue",
        "The TCP socket holds more than its receive buffer; pruning found nothing to give back.",
        "2.6.12 net/ipv4/tcp_input.c tcp_data_queue, tcp_prune_queue; v6.19 names it PROTO_MEM",
    ),
    Reason(
        PKT_TOO_SMALL,
        "PKT_TOO_SMALL",
        "ip_rcv, ipv6_rcv, tcp_v4_rcv, udp_rcv, icmp_rcv, icmpv6_rcv, arp_rcv",
        "The packet is shorter than its own header says.",
        "2.6.12 net/ipv4/ip_input.c, tcp_ipv4.c, udp.c",
        by_protocol=True,
    ),
    Reason(
        HDR_TRUNC,
        "HDR_TRUNC",
        "eth_type_trans",
        "The frame is shorter than its link-layer header.",
        "2.6.12 net/ethernet/eth.c",
        by_protocol=True,
    ),
    Reason(
        IP_INHDR,
        "IP_INHDR",
        "ip_rcv, ipv6_rcv, ipv6_frag_rcv",
        "The IP header is malformed: version or a length; or an IPv6 fragment is (not a multiple of 8, too far).",
        "2.6.12 net/ipv4/ip_input.c ip_rcv inhdr_error, net/ipv6/ip6_input.c ipv6_rcv, net/ipv6/reassembly.c",
        by_protocol=True,
    ),
    Reason(
        IP_CSUM,
        "IP_CSUM",
        "ip_rcv",
        "The IPv4 header checksum is wrong.",
        "2.6.12 net/ipv4/ip_input.c ip_rcv",
        by_protocol=True,
    ),
    Reason(
        IP_NOPROTO,
        "IP_NOPROTO",
        "ip_local_deliver_finish, ip6_input_finish",
        "No protocol handler and no raw socket for this IP protocol; answered with an ICMP error.",
        "2.6.12 net/ipv4/ip_input.c ip_local_deliver_finish, net/ipv6/ip6_input.c ip6_input_finish",
        by_protocol=True,
    ),
    Reason(
        TCP_CSUM,
        "TCP_CSUM",
        "tcp_v4_rcv, tcp_rcv_established",
        "The TCP checksum is wrong.",
        "2.6.12 net/ipv4/tcp_ipv4.c tcp_v4_checksum_init (<= 76 bytes at once), tcp_input.c (longer ones later)",
        by_protocol=True,
    ),
    Reason(
        UDP_CSUM,
        "UDP_CSUM",
        "udp_rcv, udp_recvmsg",
        "The UDP checksum is wrong: found at once when no socket takes the datagram, else by the reader (an event).",
        "2.6.12 net/ipv4/udp.c udp_rcv, udp_recvmsg",
        by_protocol=True,
    ),
    Reason(
        ICMP_CSUM,
        "ICMP_CSUM",
        "icmp_rcv, icmpv6_rcv",
        "The ICMP checksum is wrong.",
        "2.6.12 net/ipv4/icmp.c icmp_rcv",
        by_protocol=True,
    ),
    Reason(
        UNHANDLED_PROTO,
        "UNHANDLED_PROTO",
        "netif_receive_skb, vlan_skb_recv",
        "No protocol handler for this ethertype, or no VLAN device for this tag.",
        "2.6.12 net/core/dev.c netif_receive_skb; net/8021q/vlan_dev.c vlan_skb_recv",
        by_protocol=True,
    ),
    Reason(
        NOT_SPECIFIED,
        "NOT_SPECIFIED",
        "tcp_v4_rcv, icmp_rcv, ip_defrag, ipv6_frag_rcv",
        "The kernel frees it without a word: TCP to a broadcast or multicast address, an ICMP type that is unknown or "
        "must not be broadcast, a fragment that is empty or reaches beyond the datagram's end, a datagram that is too "
        "long when put together.",
        "2.6.12 net/ipv4/tcp_ipv4.c tcp_v4_rcv, icmp.c icmp_rcv, ip_fragment.c ip_frag_queue, ip_frag_reasm",
        by_protocol=True,
    ),
    Reason(
        OTHERHOST,
        "OTHERHOST",
        "ip_rcv, ipv6_rcv, arp_rcv",
        "The frame is for another host and a promiscuous NIC took it, or (6.x) for a VLAN that has no device; the "
        "protocol frees it.",
        "2.6.12 net/ipv4/ip_input.c ip_rcv, net/ipv6/ip6_input.c ipv6_rcv, net/ipv4/arp.c arp_rcv; v6.19 net/core/"
        "dev.c vlan_do_receive",
        by_protocol=True,
    ),
    Reason(
        NO_MEMORY,
        "NOMEM",
        "cp_rx_poll, tg3_rx, ip_defrag, ipv6_frag_rcv, udp_v4_mcast_deliver, raw_rcv",
        "No memory for what has to be made to take the packet: a replacement buffer, a fragment queue, a clone.",
        "2.6.12 drivers/net/8139cp.c cp_rx_poll, drivers/net/tg3.c tg3_rx",
    ),
    Reason(
        CPU_BACKLOG,
        "CPU_BACKLOG",
        "netif_rx",
        "The CPU's input queue holds more than netdev_max_backlog packets, or is throttled since it did.",
        "2.6.12 net/core/dev.c netif_rx",
    ),
    Reason(
        TCP_OLD_DATA,
        "TCP_OLD_DATA",
        "tcp_data_queue",
        "Every byte of the segment has been received before: a retransmission that was not needed.",
        "2.6.12 net/ipv4/tcp_input.c tcp_data_queue",
        by_protocol=True,
    ),
    Reason(
        TCP_OFO_QUEUE_PRUNE,
        "TCP_OFO_QUEUE_PRUNE",
        "tcp_prune_queue",
        "The out-of-order queue is thrown away to get below the receive buffer.",
        "2.6.12 net/ipv4/tcp_input.c tcp_prune_queue",
    ),
    Reason(
        QUEUE_PURGE,
        "QUEUE_PURGE",
        "inet_sock_destruct",
        "The socket is closed with packets unread.",
        "2.6.12 net/ipv4/af_inet.c inet_sock_destruct",
    ),
    Reason(
        DUP_FRAG,
        "DUP_FRAG",
        "ip_defrag, ipv6_frag_rcv",
        "The fragment repeats what its queue holds, or is replaced by one that does (an event).",
        "2.6.12 net/ipv4/ip_fragment.c ip_frag_queue; v6.19 names it DUP_FRAG",
        by_protocol=True,
    ),
    Reason(
        FRAG_REASM_TIMEOUT,
        "FRAG_REASM_TIMEOUT",
        "ip_expire, ip6_frag_expire",
        "The other fragments did not come in time.",
        "2.6.12 net/ipv4/ip_fragment.c ip_expire, net/ipv6/reassembly.c ip6_frag_expire",
    ),
    Reason(
        FRAG_EVICTED,
        "FRAG_EVICTED",
        "ip_evictor, ip6_evictor",
        "Fragment queues hold more than ipfrag_high_thresh: the least recently used are freed.",
        "2.6.12 net/ipv4/ip_fragment.c ip_evictor",
        ours=True,
    ),
    Reason(
        IP_INADDRERRORS,
        "IP_INADDRERRORS",
        "ip_rcv_finish, ip6_rcv_finish",
        "The address is not this host's, and the host does not forward.",
        "2.6.12 net/ipv4/route.c ip_route_input, ip_error",
        by_protocol=True,
    ),
    Reason(
        DEV_READY,
        "DEV_READY",
        "nic, e1000_down",
        "The interface is down, or goes down with the packet in its ring.",
        "2.6.12 drivers/net/e1000 e1000_down; v6.19 names it DEV_READY",
    ),
    Reason(
        TCP_OFOMERGE,
        "TCP_OFOMERGE",
        "tcp_data_queue",
        "The out-of-order queue holds every byte of the segment already; or a longer one took its place there.",
        "2.6.12 net/ipv4/tcp_input.c tcp_data_queue; v6.19 names it TCP_OFOMERGE",
        by_protocol=True,
    ),
    Reason(
        TCP_OFO_DROP,
        "TCP_OFO_DROP",
        "tcp_ofo_queue",
        "A longer segment has filled the hole and covers what waited behind it in the out-of-order queue.",
        "2.6.12 net/ipv4/tcp_input.c tcp_ofo_queue; v6.19 names it TCP_OFO_DROP",
        by_protocol=True,
    ),
)

assert all(reason.number == index for index, reason in enumerate(REASONS)), "a reason's number is its row"
assert all(cause.number == index for index, cause in enumerate(CAUSES)), "a cause's number is its row"

MAX_REASONS = 64  # room for later reasons without changing the record's layout
assert len(REASONS) <= MAX_REASONS, "the machine's counters have one place per reason"

# The kernel function in which a verdict fell (column `point`).
(
    AT_NOWHERE,
    AT_NIC,
    AT_ETH_TYPE_TRANS,
    AT_NETIF_RECEIVE_SKB,
    AT_ARP_RCV,
    AT_IP_RCV,
    AT_IP_LOCAL_DELIVER,
    AT_TCP_V4_RCV,
    AT_TCP_DATA_QUEUE,
    AT_TCP_RCV_ESTABLISHED,
    AT_UDP_RCV,
    AT_SOCK_QUEUE_RCV_SKB,
    AT_ICMP_RCV,
    AT_SK_FILTER,
    AT_IP_DEFRAG,
    AT_PACKET_RCV,
    AT_RAW_RCV,
    AT_IGMP_RCV,
    AT_IP_FORWARD,
    AT_IP_RCV_FINISH,
    AT_IP_EXPIRE,
    AT_IP_EVICTOR,
    AT_IPV6_RCV,
    AT_IP6_INPUT_FINISH,
    AT_ICMPV6_RCV,
    AT_VLAN_SKB_RECV,
    AT_BR_FORWARD,
    AT_NETIF_RX,
    AT_CP_RX_POLL,
    AT_TG3_RX,
    AT_E1000_CLEAN_RX_IRQ,
    AT_E1000_ALLOC_RX_BUFFERS,
    AT_E1000_DOWN,
    AT_TCP_TIMEWAIT_STATE_PROCESS,
    AT_TCP_PRUNE_QUEUE,
    AT_INET_SOCK_DESTRUCT,
    AT_UDP_V4_MCAST_DELIVER,
    AT_CACHE_GROW,
    AT_DEV_MEMALLOC_SKB,
    AT_UDP_RECVMSG,
    AT_IPV6_FRAG_RCV,
    AT_IP6_FRAG_EXPIRE,
    AT_IP6_EVICTOR,
    AT_IP6_FORWARD,
    AT_IP6_RCV_FINISH,
    AT_TCP_OFO_QUEUE,
) = range(46)
POINTS = (
    "",
    "nic",
    "eth_type_trans",
    "netif_receive_skb",
    "arp_rcv",
    "ip_rcv",
    "ip_local_deliver_finish",
    "tcp_v4_rcv",
    "tcp_data_queue",
    "tcp_rcv_established",
    "udp_rcv",
    "sock_queue_rcv_skb",
    "icmp_rcv",
    "sk_filter_trim_cap",
    "ip_defrag",
    "packet_rcv",
    "raw_rcv",
    "igmp_rcv",
    "ip_forward",
    "ip_rcv_finish",
    "ip_expire",
    "ip_evictor",
    "ipv6_rcv",
    "ip6_input_finish",
    "icmpv6_rcv",
    "vlan_skb_recv",
    "br_forward",
    "netif_rx",
    "cp_rx_poll",
    "tg3_rx",
    "e1000_clean_rx_irq",
    "e1000_alloc_rx_buffers",
    "e1000_down",
    "tcp_timewait_state_process",
    "tcp_prune_queue",
    "inet_sock_destruct",
    "udp_v4_mcast_deliver",
    "cache_grow",
    "dev_memalloc_skb",
    "udp_recvmsg",
    "ipv6_frag_rcv",
    "ip6_frag_expire",
    "ip6_evictor",
    "ip6_forward",
    "ip6_rcv_finish",
    "tcp_ofo_queue",
)
