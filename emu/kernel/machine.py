"""The field table: every piece of the machine's state, and the row of a packet, declared once.

Units are in the names or stated: pages of 4096 B, `_ns` nanoseconds, `_kbytes`, everything else counts things.
Names are the kernel's where the kernel has one.  An index that points nowhere is -1 (`NONE`).
"""

from typing import Annotated

from emu.kernel.drop_reason import MAX_REASONS
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
MAX_RING = 4_096
MAX_SOCKETS = 16_384
HASH_SIZE = 16_384
MAX_RULES = 64
MAX_GHOSTS = 4  # ranges per TCP socket that our drops filled ahead of rcv_nxt
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

# 2.6.12 include/linux/if_packet.h
PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING, PACKET_FILTERED = range(6)

# Link-layer direction, as pcapng's epb_flags has it.
DIR_UNKNOWN, DIR_INBOUND, DIR_OUTBOUND = range(3)


@record
class Packet:
    """One frame: where it lies in the capture, what it says, and what became of it.  A row of the log."""

    frame: int  # from 1, as in the capture
    packet_id: int  # epb_packetid of the capture, else the frame number
    iface: int  # index of the capture's interface (all sections counted through)
    file_time_ns: int  # as the capture says
    offset: int  # of the first byte, in the window
    caplen: int  # bytes that the capture holds
    length: int  # bytes on the wire, without FCS
    direction: int  # DIR_*
    linktype: int  # of its interface; wire.headers says which are dissected

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
    memalloc: int  # 1: belongs to a flow that block I/O depends on

    verdict: int
    reason: int
    cause: int
    point: int
    rule: int  # policy rule that decided, RULE_*
    decided_ns: int
    sk: int  # socket, else -1
    from_reserve: int  # 1: its buffer was allocated with __GFP_MEMALLOC
    pfmemalloc: int  # 1: its skb is tagged (policies that tag)
    truesize: int
    reserve_used_before: int
    reserve_used_after: int
    cap_skbs: int
    free_pages: int  # of ZONE_NORMAL, at the decision
    floor_pages: int  # GFP_ATOMIC gets a page of ZONE_NORMAL only above this
    ring_free: int  # descriptors that the NIC may fill
    backlog_len: int
    culprit_frame: int
    decided_after: int  # of an event: how many frames had arrived


@record
class Policy:
    """The rules of one kernel revision; see `policy` for what each value means."""

    rx_memalloc: int
    caps_reserve: int
    rx_allocator: int
    tags_pages: int
    atomic_first_nomemalloc: int
    check_core: int
    check_tcp: int
    check_udp: int
    check_icmp: int
    check_sk_filter: int
    adjusts_reserve: int
    estimate: int
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
    other_pages: int  # everybody else's
    free_pages_min: int  # lowest seen since play started


@record
class Cache:
    """A slab cache (mm/slab.c kmem_cache_t)."""

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


@record
class Slab:
    """One slab, or one page-fragment block: a run of pages and how many of its objects are out."""

    cache: int  # -1: a block of page fragments, -2: unused
    zone: int
    order: int
    inuse: int
    list: int  # LIST_*
    prev: int
    next: int
    desc_slab: int  # slab of its off-slab descriptor, else -1
    tagged: int  # 1: its pages were granted without watermarks (policies that tag)


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
    frame: int  # whose packet it holds
    length: int  # bytes of TCP payload
    seq: int
    end_seq: int  # SYN and FIN count one
    next: int


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
    up: int
    mtu: int
    weight: int
    ring_size: int
    rx_buffer_len: int
    background_skbs: int  # buffers that sockets outside the capture hold when play starts
    rx_reserve: int  # cap, in skbs
    rx_reserve_used: int
    rx_reserve_used_max: int
    memalloc_pages: int  # what adjust_memalloc_reserve was called with
    next_to_use: int
    next_to_clean: int
    rdh: int  # the slot that the NIC fills next
    rdt: int  # the NIC owns the slots from rdh up to here
    ring_skb: Annotated[list[int], MAX_RING]
    ring_seq: Annotated[list[int], MAX_RING]  # the packet in the slot, by sequence number; -1: none
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
    alloc_rx_buff_failed: int
    refills_stopped_by_cap: int
    ring_free_min: int
    polls: int


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
    memalloc: int  # SOCK_MEMALLOC
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
    ready_prev: int  # sockets with something queued and a reader that waits
    ready_next: int
    on_ready: int
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


