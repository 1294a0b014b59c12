"""Ethernet II: offsets and types (IEEE 802.3, RFC 894)."""

DST = 0
SRC = 6
TYPE = 12
HEADER_LEN = 14

TYPE_IPV4 = 0x0800
TYPE_ARP = 0x0806
TYPE_IPV6 = 0x86DD
