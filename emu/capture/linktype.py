"""Link types: which are played, and all by name, for messages.  Source: the tcpdump.org list of link types."""

LINKTYPE_ETHERNET = 1
LINKTYPE_NULL = 0  # BSD loopback: the address family in the byte order of the host
LINKTYPE_LOOP = 108  # OpenBSD loopback: ditto, big-endian
LINKTYPE_RAW = 101  # an IPv4 or IPv6 header first
LINKTYPE_RAW_BSD = 12  # the same, as some systems wrote their own number into files
LINKTYPE_RAW_OPENBSD = 14
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_LINUX_SLL = 113  # cooked: what the "any" device gives
LINKTYPE_LINUX_SLL2 = 276

PLAYED = (
    LINKTYPE_ETHERNET,
    LINKTYPE_NULL,
    LINKTYPE_LOOP,
    LINKTYPE_RAW,
    LINKTYPE_RAW_BSD,
    LINKTYPE_RAW_OPENBSD,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
)
HEADER_BYTES = (14, 4, 4, 0, 0, 0, 0, 0, 16, 20)  # of the link layer, for each of PLAYED
SUFFIXES = ("ether", "null", "loop", "raw", "raw12", "raw14", "ipv4", "ipv6", "sll", "sll2")  # of interface names
assert len(PLAYED) == len(HEADER_BYTES) == len(SUFFIXES)

_NAMES = {
    0: "NULL",
    1: "ETHERNET",
    6: "IEEE802_5",
    7: "ARCNET_BSD",
    8: "SLIP",
    9: "PPP",
    10: "FDDI",
    50: "PPP_HDLC",
    51: "PPP_ETHER",
    100: "ATM_RFC1483",
    101: "RAW",
    104: "C_HDLC",
    105: "IEEE802_11",
    107: "FRELAY",
    108: "LOOP",
    113: "LINUX_SLL",
    114: "LTALK",
    117: "PFLOG",
    119: "IEEE802_11_PRISM",
    122: "IP_OVER_FC",
    127: "IEEE802_11_RADIOTAP",
    138: "APPLE_IP_OVER_IEEE1394",
    143: "DOCSIS",
    147: "USER0",
    149: "USER2",
    163: "IEEE802_11_AVS",
    166: "PPP_PPPD",
    187: "BLUETOOTH_HCI_H4",
    189: "USB_LINUX",
    192: "PPI",
    195: "IEEE802_15_4_WITHFCS",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    203: "LAPD",
    204: "PPP_WITH_DIR",
    220: "USB_LINUX_MMAPPED",
    224: "FC_2",
    225: "FC_2_WITH_FRAME_DELIMS",
    226: "IPNET",
    227: "CAN_SOCKETCAN",
    228: "IPV4",
    229: "IPV6",
    230: "IEEE802_15_4_NOFCS",
    239: "NFLOG",
    242: "IPOIB",
    247: "INFINIBAND",
    248: "SCTP",
    249: "USBPCAP",
    251: "BLUETOOTH_LE_LL",
    252: "WIRESHARK_UPPER_PDU",
    253: "NETLINK",
    254: "BLUETOOTH_LINUX_MONITOR",
    256: "BLUETOOTH_LE_LL_WITH_PHDR",
    258: "PKTAP",
    271: "VSOCK",
    272: "NORDIC_BLE",
    274: "ETHERNET_MPACKET",
    276: "LINUX_SLL2",
    283: "IEEE802_15_4_TAP",
}


def linktype_index(linktype: int) -> int:
    """The place of a link type in PLAYED, or -1."""
    for index in range(len(PLAYED)):
        if PLAYED[index] == linktype:
            return index
    return -1


def suffix_of(linktype: int) -> str:
    """What the name of a second interface of the same device ends in; see SUFFIXES."""
    return SUFFIXES[linktype_index(linktype)]


def linktype_name(linktype: int) -> str:
    """The LINKTYPE_ name of a link type, or a plain statement that it has none here."""
    name = _NAMES.get(linktype)
    return f"LINKTYPE_{name}" if name else "no name known"
