"""UDP header (RFC 768): offsets from its start."""

SPORT = 0
DPORT = 2
LENGTH = 4
CHECKSUM = 6
HEADER_LEN = 8
