"""What dissection reads and says of a frame: its link type, kind, checksums, what is malformed in its headers."""

from typing import Protocol

# Link types whose frames are dissected (tcpdump.org): two of the RAW ones are old numbers of some systems.
LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_RAW_BSD = 12
LINKTYPE_RAW_OPENBSD = 14
LINKTYPE_RAW = 101
LINKTYPE_LOOP = 108
LINKTYPE_LINUX_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL2 = 276
DISSECTED_LINKTYPES = (
    LINKTYPE_NULL,
    LINKTYPE_ETHERNET,
    LINKTYPE_RAW_BSD,
    LINKTYPE_RAW_OPENBSD,
    LINKTYPE_RAW,
    LINKTYPE_LOOP,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL2,
)

# What a packet is, for a person: the column `class`.
(
    KIND_MALFORMED,
    KIND_ARP,
    KIND_TCP,
    KIND_UDP,
    KIND_ICMP,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_IPV6,
    KIND_OTHER,
    KIND_ICMPV6,
) = range(10)
KINDS = ("malformed", "arp", "tcp", "udp", "icmp", "ip-fragment", "ip-other", "ipv6", "ethertype-other", "icmpv6")

# PARTIAL: only the pseudo header is summed, the sender's NIC would have done the rest.  UNKNOWN: cut off.
CSUM_GOOD, CSUM_BAD, CSUM_PARTIAL, CSUM_UNKNOWN = range(4)

# What to do about checksums: believe what a NIC would have finished, verify strictly, or believe everything.
CHECKSUMS_AUTO, CHECKSUMS_VERIFY, CHECKSUMS_TRUST = range(3)
CHECKSUMS = ("auto", "verify", "trust")

NO_ERROR, IP_HEADER_BAD, IP_TOO_SHORT, TOO_SHORT = range(4)


class Headers(Protocol):
    """The fields that dissection reads (where the frame lies) and writes (all the others)."""

    offset: int
    caplen: int
    length: int
    linktype: int
    kind: int
    header_error: int
    ethertype: int
    vlan_tags: int
    vlan_outer: int
    vlan_inner: int
    ip_version: int
    ip_protocol: int
    saddr: int
    daddr: int
    saddr_hi: int
    daddr_hi: int
    sport: int
    dport: int
    l4_length: int
    payload_length: int
    tcp_flags: int
    tcp_seq: int
    tcp_ack: int
    tcp_window: int  # not scaled
    frag_id: int
    frag_offset: int
    frag_more: int
    frag_length: int
    frag_sum: int
    icmp_type: int
    quoted_port: int
    ip_csum: int
    l4_csum: int
