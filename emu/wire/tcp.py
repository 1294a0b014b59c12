"""TCP header (RFC 9293 section 3.1): offsets from its start."""

SPORT = 0
DPORT = 2
SEQ = 4
ACK = 8
DATA_OFFSET = 12
FLAGS = 13
WINDOW = 14
CHECKSUM = 16
HEADER_LEN = 20
