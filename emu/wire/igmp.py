"""IGMP (RFC 2236, RFC 3376): every message has 8 bytes at least and a checksum over all of it."""

CHECKSUM = 2
HEADER_LEN = 8
