"""ICMP (RFC 792): offsets from the start of the message."""

TYPE = 0
CODE = 1
CHECKSUM = 2
QUOTED = 8
HEADER_LEN = 8

DEST_UNREACHABLE = 3
PORT_UNREACHABLE = 3
