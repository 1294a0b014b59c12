"""Frames of an interface that exists, out of the ring that the kernel shares with its packet socket.

Compiled.  TPACKET_V2: every frame has a slot, and is there as soon as the kernel says so in its first word; V3 gives
whole blocks, and what does not fill one only after a timer, a millisecond at least.  Source: linux/if_packet.h,
net/packet/af_packet.c (tpacket_rcv).  Slots hold a frame of the MTU: the kernel queues a longer one beside, whole
(PACKET_COPY_THRESH), and says TP_STATUS_COPY.
"""

from emu.kernel.record import record
from emu.live.cut import Cut, begin_cut, finish_checksum, next_segment
from emu.live.system import MAX_FRAME, load_word, read_into, store_word
from emu.wire import ethernet
from emu.wire.octets import Octets, copy_octets, le16, le32, put_be16
from emu.wire.vlan import TAG_LEN, TPID_8021Q

# struct tpacket2_hdr
TP_STATUS, TP_LEN, TP_SNAPLEN, TP_MAC, TP_VLAN_TCI, TP_VLAN_TPID = 0, 4, 8, 12, 24, 26
FOR_KERNEL, FOR_USER, COPY, VLAN_VALID, VLAN_TPID_VALID = 0, 0x01, 0x02, 0x10, 0x40
# struct virtio_net_hdr, which stands before the frame
VNET_FLAGS, VNET_GSO_TYPE, VNET_GSO_SIZE, VNET_CSUM_START, VNET_CSUM_OFFSET, VNET_BYTES = 0, 1, 4, 6, 8, 10
NEEDS_CSUM, GSO_NONE = 1, 0
RAW_BYTES = MAX_FRAME + 16  # of a frame from the queue, with its virtio_net_hdr
SCRATCH_BYTES = 2 * RAW_BYTES  # that frame, and behind it the one that is being cut


@record
class Ring:
    """The ring of one interface."""

    fd: int
    slots: int  # 0: there is no ring; the interface is a TAP
    slot_bytes: int
    block_slots: int
    block_bytes: int
    slot: int  # the next one that the kernel fills, or has filled
    scratch: int  # place of its SCRATCH_BYTES
    cut: Cut
    aggregated: int  # frames that were cut
    finished: int  # checksums
    lost: int  # frames that neither their slot nor the queue beside held whole


def is_cutting(r: Ring) -> bool:
    """Whether there are segments, which no descriptor tells of."""
    return r.cut.next < r.cut.end


def input_of(r: Ring, fd: int) -> int:
    """The descriptor that tells whether frames wait: the ring's, or the TAP's `fd`."""
    return r.fd if r.slots > 0 else fd


def put_whole(memory: Octets, slot: int, source: Octets, start: int, size: int, out: bytearray, to: int) -> int:
    """Put the frame of a slot, which is source[start:start + size], to out[to:], with the VLAN tag that it had."""
    status = load_word(memory, slot)
    if status & VLAN_VALID == 0:
        copy_octets(out, to, source, start, size)
        return size
    tpid = le16(memory, slot + TP_VLAN_TPID) if status & VLAN_TPID_VALID else TPID_8021Q
    copy_octets(out, to, source, start, ethernet.TYPE)
    put_be16(out, to + ethernet.TYPE, tpid)
    put_be16(out, to + ethernet.TYPE + 2, le16(memory, slot + TP_VLAN_TCI))
    copy_octets(out, to + ethernet.TYPE + TAG_LEN, source, start + ethernet.TYPE, size - ethernet.TYPE)
    return size + TAG_LEN


def fetch(r: Ring, memory: Octets, slot: int, scratch: bytearray, out: bytearray, to: int) -> int:
    """Put the frame of a slot to out[to:]; its bytes, 0 when it is not there whole."""
    size, there = le32(memory, slot + TP_LEN), le32(memory, slot + TP_SNAPLEN)
    queued = load_word(memory, slot) & COPY > 0
    got = read_into(r.fd, scratch, r.scratch, RAW_BYTES) - VNET_BYTES if queued else there
    if got != size or size < ethernet.HEADER_LEN or size + TAG_LEN > MAX_FRAME:
        r.lost += 1
        return 0
    if queued:
        return put_whole(memory, slot, scratch, r.scratch + VNET_BYTES, size, out, to)
    return put_whole(memory, slot, memory, slot + le16(memory, slot + TP_MAC), size, out, to)


def take(r: Ring, memory: Octets, slot: int, scratch: bytearray, octets: bytearray, at: int) -> int:
    """Put the frame of a slot, or its first segment, to octets[at:], as the wire would have carried it; its bytes."""
    header = slot + le16(memory, slot + TP_MAC) - VNET_BYTES
    unfinished = memory[header + VNET_FLAGS] & NEEDS_CSUM > 0
    tag = TAG_LEN if load_word(memory, slot) & VLAN_VALID else 0
    start = le16(memory, header + VNET_CSUM_START) + tag
    if memory[header + VNET_GSO_TYPE] & 0xFF != GSO_NONE and unfinished:
        whole = r.scratch + RAW_BYTES
        size = fetch(r, memory, slot, scratch, scratch, whole)
        if size == 0:
            return 0
        if begin_cut(r.cut, scratch, whole, size, start, le16(memory, header + VNET_GSO_SIZE)):
            r.aggregated += 1
            return next_segment(r.cut, scratch, octets, at)
        copy_octets(octets, at, scratch, whole, size)
    else:
        size = fetch(r, memory, slot, scratch, octets, at)
    if size > 0 and unfinished:
        r.finished += 1
        finish_checksum(octets, at, size, start, le16(memory, header + VNET_CSUM_OFFSET))
    return size


def read_ring(r: Ring, memory: Octets, scratch: bytearray, octets: bytearray, at: int) -> int:
    """Put the next frame to octets[at:]; its bytes, 0 when none waits."""
    if is_cutting(r):
        return next_segment(r.cut, scratch, octets, at)
    size = 0
    while size == 0:
        slot = r.slot // r.block_slots * r.block_bytes + r.slot % r.block_slots * r.slot_bytes
        if load_word(memory, slot + TP_STATUS) & FOR_USER == 0:
            break
        size = take(r, memory, slot, scratch, octets, at)
        store_word(memory, slot + TP_STATUS, FOR_KERNEL)
        r.slot = (r.slot + 1) % r.slots
    return size
