"""Drops as the kernel's drop monitor reports them: generic netlink messages of the family NET_DM, as a capture.

A record is a cooked header of LINKTYPE_NETLINK and one message, as dropwatch's dwdump writes them.  The first announces
the family's number, for it is dynamic: without it Wireshark sees generic netlink only.  Each other is a PACKET_ALERT
with the attributes in the kernel's order (Linux 6.19 net/core/drop_monitor.c, net_dm_packet_report_fill and
net_dm_hw_packet_report_fill; include/uapi/linux/net_dropmon.h).

A drop that frees an skb has origin SW: symbol, reason, port, time of the drop, length, frame.  A drop in the NIC has
origin HW, as of a driver that reports such drops through devlink: no symbol, but a trap; its name is our reason.  A
real e1000 has no traps.  Made up are the address (one per function), `+0x0` behind the symbol, the interface indices
(from 2, in the order of the file) and the family's number.

The frame begins with its Ethernet header, as the kernel copies it: one that was captured without gets a header with
addresses of zero.  Like the kernel's, a payload ends where an attribute does, at 65527 bytes.
"""

import struct
from typing import NamedTuple

from emu.capture.blocks import (
    interface_block,
    section_header,
)
from emu.capture.linktype import linktype_name
from emu.capture.output import OutputFile
from emu.capture.write import PCAP, PCAP_NS_MAGIC, SECOND_NS, SECONDS_END
from emu.errors import UsageError
from emu.kernel.drop_reason import REASONS, RX_MISSED
from emu.verdicts.export.freed import NIC, address_of, location_of
from emu.verdicts.export.packet_block import packet_block
from emu.wire import ethernet
from emu.wire.headers import LINKTYPE_ETHERNET
from emu.wire.link import link_header_len, link_type

LINKTYPE_NETLINK = 253
SNAPLEN = 262_144
ARPHRD_NETLINK = 824
NETLINK_GENERIC = 16

# include/uapi/linux/genetlink.h
GENL_ID_CTRL = 0x10
CTRL_CMD_NEWFAMILY, CTRL_VERSION = 1, 2
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_VERSION, CTRL_ATTR_HDRSIZE, CTRL_ATTR_MAXATTR = range(1, 6)
CTRL_ATTR_MCAST_GROUPS = 7
CTRL_ATTR_MCAST_GRP_NAME, CTRL_ATTR_MCAST_GRP_ID = 1, 2

# include/uapi/linux/net_dropmon.h
NET_DM_VERSION = 2
NET_DM_CMD_PACKET_ALERT = 5
NET_DM_GRP_ALERT = 1
ATTR_PC, ATTR_SYMBOL, ATTR_IN_PORT, ATTR_TIMESTAMP, ATTR_PROTO, ATTR_PAYLOAD = range(2, 8)
ATTR_ORIG_LEN, ATTR_ORIGIN, ATTR_HW_TRAP_GROUP_NAME, ATTR_HW_TRAP_NAME = 10, 14, 15, 16
ATTR_REASON = ATTR_MAX = 23
PORT_NETDEV_IFINDEX, PORT_NETDEV_NAME = 0, 1
ORIGIN_SW, ORIGIN_HW = 0, 1

NLA_F_NESTED = 1 << 15
NLA_HEADER = 4
MAX_PAYLOAD = 0xFFFF - NLA_HEADER - 4  # NET_DM_MAX_PACKET_SIZE
FAMILY = 0x1C  # whatever the kernel gives out; the first message says so
FIRST_IFINDEX = 2  # behind lo

# net/core/devlink.c names its generic trap groups so.
BUFFER_DROPS, L2_DROPS = "buffer_drops", "l2_drops"


class Drop(NamedTuple):
    """What a message says of one drop; `time_ns` is when it happened."""

    reason: str
    point: str
    ifindex: int
    device: str
    time_ns: int
    length: int  # bytes on the wire, of an Ethernet frame
    protocol: int
    frame: bytes  # from its Ethernet header on


class NetDmWriter:
    """Writes drops as messages; after every `write` the file is valid."""

    def __init__(self, output: OutputFile, file_format: str, comments: list[str]) -> None:
        """Write the file's headers; `comments` go to that of a pcapng."""
        self._output = output
        self._pcap = file_format == PCAP
        self._announced = False
        if self._pcap:
            output.write(struct.pack("<IHHiIII", PCAP_NS_MAGIC, 2, 4, 0, 0, SNAPLEN, LINKTYPE_NETLINK))
        else:
            output.write(section_header(comments) + interface_block(LINKTYPE_NETLINK, "net_dm"))

    def write(self, drop: Drop) -> None:
        """Write the message of a drop; the first is preceded by the announcement, at the same time."""
        time_ns = max(drop.time_ns, 0)
        if not self._announced:
            self._record(time_ns, family_message())
            self._announced = True
        self._record(time_ns, alert(drop))

    def _record(self, time_ns: int, message: bytes) -> None:
        packet = COOKED + message
        if not self._pcap:
            self._output.write(packet_block(0, time_ns, packet, len(packet)))
            return
        if time_ns >= SECONDS_END * SECOND_NS:
            raise UsageError(f"{self._output.name}: a drop lies beyond 2106, which a pcap cannot tell; use .pcapng")
        seconds, ns = divmod(time_ns, SECOND_NS)
        self._output.write(struct.pack("<IIII", seconds, ns, len(packet), len(packet)) + packet)


