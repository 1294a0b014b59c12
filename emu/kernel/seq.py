"""TCP's sequence numbers, which are counted modulo 2^32, and the flags of its header.

Source: Linux 2.6.12 include/net/tcp.h before, after; RFC 9293 3.1, 3.4.
"""

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10

SEQ_MASK = 0xFFFFFFFF


def before(seq: int, other: int) -> bool:
    """Whether a sequence number comes before another, modulo 2^32."""
    return (seq - other) & SEQ_MASK >= 0x80000000


def after(seq: int, other: int) -> bool:
    """Whether a sequence number comes after another, modulo 2^32."""
    return before(other, seq)


def seq_add(seq: int, count: int) -> int:
    """The sequence number `count` further on."""
    return (seq + count) & SEQ_MASK
