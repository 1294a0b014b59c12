"""The field table: every piece of the machine's state, and the row of a packet, declared once.

Units are in the names or stated: pages of 4096 B, `_ns` nanoseconds, `_kbytes`, everything else counts things.
Names are the kernel's where the kernel has one.  An index that points nowhere is -1 (`NONE`).
"""

from typing import Annotated

from emu.kernel.closed_loop import LATENCY_BUCKETS, MAX_CONNS, MAX_SESSIONS, MAX_TX, IscsiSession, TcpConn, TxFrame, Vm
from emu.kernel.drop_reason import MAX_REASONS
from emu.kernel.iscsi_follow_state import Follow
from emu.kernel.record import record

NONE = -1
NEVER_NS = (1 << 63) - 1
PAGE_SIZE = 4096

# Fixed maxima: they are part of the compiled type.
MAX_ZONES = 3
MAX_ORDER = 11
MAX_CACHES = 16
MAX_ARRAY = 128  # objects in a slab cache's per-CPU array: its limit is 120 at the most
MAX_SLABS = 65_536
MAX_SKBS = 49_152
MAX_DEVICES = 16  # NICs and the upper devices over them
BACKLOG_DEV = MAX_DEVICES  # the row of softnet_data's backlog_dev, which is polled like a device
MAX_RING = 4_096
MAX_SOCKETS = 16_384
HASH_SIZE = 16_384
N_READERS = 5  # kinds, as sock.READERS has them
MAX_RULES = 64
MAX_PACKET_SOCKS = 16  # packet taps, and as many raw sockets
MAX_LOCAL_ADDRS = 16
MAX_FRAG_QUEUES = 1_024  # datagrams in reassembly, IPv4's and IPv6's together
FRAG_HASH_SIZE = 256
FRAG_LISTS = 2  # of queues, for each family: by use, and by age
MAX_BACKLOG = 2_048  # packets between netif_rx and the softirq
MAX_PLAN = 4_096
MAX_LINKS = 128  # of the chain of a lockup
MAX_GHOSTS = 4  # ranges per TCP socket that our drops filled ahead of rcv_nxt
MAX_AGAIN = 256  # lost segments that are awaited
MAX_OUTSIDE = 256  # events from outside between two steps of a live run
MAX_LATER = 65_536  # events of packets not yet handed out
LATER_ENOUGH = MAX_LATER - MAX_SKBS  # one step of the machine can free every skb

assert HASH_SIZE & (HASH_SIZE - 1) == 0, "buckets are picked by masking"
assert MAX_SLABS > MAX_SKBS, "every skb may need a slab of its own, besides the slabs of heads"

(
    DRIVER_E1000,
    DRIVER_E1000_PS,  # packet split: a small skb for headers, pages for the data
    DRIVER_8139CP,  # replaces the buffer when a packet arrives, or drops the packet
    DRIVER_TG3,  # ditto
    DRIVER_E1000E,  # of Linux 6.x: page fragments, copybreak
    DRIVER_VLAN,  # upper devices: no ring
    DRIVER_BOND,
    DRIVER_BRIDGE,
) = range(8)
DRIVERS = ("e1000", "e1000-ps", "8139cp", "tg3", "e1000e", "vlan", "bond", "bridge")

ZONE_DMA, ZONE_NORMAL, ZONE_HIGHMEM = range(3)
ZONES = ("DMA", "Normal", "HighMem")

AGAIN_FREE, AGAIN_WAITS, AGAIN_ON_ITS_WAY = range(3)

# Whose memory management: page allocator, slab and sizes of buffers (`Config.mm`).
MM_2_6_12, MM_6X = range(2)
NAPI_SKB_CACHE_SIZE = 64
PLAN_DOWN, PLAN_UP, PLAN_MTU, PLAN_MIN_FREE_KBYTES, PLAN_PAGES = range(5)
PLAN_ACTIONS = ("down", "up", "mtu", "min_free_kbytes", "pages")

VLAN_ANY = -1  # stands for all VLAN devices that have no row of their own

# 2.6.12 include/linux/if_packet.h
PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING, PACKET_FILTERED = range(6)

# Link-layer direction, as pcapng's epb_flags has it.
DIR_UNKNOWN, DIR_INBOUND, DIR_OUTBOUND = range(3)


