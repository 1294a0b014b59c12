"""What a frame that came through a TAP costs the socket it waits in: the real kernel's skb->truesize.

Source: Linux v6.18 drivers/net/tun.c tun_get_user, tun_build_skb; net/core/skbuff.c __build_skb_around;
include/linux/skbuff.h SKB_TRUESIZE: the frame and NET_SKB_PAD in cache lines, a struct sk_buff and a struct
skb_shared_info.  It holds on x86-64 (NET_IP_ALIGN 0), for a nonblocking TAP without virtio's headers and frames that
fit a page so.  `measured_truesize` asks the kernel that runs, which may be another.
"""

import os
import socket
import struct
from collections.abc import Callable

from emu.live.lab.lab import Lab, Tap, open_in_namespace
from emu.wire.checksum import ones_sum

CACHE_LINE_BYTES = 64  # SMP_CACHE_BYTES
NET_SKB_PAD = 64
SK_BUFF_BYTES = 256  # SKB_DATA_ALIGN(sizeof(struct sk_buff))
SHARED_INFO_BYTES = 320  # SKB_DATA_ALIGN(sizeof(struct skb_shared_info))

SHORTEST_BYTES, LONGEST_BYTES = 42, 1514  # the frames that are measured: UDP without a byte, Ethernet's MTU
SO_MEMINFO = 55  # SK_MEMINFO_RMEM_ALLOC is its first word
PORT = 9
OURS, THEIRS = "10.77.255.2", "10.77.255.1"
_IPV4 = struct.Struct(">BBHHHBBH4s4s")

Truesize = Callable[[int], int]  # of a frame so long: bytes, or less


def tap_truesize(frame_bytes: int) -> int:
    """Bytes, as Linux 6.18 has it on x86-64."""
    padded = (frame_bytes + NET_SKB_PAD + CACHE_LINE_BYTES - 1) & ~(CACHE_LINE_BYTES - 1)
    return padded + SK_BUFF_BYTES + SHARED_INFO_BYTES


def at_least(frame_bytes: int) -> int:
    """Bytes that any skb with such a frame is charged with at the least: for interfaces that are not known."""
    return max(1, frame_bytes)


def measured_truesize(lab: Lab) -> Truesize:
    """What this kernel charges: from frames of each length to a socket in a namespace that is made for it.

    About 0.1 s.  A length that was not measured, or did not arrive, counts as `at_least` says.
    """
    namespace = lab.namespace("truesize")
    tap = lab.tap("emusize", namespace=namespace, address=f"{OURS}/24")
    with open_in_namespace(namespace, _reader) as reader:
        seen = {length: _charged(tap, reader, length) for length in range(SHORTEST_BYTES, LONGEST_BYTES + 1)}
    return lambda frame_bytes: max(seen.get(frame_bytes, 0), at_least(frame_bytes))


def _reader() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((OURS, PORT))
    made.setblocking(False)
    return made


def _charged(tap: Tap, reader: socket.socket, length: int) -> int:
    """What one frame is charged; 0 when it did not arrive."""
    os.write(tap.fd, _frame(tap, length))
    charged = int(struct.unpack_from("=I", reader.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4))[0])
    try:
        reader.recv(LONGEST_BYTES)
    except BlockingIOError:
        return 0
    return charged


def _frame(tap: Tap, length: int) -> bytes:
    """A UDP datagram without a checksum, in IPv4, to the TAP's own address."""
    ends = socket.inet_aton(THEIRS), socket.inet_aton(OURS)
    head = 0x45, 0, length - 14, 0, 0, 64, socket.IPPROTO_UDP
    without = _IPV4.pack(*head, 0, *ends)
    checksum = 0xFFFF - ones_sum(without, 0, len(without))
    udp = struct.pack(">HHHH", PORT, PORT, length - 34, 0) + bytes(length - 42)
    ethernet = bytes.fromhex(tap.mac.replace(":", "")) + b"\x02\0\0\0\0\x01\x08\0"
    return ethernet + _IPV4.pack(*head, checksum, *ends) + udp
