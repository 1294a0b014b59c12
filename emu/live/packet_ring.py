"""An interface that exists: its frames come from a packet socket's ring, and go out through another packet socket.

Nothing of the interface is changed, and nothing stays when this process ends, however it does: the ring, the sockets
and promiscuity are the kernel's, which it takes back with them.

Who is behind the interface has a MAC of its own, so it has to be promiscuous, and what is sent bears a MAC that is not
the interface's.  A veth, a bridge's port, a VM's TAP and a plain wired NIC allow that; a Wi-Fi client does not (the
access point knows its own MAC only), nor does a switch with port security, nor most clouds' virtual NICs.
Source: packet(7); linux/if_packet.h; net/packet/af_packet.c.
"""

import fcntl
import mmap
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from emu.errors import UsageError
from emu.live.lab.links import index_of, mac_of
from emu.live.lab.namespaces import netlink, open_in_namespace
from emu.live.lab.privileges import CAP_NET_RAW, needs_capabilities
from emu.live.lab.record import Link, is_alive, read_record
from emu.live.state import run_folder

# linux/if_packet.h
SOL_PACKET = 263
ADD_MEMBERSHIP, DROP_MEMBERSHIP, RX_RING, STATISTICS = 1, 2, 5, 6
COPY_THRESH, VERSION, VNET_HDR, IGNORE_OUTGOING = 7, 10, 15, 23
TPACKET_V2 = 1
MR_PROMISC = 1
MEMBERSHIP = struct.Struct("=iHH8s")  # struct packet_mreq
RING_REQUEST = struct.Struct("=IIII")  # struct tpacket_req
DROPS = struct.Struct("=4xI")  # of struct tpacket_stats
ETH_P_ALL = 3
ARPHRD_ETHER = 1
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32  # asm-generic/socket.h
IFF_UP = 1
SIOCGIFNAME, SIOCGIFFLAGS = 0x8910, 0x8913
REQUEST = struct.Struct("16s24x")  # struct ifreq

BLOCK_BYTES = 1 << 16
SLOTS = 8192  # as many frames as a TAP's queue holds
MOST_RING_BYTES = 32 << 20
QUEUE_BYTES = 32 << 20  # of aggregated frames, and of what is being sent
BEFORE_FRAME = 76  # bytes of a slot: struct tpacket2_hdr, struct sockaddr_ll, struct virtio_net_hdr, alignment
ALIGNMENT = 16
LINK_LOCAL = "fe80:"


@dataclass
class PacketPort:
    """An interface that exists, and what reads and sends its frames."""

    fd: int  # writing sends a frame; nothing is received by it
    name: str
    mac: str
    index: int
    namespace: str
    addresses: list[str]  # of the interface: those at which the kernel answers
    slots: int
    slot_bytes: int
    memory: mmap.mmap
    _receiver: socket.socket
    _sender: socket.socket
    _lost: int = field(default=0)
    kind = "it exists: read by a packet socket"

    @property
    def ring(self) -> dict[str, int]:
        """The fields of `emu.live.ring.Ring` that say where the ring is."""
        return {
            "fd": self._receiver.fileno(),
            "slots": self.slots,
            "slot_bytes": self.slot_bytes,
            "block_slots": BLOCK_BYTES // self.slot_bytes,
            "block_bytes": BLOCK_BYTES,
        }

    def lost_frames(self) -> int:
        """Frames that the kernel did not put into the ring, because it was full (`tp_drops`, which a look resets)."""
        with suppress(OSError):
            (drops,) = DROPS.unpack(self._receiver.getsockopt(SOL_PACKET, STATISTICS, DROPS.size))
            self._lost += drops
        return self._lost

    def gone(self) -> str:
        """That the interface is not there any more, or is or has been down, in words, else nothing.

        Whoever waits for frames is not let sleep before what the kernel noted when it went down is taken.
        """
        try:
            went_down = self._receiver.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            named = fcntl.ioctl(self._sender, SIOCGIFNAME, struct.pack("=16si20x", b"", self.index))
            flags = fcntl.ioctl(self._sender, SIOCGIFFLAGS, REQUEST.pack(named[:16]))
        except OSError:
            return f"interface {self.name} has gone"
        (up,) = struct.unpack_from("=H", flags, 16)
        if not up & IFF_UP:
            return f"interface {self.name} is down"
        return f"interface {self.name} has been down" if went_down else ""

    def close(self) -> None:
        """Give up sockets and promiscuity; a second time does nothing."""
        with suppress(OSError):
            # Before the socket, which lives as long as somebody has its ring mapped.
            self._receiver.setsockopt(SOL_PACKET, DROP_MEMBERSHIP, _promiscuous(self.index))
        self._receiver.close()
        self._sender.close()
        with suppress(BufferError):  # an engine's view of it: the mapping goes with the view
            self.memory.close()