@record
class Packet:
    """One frame: where it lies in the capture, what it says, and what became of it.  A row of the log."""

    frame: int  # from 1, as in the capture
    packet_id: int  # epb_packetid of the capture, else the frame number
    own_id: int  # 1: packet_id is the capture's
    iface: int  # index of the capture's interface (all sections counted through)
    file_time_ns: int  # as the capture says
    offset: int  # of the first byte, in the window
    caplen: int  # bytes that the capture holds
    length: int  # bytes on the wire, without FCS
    direction: int  # DIR_*
    linktype: int  # of its interface; wire.headers says which are dissected
    link_excess: int  # bytes by which the capture's link-layer header is longer than Ethernet's
    fcs_bytes: int  # of the frame check sequence that followed the frame on the wire, as far as the capture says
    fcs_caplen: int  # bytes of it that the capture holds, behind the frame

    time_ns: int  # arrival at the NIC: the file's time, clamped to the running maximum, or paced
    dev: int  # the device that it arrives on
    skb_dev: int  # skb->dev when a protocol sees it: `dev`, or a VLAN, bond or bridge over it
    kind: int  # wire.headers KIND_*
    pkt_type: int  # PACKET_*
    header_error: int  # wire.headers: what is malformed, else 0
    ethertype: int  # of what follows all VLAN tags
    vlan_tags: int  # how many
    vlan_outer: int  # TPID << 16 | TCI of the first tag, else 0
    vlan_inner: int  # of the second
    ip_version: int  # 4, 6, else 0
    ip_protocol: int  # IPv6: of what follows all extension headers
    saddr: int  # IPv4 in the low 32 bits, IPv6 its low half (signed); for ARP the sender's protocol address
    daddr: int
    saddr_hi: int  # IPv6: the high half (signed), else 0
    daddr_hi: int
    sport: int
    dport: int
    l4_length: int  # bytes from the transport header on
    payload_length: int  # bytes after the transport header
    tcp_flags: int
    tcp_seq: int
    tcp_ack: int
    tcp_window: int  # as the header has it, not scaled
    tcp_host_ack: int  # the highest number that the host had acknowledged on this flow when the packet arrived, else -1
    frag_id: int
    frag_offset: int  # bytes
    frag_more: int  # 1: more fragments follow
    frag_length: int  # bytes of the datagram in this fragment
    frag_sum: int  # wire.checksum ones_sum of them; -1: cut off
    icmp_type: int
    quoted_port: int  # ICMP port unreachable: the destination port of the datagram that it quotes, else -1
    ip_csum: int  # wire.headers CSUM_*
    l4_csum: int  # CSUM_*
    segments: int  # how many wire frames an aggregated frame stands for, else 1
    memalloc: int  # 1: belongs to a flow that block I/O depends on, whether its socket is SOCK_MEMALLOC or not

    verdict: int
    reason: int
    cause: int
    point: int
    rule: int  # policy rule that decided, RULE_*
    decided_ns: int
    sk: int  # socket, else -1
    from_reserve: int  # 1: its buffer was allocated with __GFP_MEMALLOC
    pfmemalloc: int  # 1: its skb is marked as the reserve's (policies that mark skbs or tag pages)
    truesize: int
    alloc_ns: int  # when its buffer was allocated, else 0
    reserve_used_before: int
    reserve_used_after: int
    cap_skbs: int
    free_pages: int  # of ZONE_NORMAL, at the decision
    floor_pages: int  # GFP_ATOMIC gets a page of ZONE_NORMAL only above this
    ring_free: int  # descriptors that the NIC may fill
    backlog_len: int
    culprit_frame: int
    culprit_id: int  # its packet_id
    decided_after: int  # of an event: how many frames had arrived
    again: int  # a lost segment that comes again: its row in `Machine.again` + 1; 0: a frame


@record
class Again:
    """A segment of a memalloc flow that was lost and comes again (`retransmit`)."""

    state: int  # AGAIN_*
    due_ns: int
    losses: int
    p: Packet


@record
class Policy:
    """The rules of one kernel revision; see `policy` for what each value means."""

    rx_memalloc: int
    caps_reserve: int
    rx_allocator: int
    marks_skbs: int
    tags_pages: int
    atomic_first_nomemalloc: int
    check_core: int
    check_tcp: int
    check_udp: int
    check_icmp: int
    check_sk_filter: int
    delivers_marked_at_once: int
    split_pages_memalloc: int
    adjusts_reserve: int
    estimate: int
    reserve_in_sysctl: int
    reserve_skbs: int


