"""The drivers behind one face: a frame arrives, a packet is taken off the ring, the ring is refilled."""

from emu.kernel.drop_reason import AT_CP_RX_POLL, AT_TG3_RX, NO_MEMORY
from emu.kernel.e1000 import (
    E1000_RXBUFFER_256,
    E1000_WATCHDOG_NS,
    e1000_alloc_rx_buffers,
    e1000_clean_one,
    e1000_receive_frame,
    replaces,
    ring_next,
    rx_buffer_len_for,
    schedule_poll,
)
from emu.kernel.e1000_ps import e1000_alloc_rx_buffers_ps, e1000_clean_one_ps, split_pages_of
from emu.kernel.e1000e import e1000e_clean_one, e1000e_cleaned, e1000e_refill, e1000e_rx_buffer_len
from emu.kernel.fate import drop, note_memory
from emu.kernel.machine import (
    DRIVER_8139CP,
    DRIVER_E1000_PS,
    DRIVER_E1000E,
    DRIVER_TG3,
    NONE,
    Device,
    Machine,
    Packet,
)
from emu.kernel.netdevice import dev_memalloc_skb, refusing_rule
from emu.kernel.replace import (
    TG3_RX_PKT_BUF_SZ,
    cp_buffer_bytes,
    replace_clean_one,
    replace_fill,
    replace_post,
)
from emu.kernel.slab import blame_last_page


def set_buffer_sizes(m: Machine, d: int) -> None:
    """What the driver's receive buffers hold, for the device's MTU."""
    dev = m.dev[d]
    if dev.driver == DRIVER_8139CP:
        dev.rx_buffer_len = cp_buffer_bytes(dev.mtu)
    elif dev.driver == DRIVER_TG3:
        dev.rx_buffer_len = TG3_RX_PKT_BUF_SZ
    elif dev.driver == DRIVER_E1000E:
        dev.rx_buffer_len = e1000e_rx_buffer_len(dev.mtu)
    else:
        dev.rx_buffer_len = rx_buffer_len_for(dev.mtu)
    dev.rx_skb_bytes = E1000_RXBUFFER_256 if dev.driver == DRIVER_E1000_PS else dev.rx_buffer_len


def nic_receive(m: Machine, d: int, p: Packet, seq: int) -> bool:
    """A frame arrives at NIC `d`; whether it is in the ring now, else it has its verdict."""
    return e1000_receive_frame(m, d, p, seq)


def nic_clean(m: Machine, d: int, p: Packet) -> int:
    """Take the next descriptor with (a segment of) packet `p` off the ring; its skb, or -1: the driver drops it."""
    driver = m.dev[d].driver
    if replaces(driver):
        return replace_clean_one(m, d, p)
    if driver == DRIVER_E1000_PS:
        return e1000_clean_one_ps(m, d, split_pages_of(p))
    if driver == DRIVER_E1000E:
        return e1000e_clean_one(m, d, p.length // p.segments)
    return e1000_clean_one(m, d)


def nic_cleaned(m: Machine, d: int) -> None:
    """A packet went up: drivers that refill inside the pass may do so."""
    if m.dev[d].driver == DRIVER_E1000E:
        e1000e_cleaned(m, d)


def nic_drop(m: Machine, d: int, p: Packet) -> None:
    """The driver found no buffer to replace a packet's: it drops the packet and keeps the buffer."""
    dev = m.dev[d]
    dev.rx_dropped += p.segments
    p.skb_dev = d
    note_memory(m, p)
    p.cause = m.alloc_cause
    blame_last_page(m, p)
    p.rule = refusing_rule(m, d)
    drop(m, p, NONE, NO_MEMORY, AT_TG3_RX if dev.driver == DRIVER_TG3 else AT_CP_RX_POLL)


def nic_refill(m: Machine, d: int) -> None:
    """Refill the ring after a pass."""
    driver = m.dev[d].driver
    if replaces(driver):
        replace_post(m, d)
    elif driver == DRIVER_E1000_PS:
        e1000_alloc_rx_buffers_ps(m, d)
    elif driver == DRIVER_E1000E:
        e1000e_refill(m, d)
    else:
        e1000_alloc_rx_buffers(m, d)


def nic_fill(m: Machine, d: int) -> None:
    """Fill the empty ring of a device that comes up."""
    if replaces(m.dev[d].driver):
        replace_fill(m, d)
    else:
        nic_refill(m, d)


def nic_hold(m: Machine, d: int) -> None:
    """A socket outside the capture holds a buffer of the ring: a full frame's at MTU 1500."""
    dev = m.dev[d]
    if replaces(dev.driver):
        b = dev_memalloc_skb(m, d)
        assert b != NONE
    else:
        if dev.driver == DRIVER_E1000_PS:
            e1000_clean_one_ps(m, d, 1)
        else:
            e1000_clean_one(m, d)
        dev.ring_done += 1
        dev.rdh = ring_next(dev.rdh, dev.ring_size)
    m.background_held += 1


def nic_intr(m: Machine, d: int) -> None:
    """An interrupt that brings no packet: the poll that it schedules refills the ring, or it does so itself.

    Without NAPI the interrupt goes round once more after a round that found work (e1000_intr), and a round refills.
    """
    if m.dev[d].napi:
        schedule_poll(m, d)
    else:
        nic_refill(m, d)
        nic_refill(m, d)


def nic_tx_done(m: Machine, d: int) -> None:
    """A frame has been sent: the interrupt of its completion; with MSI-X (e1000e) it polls nothing."""
    dev = m.dev[d]
    if not dev.up or dev.driver == DRIVER_E1000E:
        return
    if dev.napi:
        dev.poll_tx = 1
    nic_intr(m, d)


def has_watchdog(driver: int) -> bool:
    """Whether a driver raises an interrupt of its own every 2 s, so that an empty ring is tried again."""
    return not replaces(driver)


def nic_watchdog(m: Machine, d: int) -> None:
    """The watchdog's interrupt (e1000_watchdog_task raises RXDMT0)."""
    m.dev[d].watchdog_ns += E1000_WATCHDOG_NS
    nic_intr(m, d)


def poll_is_done(dev: Device) -> bool:
    """Whether the device leaves the poll list: 2.6.12 after a poll without work, 6.x after one below its weight.

    A poll without a quota only waits its turn.
    """
    if dev.driver == DRIVER_E1000E:
        return dev.poll_work < dev.poll_limit
    return dev.poll_limit > 0 and dev.poll_work == 0 and dev.poll_tx == 0
