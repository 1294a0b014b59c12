"""Drops as ftrace prints the tracepoint skb:kfree_skb of Linux 6.19, a line for each skb that the kernel threw away.

The event is `skbaddr=%p rx_sk=%p protocol=%u location=%pS reason: %s` (include/trace/events/skb.h); what stands before
it is ftrace's `%16s-%-7d [%03d] flags %5lu.%06lu: event: ` (kernel/trace/trace_output.c, trace_print_context,
trace_print_time), as /sys/kernel/tracing/trace shows it.  What a real kernel knows and the emulator does not is made
up, the same way every time:

- task, CPU and flags are `<idle>-0 [000] ..s1.`: the softirq of an idle machine;
- the time is the emulated clock's at the verdict, in seconds and rounded to microseconds as ftrace does;
- skbaddr is the number of the frame, in hexadecimal: an event that comes later to the same packet has the same;
- rx_sk is zero without a socket, else a number made of the socket's name;
- location is the function with `+0x0`: in which instruction of it nobody knows;
- protocol is read off the flow; 0 where the row has none and the function serves several.

What the emulator drops without freeing an skb has no line: a NIC without a buffer makes no skb, and 8139cp and tg3
put the buffer of a packet that they drop back into the ring.
"""

import re
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from emu.capture.output import OutputFile
from emu.kernel.drop_reason import (
    AT_ARP_RCV,
    AT_ICMP_RCV,
    AT_ICMPV6_RCV,
    AT_IGMP_RCV,
    AT_IP6_EVICTOR,
    AT_IP6_FORWARD,
    AT_IP6_FRAG_EXPIRE,
    AT_IP6_INPUT_FINISH,
    AT_IP6_RCV_FINISH,
    AT_IP_DEFRAG,
    AT_IP_EVICTOR,
    AT_IP_EXPIRE,
    AT_IP_FORWARD,
    AT_IP_LOCAL_DELIVER,
    AT_IP_RCV,
    AT_IP_RCV_FINISH,
    AT_IPV6_FRAG_RCV,
    AT_IPV6_RCV,
    AT_UDP_V4_MCAST_DELIVER,
    AT_VLAN_SKB_RECV,
    POINTS,
    REASONS,
    RX_LENGTH,
    RX_MISSED,
)
from emu.verdicts.export.formats import Advance, Exported
from emu.verdicts.export.freed import NIC, RECYCLED, WHY_NIC, WHY_RECYCLED, location_of
from emu.verdicts.export.sink import drain
from emu.verdicts.fates import DROPPED_NAME, EVENT
from emu.wire.ethernet import TYPE_ARP, TYPE_IPV4, TYPE_IPV6
from emu.wire.headers import KIND_ARP, KIND_MALFORMED, KINDS
from emu.wire.vlan import TPID_8021Q

if TYPE_CHECKING:
    import polars

    from emu.verdicts.read import Verdicts

NEEDED = ("frame", "decided_ns", "vlan", "class", "flow", "socket", "verdict", "reason", "point")
NIC_REASONS = (REASONS[RX_MISSED].name, REASONS[RX_LENGTH].name)

# The protocol of functions that serve only one, for rows without a flow; TCP's serve both families here.
IPV4_POINTS = (
    AT_IP_RCV,
    AT_IP_RCV_FINISH,
    AT_IP_LOCAL_DELIVER,
    AT_IP_FORWARD,
    AT_IP_DEFRAG,
    AT_IP_EXPIRE,
    AT_IP_EVICTOR,
    AT_ICMP_RCV,
    AT_IGMP_RCV,
    AT_UDP_V4_MCAST_DELIVER,
)
IPV6_POINTS = (
    AT_IPV6_RCV,
    AT_IP6_RCV_FINISH,
    AT_IP6_INPUT_FINISH,
    AT_IP6_FORWARD,
    AT_IPV6_FRAG_RCV,
    AT_IP6_FRAG_EXPIRE,
    AT_IP6_EVICTOR,
    AT_ICMPV6_RCV,
)
PROTOCOL_OF_POINT = (
    {POINTS[point]: TYPE_IPV4 for point in IPV4_POINTS}
    | {POINTS[point]: TYPE_IPV6 for point in IPV6_POINTS}
    | {POINTS[AT_ARP_RCV]: TYPE_ARP}
)
ETHERTYPE = re.compile(r"ethertype 0x([0-9a-f]{4})")
IPV6_ADDRESS = re.compile(r":[0-9a-f]*:")