@record
class Zone:
    """A memory zone (include/linux/mmzone.h); all counts in pages."""

    present_pages: int
    free_pages: int
    nr_free: Annotated[list[int], MAX_ORDER]  # free blocks of each order
    pages_min: int
    pages_low: int
    pages_high: int
    lowmem_reserve: Annotated[list[int], MAX_ZONES]
    pcp_count: int  # the hot per-CPU list
    pcp_low: int
    pcp_high: int
    pcp_batch: int
    slab_pages: int  # held by slabs and page fragments
    writer_pages: int  # taken by blocked writers since play started
    dirty_pages: int  # page cache of a closed loop, by state
    writeback_pages: int
    clean_pages: int
    other_pages: int  # everybody else's
    free_pages_min: int  # lowest seen since play started


@record
class ZoneSaid:
    """What the user says of a zone, in pages; -1 where nothing is said."""

    said: int  # 1: this row counts
    present_pages: int
    free_pages: int  # when play starts
    pages_min: int
    pages_low: int
    pages_high: int
    lowmem_reserve: int  # against requests that could be met from ZONE_NORMAL


@record
class Cache:
    """A slab cache: mm/slab.c kmem_cache_t, or mm/slub.c struct kmem_cache."""

    objsize: int  # bytes
    num: int  # objects per slab
    order: int
    limit: int  # of the per-CPU array
    batchcount: int
    free_limit: int
    slabp_cache: int  # cache of the off-slab descriptor, else -1
    avail: int
    touched: int
    entry: Annotated[list[int], MAX_ARRAY]  # the array: each object is known by its slab
    partial_head: int
    partial_tail: int
    empty_head: int  # slabs without an object in use
    tagged_head: int  # slabs on reserve pages with a free object (policies that tag pages)
    free_objects: int  # on the slab lists
    free_touched: int
    next_reap_ns: int
    grown: int  # slabs made since play started
    min_order: int  # SLUB: the order to fall back to
    cpu_slab: int  # SLUB: the slab that the CPU allocates from, else -1
    cpu_partial_head: int  # SLUB: slabs that the CPU keeps to itself
    cpu_partial_slabs: int  # how many those are
    cpu_partial_max: int
    nr_partial: int  # slabs on the partial list
    min_partial: int


@record
class Slab:
    """One slab, or one page-fragment block: a run of pages and how many of its objects are out."""

    cache: int  # -1: a block of page fragments, -2: unused, -3: a data page of a packet-split ring
    zone: int
    order: int
    inuse: int
    list: int  # LIST_*
    prev: int
    next: int
    desc_slab: int  # slab of its off-slab descriptor, else -1
    tagged: int  # 1: its pages were granted without watermarks (policies that tag)
    objects: int  # SLUB: how many it holds
    staying: int  # scratch of `lockup`: objects that nobody could give back


@record
class Skb:
    """A socket buffer; `next` links free ones, or a queue."""

    head_slab: int
    data_slab: int
    truesize: int  # bytes charged to a socket
    dev: int
    sk: int
    from_reserve: int
    pfmemalloc: int
    alloc_ns: int
    frags: int  # pages attached to it: slab rows linked by `next`, else -1
    frame: int  # whose packet it holds
    packet_id: int
    length: int  # bytes of TCP payload
    seq: int
    end_seq: int  # SYN and FIN count one
    next: int
    clone_next: int  # the ring of skbs that share its data; itself when it is alone
    csum_bad: int  # a datagram's reader will find its checksum wrong (skbuff.*_CSUM_BAD)
    frag_offset: int  # in a fragment queue: where its bytes stand in the datagram
    frag_length: int
    frag_sum: int  # ones_sum of them; -1: not known
    given_up: int  # scratch of `lockup`: the number of the look that counted it as freed


@record
class FragQueue:
    """A datagram in reassembly (net/ipv4/ip_fragment.c struct ipq, net/ipv6/reassembly.c struct frag_queue)."""

    descriptor_slab: int  # where its own memory comes from
    family: int  # 0: IPv4, 1: IPv6
    frag_id: int
    saddr: int
    saddr_hi: int
    daddr: int
    daddr_hi: int
    protocol: int  # 0 in IPv6, where it is no part of the key
    last_in: int  # FIRST_IN, LAST_IN
    fragments: int  # its first skb, in order of offset
    length: int  # bytes of the datagram, as far as known
    meat: int  # bytes that are there
    dev: int
    expires_ns: int
    hash_next: int
    list_prev: Annotated[list[int], FRAG_LISTS]  # its neighbours by use, and by age
    list_next: Annotated[list[int], FRAG_LISTS]
    pkt_type: int  # the first fragment's, and what it says of the transport header:
    ip_protocol: int
    sport: int
    dport: int
    tcp_flags: int
    tcp_seq: int
    tcp_ack: int
    icmp_type: int
    quoted_port: int
    extension_bytes: int  # IPv6 extension headers before it
    l4_header_bytes: int
    l4_csum: int
    header_error: int


