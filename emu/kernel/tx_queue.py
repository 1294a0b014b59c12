"""Frames that wait for a NIC to send them: the queueing discipline and the ring in one FIFO per device.

Source: Linux 2.6.12 net/core/dev.c dev_queue_xmit, net/sched/sch_generic.c pfifo_fast_enqueue (tx_queue_len 1000 of
Ethernet), drivers/net/e1000/e1000_param.c (256 transmit descriptors).
Differs: one band, as every frame here has the same priority; the descriptors hold no frame of their own, so a frame
keeps its skb until it has been sent; no bonding or VLAN device transmits.
"""

from emu.kernel.closed_loop import MAX_TX, TX_REPLY
from emu.kernel.machine import NEVER_NS, NONE, Machine
from emu.kernel.skbuff import kfree_skb

TX_QUEUE_FRAMES = 256 + 1000


def tx_boot(m: Machine) -> None:
    """No frame waits anywhere."""
    m.tx_free = NONE
    m.tx_made = 0
    m.replies_open = NONE
    for d in range(m.netdevs):
        dev = m.dev[d]
        dev.tx_head = NONE
        dev.tx_tail = NONE
        dev.tx_len = 0
        dev.tx_sending = 0
        dev.tx_done_ns = NEVER_NS


def tx_row(m: Machine) -> int:
    """A row for a frame, or -1 when every row is taken."""
    row = m.tx_free
    if row != NONE:
        m.tx_free = m.tx[row].next
    elif m.tx_made < MAX_TX:
        row = m.tx_made
        m.tx_made += 1
    return row


def dev_queue_xmit(
    m: Machine, d: int, b: int, kind: int, conn: int, seq: int, ack: int, window: int, length: int, tcp_flags: int
) -> bool:
    """Queue a frame whose skb is `b`; when the queue is full, or the device down, the skb is freed: False.

    `window` is in bytes; `length` the payload bytes of a segment, all bytes of a reply.
    """
    dev = m.dev[d]
    row = NONE
    if dev.up and dev.tx_len < TX_QUEUE_FRAMES:
        row = tx_row(m)
    if row == NONE:
        kfree_skb(m, b)
        dev.tx_dropped += 1
        return False
    tx = m.tx[row]
    tx.next = NONE
    tx.kind = kind
    tx.skb = b
    tx.conn = conn
    tx.seq = seq
    tx.ack = ack
    tx.window = window
    tx.length = length
    tx.tcp_flags = tcp_flags
    tx.reply_at = NONE
    tx.reply_next = NONE
    tx.queued_ns = m.now_ns
    if dev.tx_tail == NONE:
        dev.tx_head = row
    else:
        m.tx[dev.tx_tail].next = row
    dev.tx_tail = row
    dev.tx_len += 1
    if kind == TX_REPLY:
        reply_opened(m, row)
    return True


def reply_opened(m: Machine, row: int) -> None:
    """The bytes of a reply are to be made, behind those that were queued before it."""
    if m.replies_open == NONE:
        m.replies_open = row
        return
    last = m.replies_open
    while m.tx[last].reply_next != NONE:
        last = m.tx[last].reply_next
    m.tx[last].reply_next = row


def reply_closed(m: Machine, row: int) -> None:
    """A reply is gone before its bytes were made."""
    last = NONE
    at = m.replies_open
    while at != NONE and at != row:
        last = at
        at = m.tx[at].reply_next
    if at == NONE:
        return
    if last == NONE:
        m.replies_open = m.tx[row].reply_next
    else:
        m.tx[last].reply_next = m.tx[row].reply_next


def tx_take(m: Machine, d: int) -> int:
    """Take the first frame off a device's queue and give its row away; its skb, which the caller frees."""
    dev = m.dev[d]
    row = dev.tx_head
    tx = m.tx[row]
    dev.tx_head = tx.next
    if dev.tx_head == NONE:
        dev.tx_tail = NONE
    dev.tx_len -= 1
    if tx.kind == TX_REPLY:
        reply_closed(m, row)
    tx.next = m.tx_free
    m.tx_free = row
    return tx.skb


def tx_purge(m: Machine, d: int) -> None:
    """The device goes down: what waits is lost (dev_deactivate, e1000_clean_tx_ring)."""
    dev = m.dev[d]
    while dev.tx_head != NONE:
        kfree_skb(m, tx_take(m, d))
        dev.tx_dropped += 1
    dev.tx_sending = 0
    dev.tx_done_ns = NEVER_NS
