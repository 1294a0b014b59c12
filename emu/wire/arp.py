"""ARP over Ethernet and IPv4 (RFC 826): offsets from the start of the ARP packet."""

OPERATION = 6
SENDER_IP = 14
TARGET_IP = 24
PACKET_LEN = 28