@record
class PacketSock:
    """A packet tap (AF_PACKET) or a raw socket of the host; what it queues is a `Sock` row of its own."""

    dev: int  # a tap's device, -1: all
    family: int  # of a raw socket
    protocol: int  # of a raw socket
    rcvbuf: int  # bytes; 0: rmem_default
    reader: int  # READER_*
    read_rate: int  # packets per second
    sk: int
    tp_packets: int  # accepted; getsockopt(PACKET_STATISTICS) would add the drops
    tp_drops: int


@record
class LocalAddr:
    """An address of the host."""

    family: int  # 4 or 6
    addr_hi: int
    addr: int


@record
class FragCache:
    """The page-fragment block that receive buffers are cut from (mm/page_frag_cache.c)."""

    slab: int  # the block, else -1
    remaining: int  # bytes


@record
class Device:
    """A network device: a NIC with its receive ring, or an upper device over others."""

    driver: int  # DRIVER_*
    napi: int  # 1: polled in the softirq; 0: netif_rx from the interrupt
    promisc: int  # 1: takes frames for other hosts
    lower_mask: int  # an upper device: bit d for each device d below it
    vlan_tag: int  # a VLAN device: TPID << 16 | VLAN id; VLAN_ANY takes every tag
    master: int  # the bond that it is a slave of, else -1
    bridge: int  # the bridge that it is a port of, else -1
    up: int
    opened: int  # how many times it has come up
    mtu: int
    weight: int
    ring_size: int
    ring_slots: int  # slots that the ring turns in: fewer only where a driver that replaces could not fill all
    rx_buffer_len: int
    rx_skb_bytes: int  # what the driver asks of dev_alloc_skb, without NET_IP_ALIGN
    background_skbs: int  # buffers that sockets outside the capture hold when play starts
    rx_reserve: int  # cap, in skbs
    rx_reserve_used: int
    rx_reserve_used_max: int
    memalloc_pages: int  # what adjust_memalloc_reserve was called with
    rx_ps: int  # adapter->rx_ps: packet split, known once the receiver has been set up
    next_to_use: int
    next_to_clean: int
    rdh: int  # the slot that the NIC fills next
    rdt: int  # the NIC owns the slots from rdh up to here
    ring_skb: Annotated[list[int], MAX_RING]
    ring_seq: Annotated[list[int], MAX_RING]  # the packet in the slot, by sequence number; -1: none
    ring_pages: Annotated[list[int], MAX_RING]  # packet split: the slot's data pages, as Skb.frags
    ring_unposted: int  # tg3: buffers that the driver has taken a packet from and not yet given back to the NIC
    ring_done: int  # slots with a packet that the driver has not taken
    ring_filled: int  # slots with a buffer
    refill_cause: int  # why the last refill stopped early, else 0
    poll_scheduled: int
    quota: int
    poll_work: int  # packets of the present poll
    poll_limit: int
    polling: int  # 1: between the start and the end of a poll
    poll_tx: int  # TX completions wait for the next poll
    watchdog_ns: int
    reserve_allocations: int
    rx_packets: int
    rx_bytes: int
    rx_missed: int
    rx_missed_frames_dry: int  # missed with an empty ring, not for want of CPU
    rx_length_errors: int
    rx_dropped: int  # by a driver for want of a replacement buffer, or by the core (mainline)
    alloc_rx_buff_failed: int
    copybreak_failed: int  # e1000e: a small packet went up in its ring buffer for want of a smaller one
    cleaned_count: int  # e1000e: descriptors cleaned since the last refill
    ring_free_min: int
    polls: int
    tx_head: int  # frames that wait to be sent, `Machine.tx` rows
    tx_tail: int
    tx_len: int
    tx_sending: int  # 1: the first of them is on its way, until
    tx_done_ns: int
    tx_packets: int
    tx_dropped: int  # the queue was full