def answers_for_others(name: str, namespace: str) -> bool:
    """Whether the kernel answers ARP on this interface for addresses of others of its namespace (ip-sysctl.rst)."""

    def arp_ignore() -> bool:
        of = (Path(f"/proc/sys/net/ipv4/conf/{each}/arp_ignore") for each in ("all", name))
        return max(int(each.read_text()) for each in of) > 0

    try:
        return not open_in_namespace(namespace, arp_ignore)
    except (OSError, ValueError):
        return False


def interface_exists(name: str, namespace: str) -> bool:
    """Whether there is an interface of that name."""
    with netlink(namespace, f"interface {name}") as found:
        return bool(found.link_lookup(ifname=name))


def refuse_of_another_run(name: str, namespace: str) -> None:
    """Errors: UsageError when a live run that is under way has made that TAP: both would send through it."""
    for folder in run_folder().glob("[0-9]*"):
        try:
            made = read_record(folder)
        except (OSError, msgspec.MsgspecError, ValueError):
            continue
        if Link(namespace, name) in made.taps and is_alive(made):
            raise UsageError(f"interface {name} is of another live run, process {made.pid}: choose another name")


def open_packet(name: str, namespace: str, longest: int) -> PacketPort:
    """Open an interface that exists; `longest` are the bytes of a frame that needs no cutting.

    Errors: UsageError when it is no Ethernet, is down, or may not be read.
    """
    needs_capabilities(CAP_NET_RAW)
    refuse_of_another_run(name, namespace)
    with netlink(namespace, f"interface {name}") as found:
        index = index_of(found, name)
        _check(name, found.get_links(index)[0])
        mac = mac_of(found, index)
        addresses = [str(each.get("address")) for each in found.get_addr(index=index)]
    slot_bytes = -(-(BEFORE_FRAME + longest) // ALIGNMENT) * ALIGNMENT
    if slot_bytes > BLOCK_BYTES:
        raise UsageError(f"interface {name}: frames of {longest} bytes are too long for a ring; set a smaller MTU")
    blocks = min(-(-SLOTS // (BLOCK_BYTES // slot_bytes)), MOST_RING_BYTES // BLOCK_BYTES)
    slots = blocks * (BLOCK_BYTES // slot_bytes)
    sender, receiver = open_in_namespace(namespace, lambda: (_packet_socket(name), _packet_socket(name)))
    try:
        memory = _ring(receiver, name, index, RING_REQUEST.pack(BLOCK_BYTES, blocks, slot_bytes, slots), blocks)
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, QUEUE_BYTES)
        sender.bind((name, 0))
    except OSError as error:
        sender.close()
        receiver.close()
        raise UsageError(f"interface {name}: {error.strerror}; a packet socket could not be made for it") from error
    answers = [each for each in addresses if not each.startswith(LINK_LOCAL)]
    return PacketPort(
        sender.fileno(), name, mac, index, namespace, answers, slots, slot_bytes, memory, receiver, sender
    )


def _check(name: str, link: Any) -> None:
    if link["ifi_type"] != ARPHRD_ETHER:
        raise UsageError(f"interface {name}: expected an Ethernet; it is of type {link['ifi_type']} (linux/if_arp.h)")
    if not link["flags"] & IFF_UP:
        raise UsageError(f"interface {name} is down, and emu changes nothing of it: `ip link set {name} up`")


def _packet_socket(name: str) -> socket.socket:
    """A packet socket that receives nothing yet."""
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        raise UsageError(f"interface {name}: {error.strerror}; it takes a packet socket: start it with sudo") from error
    made.setblocking(False)
    return made


def _promiscuous(index: int) -> bytes:
    return MEMBERSHIP.pack(index, MR_PROMISC, 0, b"")


def _ring(receiver: socket.socket, name: str, index: int, request: bytes, blocks: int) -> mmap.mmap:
    """Make the ring of a socket, map it, and let frames come.  Errors: OSError."""
    # The order is the kernel's: version and header before the ring, what is left out before anything comes.
    for option, value in ((VERSION, TPACKET_V2), (VNET_HDR, 1), (IGNORE_OUTGOING, 1), (COPY_THRESH, 1)):
        receiver.setsockopt(SOL_PACKET, option, value)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_BYTES)
    receiver.setsockopt(SOL_PACKET, RX_RING, request)
    memory = mmap.mmap(receiver.fileno(), BLOCK_BYTES * blocks)
    try:
        receiver.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, _promiscuous(index))
        receiver.bind((name, ETH_P_ALL))
        with suppress(OSError):
            receiver.getsockopt(SOL_PACKET, STATISTICS, DROPS.size)
    except OSError:
        memory.close()
        raise
    return memory
