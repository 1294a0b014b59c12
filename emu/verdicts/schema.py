"""The log's columns, declared once: what each means, in what unit, and from which field of a packet's row it comes.

The log, `emu schema`, the explanations and the docs are made from `COLUMNS`.  A change of meaning, name or type
raises SCHEMA_VERSION.  No value is ever missing: a name or text that does not apply is empty, a number is 0.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from emu.kernel.drop_reason import CAUSES, POINTS, REASONS, VERDICTS
from emu.kernel.machine import NONE, ZONE_NORMAL, ZONES
from emu.kernel.policy import RULES
from emu.verdicts.address import TEXTS, ipv4_text, ipv6_text
from emu.wire.headers import (
    KIND_ARP,
    KIND_ICMP,
    KIND_ICMPV6,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_MALFORMED,
    KIND_TCP,
    KIND_UDP,
    KINDS,
)

SCHEMA_VERSION = 2

INT, UINT, FLAG, ENUM, TEXT = "int", "uint", "flag", "enum", "text"
TYPES = {
    INT: "signed 64-bit integer",
    UINT: "unsigned 64-bit integer",
    FLAG: "0 or 1",
    ENUM: "one of a fixed list of names",
    TEXT: "text",
}
UINT_MASK = (1 << 64) - 1


class Column(NamedTuple):
    """One column: `field` is the field of Packet that it comes from, `names` what its numbers stand for.

    `field` is empty for a constant; of flow and socket it is the field that says whether there is one.
    """

    name: str
    type: str
    unit: str
    meaning: str
    field: str
    names: tuple[str, ...] = ()


COLUMNS = (
    Column("frame", INT, "", "Number of the frame, from 1, as in the capture; an event's is its packet's.", "frame"),
    Column("packet_id", UINT, "", "epb_packetid of the capture, else the frame number.", "packet_id"),
    Column(
        "time_ns",
        INT,
        "ns",
        "When the frame arrived at the NIC, or the event happened; since 1970 if the capture says so.",
        "time_ns",
    ),
    Column("decided_ns", INT, "ns", "When its verdict fell, on the same clock.", "decided_ns"),
    Column("device", TEXT, "", "The device that it arrived on.", "dev"),
    Column("skb_device", TEXT, "", "The device that a protocol saw: VLAN, bond or bridge; empty: none did.", "skb_dev"),
    Column("vlan", INT, "", "VLAN id of its outer tag; 0: none, or a priority tag.", "vlan_outer"),
    Column("length", INT, "B", "Length on the wire, without FCS.", "length"),
    Column("class", ENUM, "", "What kind of packet it is.", "kind", KINDS),
    Column(
        "flow", TEXT, "", "Protocol and addresses, `tcp a:port > b:port`; empty if malformed, and in an event.", "kind"
    ),
    Column("socket", TEXT, "", "The local end of the socket that was found; a UDP socket is its port.", "sk"),
    Column("memalloc", FLAG, "", "1: that socket is SOCK_MEMALLOC, block I/O depends on it.", "memalloc"),
    Column(
        "verdict",
        ENUM,
        "",
        "What became of the packet; event: what happened later to an accepted one, or to a lost one that came again.",
        "verdict",
        VERDICTS,
    ),
    Column(
        "reason",
        ENUM,
        "",
        "Why it was dropped, or an event threw it away, in the kernel's own word.",
        "reason",
        tuple(r.name for r in REASONS),
    ),
    Column("cause", ENUM, "", "RX_MISSED only: why the ring was dry.", "cause", tuple(c.name for c in CAUSES)),
    Column("point", ENUM, "", "The kernel function in which the verdict fell.", "point", POINTS),
    Column("policy_rule", ENUM, "", "The rule of the policy that decided.", "rule", RULES),
    Column("from_reserve", FLAG, "", "1: its buffer was allocated with __GFP_MEMALLOC.", "from_reserve"),
    Column("pfmemalloc", FLAG, "", "1: its skb is tagged as reserve memory (policies that tag).", "pfmemalloc"),
    Column(
        "reserve_used_before",
        INT,
        "skbs",
        "Reserve buffers that the device had out before the decision (rx_reserve_used).",
        "reserve_used_before",
    ),
    Column("reserve_used_after", INT, "skbs", "The same after the decision.", "reserve_used_after"),
    Column("cap_skbs", INT, "skbs", "The device's cap on reserve buffers (rx_reserve).", "cap_skbs"),
    Column("zone", ENUM, "", "The memory zone whose pages this row shows.", "", ZONES),
    Column("free_pages", INT, "pages", "Free pages of the zone at the decision.", "free_pages"),
    Column("floor_pages", INT, "pages", "GFP_ATOMIC gets a page of the zone only above this.", "floor_pages"),
    Column("ring_free", INT, "descriptors", "Descriptors that the NIC could still fill.", "ring_free"),
    Column("backlog_len", INT, "packets", "Packets that waited for the CPU.", "backlog_len"),
    Column(
        "culprit_frame",
        INT,
        "",
        "The frame that last took what this one lacked: a buffer or a page; 0: none.",
        "culprit_frame",
    ),
)
DEVICE_COLUMNS = ("device", "skb_device")
NAMES = tuple(column.name for column in COLUMNS)

VLAN_ID = 0xFFF


def columns() -> tuple[Column, ...]:
    """The columns of the log, in order."""
    return COLUMNS


def describe() -> list[dict[str, Any]]:
    """The schema as rows for a table or JSON: name, type, unit, meaning, and the names of an enum."""
    return [
        {"name": c.name, "type": c.type, "unit": c.unit, "meaning": c.meaning, "names": list(c.names)} for c in COLUMNS
    ]


def row_values(packet: Any, devices: Sequence[str]) -> dict[str, int | str]:
    """One packet's row, of either engine, as the log has it; `devices` names devices by `Packet.dev`."""
    names = device_names(devices)
    row: dict[str, int | str] = {}
    for column in COLUMNS:
        if column.name == "flow":
            row["flow"] = flow_text(*flow_key(*(value_of(packet, field) for field in FLOW_FIELDS)))
        elif column.name == "socket":
            row["socket"] = socket_text(*socket_key(*(value_of(packet, field) for field in SOCKET_FIELDS)))
            if value_of(packet, "sk") < 0:
                row["socket"] = ""
        else:
            value = value_of(packet, column.field) if column.field else ZONE_NORMAL
            if column.type == UINT:
                value &= UINT_MASK  # the compiled engine's integers are signed
            if column.name in DEVICE_COLUMNS:
                row[column.name] = names[value + 1]
            elif column.name == "vlan":
                row["vlan"] = value & VLAN_ID
            else:
                row[column.name] = column.names[value] if column.names else value
    return row