@record
class Sock:
    """A socket of the host."""

    state: int
    family: int  # 4 or 6
    protocol: int
    saddr: int  # local, as in Packet
    saddr_hi: int
    sport: int
    daddr: int  # remote; 0 for a listener or an unconnected UDP socket
    daddr_hi: int
    dport: int
    hash_next: int
    bucket: int
    memalloc: int  # SOCK_MEMALLOC, as the kernel sees it
    block_io: int  # 1: block I/O depends on it, as the user says
    leaked_refs: int  # references that nobody will put: such a socket is never freed
    reader: int
    read_rate: int  # packets per second, for READER_RATE
    rcvbuf: int
    rmem_alloc: int
    queue_head: int
    queue_tail: int
    queue_len: int
    owed_ns: int  # READER_RATE: time not yet turned into a read
    lru_prev: int
    lru_next: int
    lru_list: int
    ready_prev: int  # sockets with something queued and a reader of the same kind that waits
    ready_next: int
    on_ready: int  # 1 + the kind of the reader that waits, else 0
    pinned: int  # 1: never evicted (taps, raw sockets, groups of multicast receivers)
    mcast_next: int  # the next socket that has joined on this port, else -1
    forward_alloc: int  # TCP: bytes that are accounted to the socket and not charged
    rcvbuf_locked: int  # 1: the user set it (SOCK_RCVBUF_LOCK)
    rcv_nxt: int  # -1 until the first segment
    host_ack: int  # highest number that the host's own frames acknowledge, else -1
    host_fin: int  # what acknowledges the host's FIN
    fin_sent: int
    fin_rcvd: int  # 1: the peer's FIN was taken
    passive: int  # 1: the peer's FIN was on the wire before the host's
    ack_owed: int  # segments since the last ACK
    ofo_head: int  # the out-of-order queue, sorted by sequence number
    ofo_tail: int
    ofo_len: int
    ghosts: int  # ranges ahead of rcv_nxt that count as received without memory
    ghost_seq: Annotated[list[int], MAX_GHOSTS]
    ghost_end: Annotated[list[int], MAX_GHOSTS]
    filled: int  # 1: filled_seq to filled_end spans what our drops filled
    filled_seq: int
    filled_end: int
    tw_until_ns: int  # TIME_WAIT
    conn: int  # closed loop: its sending side, else -1


@record
class SockRule:
    """What the user says of some sockets; -1 where nothing is said, 0 in a match field means any."""

    protocol: int
    local_port: int
    family: int  # of the addresses; 0: any
    local_addr: int
    local_addr_hi: int
    remote_addr: int
    remote_addr_hi: int
    remote_port: int
    memalloc: int
    closed: int
    reader: int
    read_rate: int  # packets per second
    rcvbuf: int  # bytes
    members: int  # how many UDP sockets share the port and get each multicast; 0: not said


@record
class Counters:
    """What the host's own tools would show: nstat, /proc/net/softnet_stat."""

    IpInReceives: int
    IpInHdrErrors: int
    IpInUnknownProtos: int
    IpInDelivers: int
    IpInAddrErrors: int
    IpForwDatagrams: int
    IpReasmReqds: int
    IpReasmOKs: int
    IpReasmFails: int
    IpReasmTimeout: int
    Ip6InReceives: int
    Ip6InHdrErrors: int
    Ip6InAddrErrors: int
    Ip6InUnknownProtos: int
    Ip6InDelivers: int
    Ip6OutForwDatagrams: int
    Ip6ReasmReqds: int
    Ip6ReasmOKs: int
    Ip6ReasmFails: int
    Ip6ReasmTimeout: int
    TcpInSegs: int
    TcpInErrs: int
    TcpOutRsts: int
    TcpExtPruneCalled: int
    TcpExtRcvPruned: int
    TcpExtPFMemallocDrop: int
    TcpExtOfoPruned: int
    TcpExtTCPRcvCollapsed: int
    TcpExtTCPMemoryPressures: int
    TcpExtDelayedACKLost: int
    MemallocAckFailed: int  # ACKs of block I/O that found no memory
    UdpInDatagrams: int
    UdpNoPorts: int
    UdpInErrors: int
    UdpRcvbufErrors: int
    udp_refs_leaked: int  # socket references that the patch's drop in udp_rcv never puts (bug 11)
    IcmpInMsgs: int
    IcmpInErrors: int
    IcmpInEchos: int
    IcmpOutEchoReps: int
    IcmpOutDestUnreachs: int
    IcmpOutTimeExcds: int
    Icmp6InMsgs: int
    Icmp6InErrors: int
    Icmp6InEchos: int
    Icmp6InNeighborSolicits: int
    Icmp6OutEchoReplies: int
    Icmp6OutNeighborAdvertisements: int
    Icmp6OutDestUnreachs: int
    Icmp6OutTimeExcds: int
    Icmp6OutParmProblems: int
    Udp6InDatagrams: int
    Udp6NoPorts: int
    Udp6InErrors: int
    softnet_processed: int
    softnet_dropped: int
    softnet_throttled: int
    softnet_time_squeeze: int
    dev_rx_dropped: int
    tx_alloc_failed: int  # replies that found no memory


