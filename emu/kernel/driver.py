"""The drivers behind one face: a frame arrives, a packet is taken off the ring, the ring is refilled."""

from emu.kernel.e1000 import (
    e1000_alloc_rx_buffers,
    e1000_clean_one,
    e1000_intr_tx,
    e1000_receive_frame,
    rx_buffer_len_for,
)
from emu.kernel.e1000e import e1000e_clean_one, e1000e_cleaned, e1000e_refill, e1000e_rx_buffer_len
from emu.kernel.machine import DRIVER_E1000E, Device, Machine, Packet


def nic_rx_buffer_len(m: Machine, d: int) -> int:
    """The size of a receive buffer of NIC `d`, in bytes, without headroom."""
    dev = m.dev[d]
    if dev.driver == DRIVER_E1000E:
        return e1000e_rx_buffer_len(dev.mtu)
    return rx_buffer_len_for(dev.mtu)


def nic_receive(m: Machine, d: int, p: Packet, seq: int) -> bool:
    """A frame arrives at NIC `d`; whether it is in the ring now, else it has its verdict."""
    return e1000_receive_frame(m, d, p, seq)


def nic_clean(m: Machine, d: int, length: int) -> int:
    """Take the next descriptor with a packet of `length` bytes off the ring; its skb."""
    if m.dev[d].driver == DRIVER_E1000E:
        return e1000e_clean_one(m, d, length)
    return e1000_clean_one(m, d)


def nic_cleaned(m: Machine, d: int) -> None:
    """A packet went up: drivers that refill inside the pass may do so."""
    if m.dev[d].driver == DRIVER_E1000E:
        e1000e_cleaned(m, d)


def nic_refill(m: Machine, d: int) -> None:
    """Refill the ring after a pass."""
    if m.dev[d].driver == DRIVER_E1000E:
        e1000e_refill(m, d)
    else:
        e1000_alloc_rx_buffers(m, d)


def nic_intr_tx(m: Machine, d: int) -> None:
    """A TX completion interrupts; with MSI-X it polls nothing."""
    if m.dev[d].driver != DRIVER_E1000E:
        e1000_intr_tx(m, d)


def poll_is_done(dev: Device) -> bool:
    """Whether the device leaves the poll list: 2.6.12 after a poll without work, 6.x after one below its weight.

    A poll without a quota only waits its turn.
    """
    if dev.driver == DRIVER_E1000E:
        return dev.poll_work < dev.poll_limit
    return dev.poll_limit > 0 and dev.poll_work == 0 and dev.poll_tx == 0