COOKED = struct.pack(">HH10xH", 0, ARPHRD_NETLINK, NETLINK_GENERIC)


def attribute(code: int, value: bytes) -> bytes:
    """A netlink attribute, padded to 4 bytes (include/uapi/linux/netlink.h, struct nlattr)."""
    return struct.pack("<HH", NLA_HEADER + len(value), code) + value + bytes(-len(value) % 4)


def text(code: int, value: str) -> bytes:
    """An attribute that is a string, with its end."""
    return attribute(code, value.encode() + b"\0")


def message(family: int, command: int, version: int, attributes: list[bytes]) -> bytes:
    """A generic netlink message as the kernel sends it to a group: sequence number and port are 0."""
    body = struct.pack("<BBH", command, version, 0) + b"".join(attributes)
    return struct.pack("<IHHII", 16 + len(body), family, 0, 0, 0) + body


def family_message() -> bytes:
    """The announcement of the family NET_DM (net/netlink/genetlink.c, ctrl_fill_info)."""
    group = text(CTRL_ATTR_MCAST_GRP_NAME, "events")
    group += attribute(CTRL_ATTR_MCAST_GRP_ID, struct.pack("<I", NET_DM_GRP_ALERT))
    attributes = [
        text(CTRL_ATTR_FAMILY_NAME, "NET_DM"),
        attribute(CTRL_ATTR_FAMILY_ID, struct.pack("<H", FAMILY)),
        attribute(CTRL_ATTR_VERSION, struct.pack("<I", NET_DM_VERSION)),
        attribute(CTRL_ATTR_HDRSIZE, struct.pack("<I", 0)),
        attribute(CTRL_ATTR_MAXATTR, struct.pack("<I", ATTR_MAX)),
        attribute(CTRL_ATTR_MCAST_GROUPS | NLA_F_NESTED, attribute(1 | NLA_F_NESTED, group)),
    ]
    return message(GENL_ID_CTRL, CTRL_CMD_NEWFAMILY, CTRL_VERSION, attributes)


def alert(drop: Drop) -> bytes:
    """The message of one drop."""
    origin = ORIGIN_HW if drop.point == NIC else ORIGIN_SW
    attributes = [attribute(ATTR_ORIGIN, struct.pack("<H", origin))]
    if origin == ORIGIN_HW:
        attributes.append(text(ATTR_HW_TRAP_GROUP_NAME, trap_group_of(drop.reason)))
        attributes.append(text(ATTR_HW_TRAP_NAME, drop.reason.lower()))
    else:
        attributes.append(attribute(ATTR_PC, struct.pack("<Q", address_of(drop.point))))
        attributes.append(text(ATTR_REASON, drop.reason))
        attributes.append(text(ATTR_SYMBOL, location_of(drop.point)))
    port = attribute(PORT_NETDEV_IFINDEX, struct.pack("<I", drop.ifindex)) + text(PORT_NETDEV_NAME, drop.device)
    attributes.append(attribute(ATTR_IN_PORT | NLA_F_NESTED, port))
    attributes.append(attribute(ATTR_TIMESTAMP, struct.pack("<Q", max(drop.time_ns, 0))))
    attributes.append(attribute(ATTR_ORIG_LEN, struct.pack("<I", drop.length)))
    if drop.frame:
        attributes.append(attribute(ATTR_PROTO, struct.pack("<H", drop.protocol)))
        attributes.append(attribute(ATTR_PAYLOAD, drop.frame[:MAX_PAYLOAD]))
    return message(FAMILY, NET_DM_CMD_PACKET_ALERT, NET_DM_VERSION, attributes)


def trap_group_of(reason: str) -> str:
    """The devlink trap group that a drop in the NIC would belong to."""
    return BUFFER_DROPS if reason == REASONS[RX_MISSED].name else L2_DROPS


def ethernet_frame(captured: bytes, length: int, linktype: int) -> tuple[bytes, int, int]:
    """A captured frame of `length` bytes on the wire as an Ethernet frame: its bytes, its length, its ethertype.

    A frame without an Ethernet header gets one.  Of one that is cut off within its header the type is 0.
    """
    header = link_header_len(linktype)
    assert header >= 0, f"{linktype_name(linktype)} is not dissected"
    protocol = link_type(captured, 0, linktype) if len(captured) >= max(header, 1) else 0
    if linktype == LINKTYPE_ETHERNET:
        return captured, length, protocol
    made = bytes(ethernet.TYPE) + struct.pack(">H", protocol)
    return made + captured[header:], max(length - header, 0) + len(made), protocol