@record
class Fates:
    """Packets of one kind of flow, by what became of them."""

    received: int
    delivered: int
    dropped: int


@record
class Totals:
    """Sums over all frames; conservation is asserted on them."""

    frames: int
    filtered: int
    not_received: int
    not_played: int  # after an oops
    in_flight: int
    oops: int
    received: int
    delivered: int
    dropped: int
    memalloc: Fates
    other: Fates
    again: Fates  # segments that came again: no frames, and in none of the other sums
    drops_by_reason: Annotated[list[int], MAX_REASONS]
    events_by_reason: Annotated[list[int], MAX_REASONS]  # of packets that had their verdict
    reserve_skbs_delivered: int
    holes_filled: int  # our drops of TCP payload that the open loop counts as filled
    tcp_resyncs: int  # segments so far away that rcv_nxt was set to them
    sockets_made: int
    sockets_evicted: int
    skbs_max: int


@record
class Config:
    """What the scenario says of the machine and of the crunch."""

    closed: int  # 1: a closed loop: TCP answers, windows are obeyed, nothing lost counts as received
    memory_pages: int
    mm: int  # MM_*
    thp: int  # 1: transparent huge pages, for which khugepaged raises min_free_kbytes (MM_6X)
    silent: int  # 1: what the host sends takes no memory; an experiment, no kernel does so
    head_memalloc: int  # 1: mainline's sk_buff itself may come from the reserve too; an experiment, no kernel does so
    netdev_budget: int  # packets of one softirq; 0: netdev_max_backlog, as 2.6.12 has it
    sk_buff_bytes: int
    l1_bytes: int
    cpu_ns_per_packet: int
    cpu_ps_per_byte: int  # picoseconds
    netdev_max_backlog: int
    crunch: int  # 1: play starts with every zone at its floor
    free_pages_above_floor: int
    free_blocks_given: int  # 1: `free_blocks` says how the free pages of ZONE_NORMAL lie
    free_blocks: Annotated[list[int], MAX_ORDER]
    memalloc_socket: int  # 1: a SOCK_MEMALLOC socket outside the capture holds mainline's static key on
    writers: int  # 1: blocked writers take every page above pages_min
    udp_rcvbuf: int
    tcp_rcvbuf: int
    tcp_mem_low: int  # sysctl_tcp_mem, pages; tcp_mem_high 0: by the machine's memory
    tcp_mem_pressure: int
    tcp_mem_high: int
    tcp_rmem_min: int  # bytes
    tcp_rmem_max: int
    ordinary_reader: int  # READER_*
    memalloc_reader: int
    read_rate: int
    vlans_inferred: int  # 1: a VLAN device exists for every tag met
    vlan_8021ad: int  # 1: a kernel of 6.x: knows 802.1ad tags, passes unknown VLANs up as PACKET_OTHERHOST
    recording: int  # 1: write the event stream down
    as_posted: int  # bugs of the patch that are left in, bit n for bug n (`bugs.BUGS`)
    ip_forward: int  # 1: a packet to another host's address is forwarded
    ipfrag_high_thresh: Annotated[list[int], 2]  # bytes; IPv4, IPv6
    ipfrag_low_thresh: Annotated[list[int], 2]
    ipfrag_time_ns: Annotated[list[int], 2]
    retransmit: int  # 1: lost segments of memalloc flows come again, and leave no hole to be filled
    real_peers: int  # 1: what we drop is lost, and whoever sent it sends it again: no hole counts as filled
    write_back: int  # 1: a replay follows iSCSI, so that a delivered SCSI Response frees its write's pages


@record
class Later:
    """What happens to a packet that has its verdict already: its skb is thrown away unread."""

    after_frame: int  # frames that had arrived before it
    frame: int  # whose packet it was
    packet_id: int
    time_ns: int
    dev: int
    reason: int
    point: int


@record
class Plan:
    """What somebody at a terminal does at a fixed time: an interface up or down, a sysctl, pages taken or given."""

    time_ns: int  # after the first frame
    action: int  # PLAN_*
    dev: int
    value: int


