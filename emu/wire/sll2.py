"""Linux cooked capture, version 2 (LINKTYPE_LINUX_SLL2): offsets from the start of its header.  Source: tcpdump.org."""

PROTOCOL = 0
ARPHRD = 8
PACKET_TYPE = 10  # 8 bits, as in version 1
HEADER_LEN = 20
