"""Linux cooked capture (LINKTYPE_LINUX_SLL): offsets from the start of its header.  Source: the tcpdump.org page."""

PACKET_TYPE = 0  # 16 bits: 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent by us
ARPHRD = 2
PROTOCOL = 14
HEADER_LEN = 16

# Devices whose protocol field holds no ethertype.
ARPHRD_FRAD = 770
ARPHRD_RADIOTAP = 803
ARPHRD_NETLINK = 824
ARPHRD_OTHER = (ARPHRD_FRAD, ARPHRD_RADIOTAP, ARPHRD_NETLINK)