@record
class Wait:
    """A link of the chain of a lockup: who waits for whom, and why; `lockup` says what the numbers mean."""

    actor: int  # ACTOR_*
    number: int  # which one: a device, a session, a writer, a connection
    waits_for: int
    waits_for_number: int
    why: int  # WHY_*
    skbs: int
    pages: int
    due_ns: int  # of a timer; else NEVER_NS


@record
class Lockup:
    """Whether block I/O can ever go on, as `lockup` saw it last, and what it counts with while it looks."""

    silent_devices: int  # bit d: nobody sends to device d any more, so what is in its ring stays there
    locked: int
    found_ns: int  # when it was first found
    links: int
    link: Annotated[list[Wait], MAX_LINKS]
    looks: int
    zone: Annotated[list[Zone], MAX_ZONES]  # as they would stand
    spare: Annotated[list[int], MAX_CACHES]  # objects that a cache would have free
    spare_tagged: Annotated[list[int], MAX_CACHES]  # of them on reserve pages, for entitled callers only
    hollow: Annotated[list[int], MAX_CACHES * MAX_ZONES]  # slabs of a cache in a zone without an object in use
    keep: Annotated[list[int], MAX_CACHES]  # objects that are better kept than given back as pages
    frag_room: int  # bytes of the page-fragment block
    granted_tagged: int


@record
class Event:
    """One thing that the machine did or that happened to it, in a recorded stream; see `engine.loop`."""

    event: int  # EVENT_*
    frames: int  # frames that had arrived before it
    time_ns: int
    dev: int  # device, socket or zone
    number: int


