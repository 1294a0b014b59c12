"""The drivers behind one face: a frame arrives, a packet is taken off the ring, the ring is refilled."""

from emu.kernel.e1000 import e1000_alloc_rx_buffers, e1000_clean_one, e1000_receive_frame
from emu.kernel.machine import Machine, Packet


def nic_receive(m: Machine, d: int, p: Packet, seq: int) -> bool:
    """A frame arrives at NIC `d`; whether it is in the ring now, else it has its verdict."""
    return e1000_receive_frame(m, d, p, seq)


def nic_clean(m: Machine, d: int) -> int:
    """Take the next descriptor with a packet off the ring; its skb."""
    return e1000_clean_one(m, d)


def nic_refill(m: Machine, d: int) -> None:
    """Refill the ring after a pass."""
    e1000_alloc_rx_buffers(m, d)