@record
class Counters:
    """What the host's own tools would show: nstat, /proc/net/softnet_stat."""

    IpInReceives: int
    IpInHdrErrors: int
    IpInUnknownProtos: int
    IpInDelivers: int
    IpReasmReqds: int
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
    IcmpInMsgs: int
    IcmpInErrors: int
    IcmpInEchos: int
    IcmpOutEchoReps: int
    IcmpOutDestUnreachs: int
    softnet_processed: int
    softnet_dropped: int
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

    memory_pages: int
    sk_buff_bytes: int
    l1_bytes: int
    cpu_ns_per_packet: int
    cpu_ps_per_byte: int  # picoseconds
    netdev_max_backlog: int
    crunch: int  # 1: play starts with every zone at its floor
    free_pages_above_floor: int
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
    recording: int  # 1: write the event stream down
    as_posted: int  # bugs of the patch that are left in, bit n for bug n (`bugs.BUGS`)


@record
class Later:
    """What happens to a packet that has its verdict already: its skb is thrown away unread."""

    after_frame: int  # frames that had arrived before it
    frame: int  # whose packet it was
    time_ns: int
    dev: int
    reason: int
    point: int


@record
class Machine:
    """The emulated host: the ONE record."""

    now_ns: int
    cpu_busy_until_ns: int
    seq_base: int  # sequence number of rows[0]
    seq_next: int
    policy: Policy
    config: Config
    min_free_kbytes: int
    var_free_kbytes: int  # what adjust_memalloc_reserve has added
    zones: int
    zone: Annotated[list[Zone], MAX_ZONES]
    caches: int
    cache: Annotated[list[Cache], MAX_CACHES]
    head_cache: int
    slab: Annotated[list[Slab], MAX_SLABS]
    slab_free: int
    slabs_made: int
    frag: FragCache
    skb: Annotated[list[Skb], MAX_SKBS]
    skb_free: int
    skbs_made: int
    skbs_used: int
    alloc_cause: int  # why the last receive buffer was refused
    grant_tagged: int  # 1: the last page was granted without watermarks
    last_held_frame: int
    last_page_frame: int
    devices: int  # NICs: dev[0:devices]
    netdevs: int  # and upper devices behind them: dev[devices:netdevs]
    dev: Annotated[list[Device], MAX_DEVICES]
    poll_list: Annotated[list[int], MAX_DEVICES]
    poll_head: int
    poll_len: int
    softirq_active: int
    softirq_budget: int
    softirq_started_ns: int
    sk: Annotated[list[Sock], MAX_SOCKETS]
    sk_free: int
    sks_made: int
    sk_hash: Annotated[list[int], HASH_SIZE]
    sk_live: int
    memalloc_socks: int  # the static key of mainline
    lru_head: Annotated[list[int], 2]
    lru_tail: Annotated[list[int], 2]
    ready_head: int
    ready_tail: int
    reader_tick_ns: int
    reap_ns: int
    quiet_rounds: int  # reaps since anything last moved
    tcp_memory_allocated: int  # pages
    tcp_memory_pressure: int
    tcp_sockets_allocated: int
    sock_rules: int
    sock_rule: Annotated[list[SockRule], MAX_RULES]
    background_held: int
    oops: int  # the bug of the patch that killed this kernel, else 0
    oops_point: int
    oops_ns: int
    later: Annotated[list[Later], MAX_LATER]
    later_len: int
    mib: Counters
    total: Totals
    limit_hit: int  # LIMIT_*: a fixed maximum was reached and nothing could give way


@record
class Event:
    """One thing that the machine did or that happened to it, in a recorded stream; see `engine.loop`."""

    event: int  # EVENT_*
    frames: int  # frames that had arrived before it
    time_ns: int
    dev: int  # device, socket or zone
    number: int


(
    EVENT_POLL_BEGIN,  # dev, limit
    EVENT_PACKETS,  # dev, packets processed
    EVENT_POLL_END,  # dev
    EVENT_READ,  # socket, buffers read
    EVENT_PAGES,  # zone, pages that others take (negative: give back)
    EVENT_REAP,  # the slab caches are reaped
    EVENT_TICK,  # readers with a rate read
    EVENT_CONTEXT,  # tasks run: blocked writers, readers that need memory
) = range(8)
EVENTS = ("poll-begin", "packets", "poll-end", "read", "pages", "reap", "tick", "context")

LIMIT_NONE, LIMIT_SOCKETS, LIMIT_SKBS, LIMIT_SLABS = range(4)
LIMITS = ("", f"{MAX_SOCKETS} sockets", f"{MAX_SKBS} skbs", f"{MAX_SLABS} slabs")