def value_of(packet: Any, field: str) -> int:
    """A field of a packet's row, of either engine."""
    # A row of a numpy array is a void with items; its fields are attributes in compiled code only.
    return int(packet[field] if hasattr(packet, "dtype") else getattr(packet, field))


def device_names(devices: Sequence[str]) -> list[str]:
    """Names by `Packet.dev` + 1: a frame that no device took has none."""
    assert NONE == -1
    return ["", *devices]


ENDS = ("ip_version", "saddr_hi", "saddr", "daddr_hi", "daddr")
FLOW_FIELDS = (*ENDS, "kind", "ethertype", "ip_protocol", "sport", "dport")
SOCKET_FIELDS = ("ip_version", "daddr_hi", "daddr", "kind", "dport")
IPV6_FLAG = 1 << 60  # in the last part of a key


def flow_key(
    version: Any,
    saddr_hi: Any,
    saddr: Any,
    daddr_hi: Any,
    daddr: Any,
    kind: Any,
    ethertype: Any,
    protocol: Any,
    sport: Any,
    dport: Any,
) -> Any:
    """What `flow_text` needs, in five integers (or, from arrays, five arrays)."""
    rest = (version == 6) * IPV6_FLAG | kind << 56 | ethertype << 40 | protocol << 32 | sport << 16 | dport
    return saddr_hi, saddr, daddr_hi, daddr, rest


def flow_head(protocol: int) -> tuple[str, bool, bool]:
    """How a flow's text begins, and whether addresses and ports follow; from the high half of its key's last part."""
    kind = protocol >> 24 & 15
    if kind in (KIND_TCP, KIND_UDP):
        return f"{KINDS[kind]} ", True, True
    if kind in (KIND_ICMP, KIND_ICMPV6, KIND_ARP):
        return f"{KINDS[kind]} ", True, False
    if kind in (KIND_IP_FRAGMENT, KIND_IP_OTHER):
        return f"ip-proto-{protocol & 0xFF} ", True, False
    if kind <= KIND_MALFORMED:
        return "", False, False
    return f"ethertype 0x{protocol >> 8 & 0xFFFF:04x}", False, False


@lru_cache(maxsize=TEXTS)
def flow_text(saddr_hi: int, saddr: int, daddr_hi: int, daddr: int, rest: int) -> str:
    """A flow for a person, from its key."""
    head, has_addresses, has_ports = flow_head(rest >> 32)
    if not has_addresses:
        return head
    ends = _end(saddr_hi, saddr, rest, has_ports, rest >> 16), _end(daddr_hi, daddr, rest, has_ports, rest)
    return f"{head}{ends[0]} > {ends[1]}"


def socket_key(version: Any, daddr_hi: Any, daddr: Any, kind: Any, dport: Any) -> Any:
    """What `socket_text` needs, in three integers (or, from arrays, three arrays)."""
    return daddr_hi, daddr, (version == 6) * IPV6_FLAG | kind << 16 | dport


def socket_head(kind: int) -> tuple[str, bool, bool]:
    """How a socket's text begins, and whether its address and port follow."""
    if kind == KIND_TCP:
        return "tcp ", True, True
    # The kernel finds a UDP socket by its port alone, as far as the machine is modelled.
    return ("udp ", False, True) if kind == KIND_UDP else ("", False, False)


@lru_cache(maxsize=TEXTS)
def socket_text(daddr_hi: int, daddr: int, rest: int) -> str:
    """The local end of a socket, from its key: the destination of the packet that found it."""
    head, has_address, has_port = socket_head(rest >> 16 & 15)
    if not has_address:
        return f"{head}:{rest & 0xFFFF}" if has_port else head
    return f"{head}{_end(daddr_hi, daddr, rest, has_port, rest)}"


def _end(high: int, low: int, rest: int, has_port: bool, port: int) -> str:
    """An address, and perhaps a port: `10.0.0.1:80`, `[2001:db8::1]:80`."""
    if not rest & IPV6_FLAG:
        return f"{ipv4_text(low)}:{port & 0xFFFF}" if has_port else ipv4_text(low)
    text = ipv6_text(high, low)
    return f"[{text}]:{port & 0xFFFF}" if has_port else text
