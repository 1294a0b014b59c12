"""Interfaces come up and go down: the reserve, the ring, and what is lost with it.

Source: Linux 2.6.12 drivers/net/e1000/e1000_main.c e1000_up, e1000_down, e1000_clean_rx_ring, e1000_change_mtu;
8139cp.c cp_open; tg3.c tg3_init_rings; Phillips, linux-mm, v5 and v6 (August 2005): up reserves, down gives back.
The ring is freed without a word to the count: a device that was in reserve still is when it comes up again.
Differs: packets that wait in the CPU's input queue stay there; link negotiation takes no time; a device that is down
takes no frame, so a frame for it is dropped at the NIC.
"""

from typing import Any

from emu.kernel.driver import has_watchdog, nic_fill, set_buffer_sizes
from emu.kernel.drop_reason import AT_E1000_DOWN, DEV_READY
from emu.kernel.e1000 import POLL_LIST
from emu.kernel.fate import drop, note_memory
from emu.kernel.machine import DRIVER_8139CP, NEVER_NS, NONE, Machine, Packet
from emu.kernel.netdevice import reserve_for_device, unreserve_for_device
from emu.kernel.retransmit import AGAIN_SEQ
from emu.kernel.skbuff import free_frags, kfree_skb
from emu.kernel.tx_queue import tx_purge


def clear_ring(m: Machine, d: int) -> None:
    """An empty ring, as the driver lays it out before it fills it."""
    dev = m.dev[d]
    for slot in range(dev.ring_size):
        dev.ring_skb[slot] = NONE
        dev.ring_seq[slot] = NONE
        dev.ring_pages[slot] = NONE
    dev.ring_slots = dev.ring_size
    dev.ring_filled = 0
    dev.ring_done = 0
    dev.ring_unposted = 0
    dev.next_to_use = 0
    dev.next_to_clean = 0
    dev.rdh = 0
    dev.rdt = 0
    dev.refill_cause = 0
    dev.poll_tx = 0


def dev_open(m: Machine, d: int) -> None:
    """Bring an interface up: its part of the reserve, then its ring; 8139cp stays down when it cannot fill it."""
    dev = m.dev[d]
    set_buffer_sizes(m, d)
    clear_ring(m, d)
    reserve_for_device(m, d)
    nic_fill(m, d)
    dev.up = 1
    dev.opened += 1
    dev.watchdog_ns = m.now_ns if has_watchdog(dev.driver) else NEVER_NS
    if dev.driver == DRIVER_8139CP and dev.ring_filled < dev.ring_size:
        free_ring(m, d)
        unreserve_for_device(m, d)
        dev.up = 0


def drop_at_down(m: Machine, p: Packet, d: int) -> None:
    """A packet is lost with the ring."""
    p.skb_dev = d
    note_memory(m, p)
    drop(m, p, NONE, DEV_READY, AT_E1000_DOWN)


def drop_waiting(m: Machine, rows: Any, d: int) -> None:
    """The packets that the driver has not taken off the ring are lost."""
    dev = m.dev[d]
    last = NONE
    for k in range(dev.ring_done):
        seq = dev.ring_seq[(dev.next_to_clean + k) % dev.ring_slots]
        if seq != last:
            if seq >= 0:
                drop_at_down(m, rows[seq - m.seq_base], d)
            else:
                drop_at_down(m, m.again[AGAIN_SEQ - seq].p, d)
        last = seq


def free_ring(m: Machine, d: int) -> None:
    """Free every buffer and page of the ring (e1000_clean_rx_ring)."""
    dev = m.dev[d]
    for slot in range(dev.ring_size):
        if dev.ring_skb[slot] != NONE:
            kfree_skb(m, dev.ring_skb[slot])
        free_frags(m, dev.ring_pages[slot])
    clear_ring(m, d)


def leave_poll_list(m: Machine, d: int) -> None:
    """Take a device off the poll list (netif_poll_disable); the softirq ends with the last one."""
    dev = m.dev[d]
    kept = 0
    for at in range(m.poll_len):
        other = m.poll_list[(m.poll_head + at) % POLL_LIST]
        if other != d:
            m.poll_list[(m.poll_head + kept) % POLL_LIST] = other
            kept += 1
    m.poll_len = kept
    if kept == 0:
        m.softirq_active = 0
    dev.poll_scheduled = 0
    dev.polling = 0


def dev_close(m: Machine, rows: Any, d: int) -> None:
    """Take an interface down: what waits in its ring is lost, its buffers are freed, its reserve is given back."""
    dev = m.dev[d]
    dev.up = 0
    dev.watchdog_ns = NEVER_NS
    if m.config.closed:
        tx_purge(m, d)
    leave_poll_list(m, d)
    drop_waiting(m, rows, d)
    free_ring(m, d)
    unreserve_for_device(m, d)


def change_mtu(m: Machine, rows: Any, d: int, mtu: int) -> None:
    """A new MTU: a running interface goes down and up again, with buffers of the new size (e1000_change_mtu)."""
    dev = m.dev[d]
    running = dev.up
    if running:
        dev_close(m, rows, d)
    dev.mtu = mtu
    if running:
        dev_open(m, d)
