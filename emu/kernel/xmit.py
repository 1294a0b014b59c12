"""The NIC's side of transmission: it sends the first frame of a device's queue, and says when it has.

Source: Linux 2.6.12 drivers/net/e1000/e1000_main.c e1000_clean_tx_irq.
Differs: the skb is freed when the frame has left, not when the next poll cleans the descriptor.
"""

from emu.kernel.driver import nic_tx_done
from emu.kernel.machine import NEVER_NS, NONE, Machine
from emu.kernel.skbuff import kfree_skb
from emu.kernel.tx_queue import tx_take


def tx_head(m: Machine, d: int) -> int:
    """The frame that is sent, or comes next, on device `d`: a row of `m.tx`, or -1."""
    return m.dev[d].tx_head


def tx_ready(m: Machine) -> int:
    """A device that has a frame and sends none, or -1."""
    for d in range(m.devices):
        dev = m.dev[d]
        if dev.tx_len > 0 and not dev.tx_sending:
            return d
    return NONE


def tx_begin(m: Machine, d: int, done_ns: int) -> None:
    """The NIC begins to send the first frame; it will have left at `done_ns`."""
    dev = m.dev[d]
    dev.tx_sending = 1
    dev.tx_done_ns = done_ns


def tx_complete(m: Machine, d: int) -> None:
    """The first frame has left: its skb is freed, and the interrupt of its completion comes."""
    dev = m.dev[d]
    dev.tx_sending = 0
    dev.tx_done_ns = NEVER_NS
    kfree_skb(m, tx_take(m, d))
    dev.tx_packets += 1
    m.quiet_rounds = 0
    nic_tx_done(m, d)


def tx_due_ns(m: Machine) -> int:
    """When the next NIC has sent its frame; never while none sends."""
    due = NEVER_NS
    for d in range(m.devices):
        dev = m.dev[d]
        if dev.tx_sending and dev.tx_done_ns < due:
            due = dev.tx_done_ns
    return due
