"""Link types: which are played, and all by name, for messages.  Source: the tcpdump.org list of link types."""

from emu.wire.headers import DISSECTED_LINKTYPES

PLAYED = DISSECTED_LINKTYPES
HEADER_BYTES = (4, 14, 0, 0, 0, 4, 16, 0, 0, 20)  # of the link layer, for each of PLAYED
SUFFIXES = ("null", "ether", "raw12", "raw14", "raw", "loop", "sll", "ipv4", "ipv6", "sll2")  # of interface names
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