def export_kfree_skb(verdicts: "Verdicts", output: OutputFile, advance: Advance | None) -> Exported:
    """Write a line per skb that the kernel threw away: drops, and of a log the later events too."""
    import polars

    schema = {"line": polars.String()}
    counts: Counter[str] = Counter()

    def convert(morsel: "polars.DataFrame") -> "polars.DataFrame":
        return polars.DataFrame({"line": lines_of(morsel.iter_rows(), counts)}, schema=schema)

    def sink(query: "polars.LazyFrame", target: Any) -> Any:
        return query.sink_csv(target, include_header=False, quote_style="never")

    freed = polars.col("verdict").cast(polars.String).is_in([DROPPED_NAME, EVENT])
    table = verdicts.table.select(NEEDED).filter(freed)
    drain(table, convert, schema, output, sink, advance)
    notes = [*verdicts.notes]
    notes += [f"left out: {counts[why]} packets that {why}" for why in (WHY_NIC, WHY_RECYCLED) if counts[why]]
    if verdicts.is_capture:
        notes.append("a capture does not have the events that came later to accepted packets; a log has (--log)")
    ends = {"incomplete": verdicts.incomplete, "damage": verdicts.damage}
    return Exported(counts["lines"], "lines", tuple(notes), nothing="no skb was dropped", **ends)


def lines_of(rows: Any, counts: "Counter[str]") -> list[str]:
    """The lines of rows of the columns NEEDED; counts them, and what has none."""
    lines = []
    for frame, decided_ns, vlan, kind, flow, socket, _verdict, reason, point in rows:
        if not reason:
            continue  # an event that threw nothing away
        if point == NIC or reason in NIC_REASONS:  # a short comment alone names no function
            counts[WHY_NIC] += 1
        elif point in RECYCLED:
            counts[WHY_RECYCLED] += 1
        else:
            protocol = protocol_of(kind or "", flow or "", vlan or 0, point or "")
            lines.append(line_of(frame or 0, decided_ns or 0, protocol, socket or "", reason, point or ""))
    counts["lines"] += len(lines)
    return lines


def line_of(frame: int, decided_ns: int, protocol: int, socket: str, reason: str, point: str) -> str:
    """One line of the trace, without its end."""
    seconds, microseconds = divmod((decided_ns + 500) // 1_000, 1_000_000)
    rx_sk = socket_number(socket)
    return (
        f"{'<idle>':>16}-{0:<7} [000] ..s1. {seconds:5}.{microseconds:06}: kfree_skb: "
        f"skbaddr={frame & 0xFFFF_FFFF_FFFF_FFFF:016x} rx_sk={rx_sk:016x} protocol={protocol} "
        f"location={location_of(point)} reason: {reason}"
    )


def socket_number(socket: str) -> int:
    """A number that stands for a socket: never zero, which is none."""
    return zlib.crc32(socket.encode()) | 1 if socket else 0


def protocol_of(kind: str, flow: str, vlan: int, point: str) -> int:
    """skb->protocol as the function saw it, in host order; 0: the row does not say."""
    if vlan and point == POINTS[AT_VLAN_SKB_RECV]:
        return TPID_8021Q
    named = ETHERTYPE.match(flow)
    if named:
        return int(named[1], 16)
    if kind == KINDS[KIND_ARP]:
        return TYPE_ARP
    if not flow or kind == KINDS[KIND_MALFORMED]:
        return PROTOCOL_OF_POINT.get(point, 0)
    return TYPE_IPV6 if IPV6_ADDRESS.search(flow) else TYPE_IPV4
