"""ICMPv6 (RFC 4443): offsets from the start of the message, whose type and length are as in ICMP."""

CODE = 1
CHECKSUM = 2
QUOTED = 8

DEST_UNREACHABLE = 1
PORT_UNREACHABLE = 4