@record
class Machine:
    """The emulated host: the ONE record."""

    now_ns: int
    cpu_busy_until_ns: int
    seq_base: int  # sequence number of rows[0]
    policy: Policy
    config: Config
    min_free_kbytes: int
    var_free_kbytes: int  # what adjust_memalloc_reserve has added
    zones: int
    zone: Annotated[list[Zone], MAX_ZONES]
    zone_said: Annotated[list[ZoneSaid], MAX_ZONES]
    caches: int
    cache: Annotated[list[Cache], MAX_CACHES]
    head_cache: int
    slab: Annotated[list[Slab], MAX_SLABS]
    slab_free: int
    slabs_made: int
    frag: FragCache
    frag_small: FragCache  # fragments of 1 KiB for small packets (page_frag_1k)
    napi_skb: Annotated[list[int], NAPI_SKB_CACHE_SIZE]  # slabs of heads kept for NAPI (napi_skb_cache)
    napi_skb_count: int
    skb: Annotated[list[Skb], MAX_SKBS]
    skb_free: int
    skbs_made: int
    skbs_used: int
    alloc_cause: int  # why the last receive buffer was refused
    grant_tagged: int  # 1: the last page was granted without watermarks
    last_held_frame: int
    last_held_id: int  # its packet_id
    last_page_frame: int
    last_page_id: int
    last_page_ns: int
    devices: int  # NICs: dev[0:devices]
    netdevs: int  # and upper devices behind them: dev[devices:netdevs]
    dev: Annotated[list[Device], MAX_DEVICES + 1]  # the last is BACKLOG_DEV
    poll_list: Annotated[list[int], MAX_DEVICES + 1]
    poll_head: int
    poll_len: int
    softirq_active: int
    softirq_budget: int
    softirq_started_ns: int
    backlog_skb: Annotated[list[int], MAX_BACKLOG]  # input_pkt_queue of softnet_data, a ring from backlog_head
    backlog_seq: Annotated[list[int], MAX_BACKLOG]
    backlog_head: int
    backlog_packets: int  # entries
    backlog_len: int  # qlen: skbs; an aggregated packet counts its segments
    backlog_throttle: int
    plan: Annotated[list[Plan], MAX_PLAN]  # by time
    plan_len: int
    plan_at: int  # the next entry
    plan_start_ns: int
    kmalloc_size: int  # what was asked for last
    kmalloc_found: int  # the cache that it was taken from
    sk: Annotated[list[Sock], MAX_SOCKETS]
    sk_free: int
    sks_made: int
    sk_hash: Annotated[list[int], HASH_SIZE]
    sk_live: int
    memalloc_socks: int  # the static key of mainline
    lru_head: Annotated[list[int], 2]
    lru_tail: Annotated[list[int], 2]
    ready_head: Annotated[list[int], N_READERS]  # of sockets with something queued, by the kind of their reader
    ready_tail: Annotated[list[int], N_READERS]
    reader_tick_ns: int
    reap_ns: int
    quiet_rounds: int  # reaps since anything last moved
    tcp_memory_allocated: int  # pages
    tcp_memory_pressure: int
    tcp_sockets_allocated: int
    sock_rules: int
    sock_rule: Annotated[list[SockRule], MAX_RULES]
    local_addrs: int
    local_addr: Annotated[list[LocalAddr], MAX_LOCAL_ADDRS]
    host_addr: int  # the IPv4 address that the last unicast packet to the host had: what ARP is asked for
    taps: int
    tap: Annotated[list[PacketSock], MAX_PACKET_SOCKS]
    raws: int
    raw: Annotated[list[PacketSock], MAX_PACKET_SOCKS]
    frag_queue: Annotated[list[FragQueue], MAX_FRAG_QUEUES]
    frag_queue_free: int
    frag_queues_made: int
    frag_queues: int
    frag_hash: Annotated[list[int], FRAG_HASH_SIZE]  # index + 1
    frag_mem: Annotated[list[int], 2]  # bytes: ip_frag_mem, ip6_frag_mem
    frag_head: Annotated[list[int], 2 * FRAG_LISTS]  # the old and the young end of each list; ip_fragment.frag_list
    frag_tail: Annotated[list[int], 2 * FRAG_LISTS]
    icmp_tokens_ns: Annotated[list[int], 2]  # what ICMP errors may still be sent: IPv4, IPv6
    icmp_last_ns: Annotated[list[int], 2]
    pf_memalloc: int  # mainline: a tagged packet is processed, so no watermark holds
    background_held: int
    leaked_skbs: int  # that no pointer leads to any more (bug 5)
    oops: int  # the bug of the patch that killed this kernel, else 0
    oops_point: int
    oops_ns: int
    later: Annotated[list[Later], MAX_LATER]
    later_len: int
    conn: Annotated[list[TcpConn], MAX_CONNS]
    conns: int
    session: Annotated[list[IscsiSession], MAX_SESSIONS]
    sessions: int
    vm: Vm
    latency: Annotated[list[int], LATENCY_BUCKETS]  # writes by the time from write-back to response
    latency_max_ns: int
    tx: Annotated[list[TxFrame], MAX_TX]
    tx_free: int
    tx_made: int
    rx_dev: int  # where the packet that is processed came from
    replies_open: int  # replies whose bytes are to be made, `tx` rows linked by reply_next; else -1
    lockup: Lockup
    follow: Follow
    again: Annotated[list[Again], MAX_AGAIN]
    agains_made: int
    agains: int  # that are not AGAIN_FREE
    again_due_ns: int  # while there are any
    outside: Annotated[list[Event], MAX_OUTSIDE]  # what a live run has seen happen, to be done with the next step
    outside_len: int
    mib: Counters
    total: Totals
    limit_hit: int  # LIMIT_*: a fixed maximum was reached and nothing could give way


(
    EVENT_POLL_BEGIN,  # dev, limit
    EVENT_PACKETS,  # dev, packets processed
    EVENT_POLL_END,  # dev
    EVENT_READ,  # socket, buffers read
    EVENT_PAGES,  # zone, pages that others take (negative: give back)
    EVENT_REAP,  # the slab caches are reaped
    EVENT_TICK,  # readers with a rate read
    EVENT_CONTEXT,  # tasks run: blocked writers, readers that need memory
    EVENT_FRAG,  # fragment queues time out
    EVENT_INTR,  # dev: a device that is not polled refills its ring from an interrupt of its own
    EVENT_PLAN,  # number: entry of the plan
    EVENT_AGAIN,  # dev: row of the lost segment that comes again
    EVENT_SQUEEZE,  # the softirq has had its time
    EVENT_OPEN,  # socket: one that the host had refused for is there
) = range(14)
EVENTS = (
    "poll-begin",
    "packets",
    "poll-end",
    "read",
    "pages",
    "reap",
    "tick",
    "context",
    "frag",
    "intr",
    "plan",
    "again",
    "squeeze",
    "open",
)

LIMIT_NONE, LIMIT_SOCKETS, LIMIT_SKBS, LIMIT_SLABS = range(4)
LIMITS = ("", f"{MAX_SOCKETS} sockets", f"{MAX_SKBS} skbs", f"{MAX_SLABS} slabs")
