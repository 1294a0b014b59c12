"""The figures of a machine that a person follows from packet to packet, and how they changed.

Read from plain records; every figure is a count, and says its unit where it is not pages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from emu.kernel.closed_loop import WAIT_MEMORY, WAIT_NOTHING, WAIT_SNDBUF
from emu.kernel.e1000 import ring_free
from emu.kernel.machine import NONE, ZONE_HIGHMEM, ZONES, Counters
from emu.kernel.page_alloc import atomic_floor
from emu.kernel.record import fields_of
from emu.kernel.sock import IPPROTO_TCP, READERS, SS_FREE
from emu.verdicts.address import address_text
from emu.verdicts.screen import figure

Lines = dict[str, dict[str, int]]  # by line: its figures by name

COUNTERS = tuple(field.name for field in fields_of(Counters))
SOCKETS_SHOWN = 6
SESSION_STATES = ("down", "connecting", "login: security", "login: operational", "full feature")
CONN_STATES = ("closed", "SYN sent", "SYN received", "established")
CA_STATES = ("open", "recovery", "loss")
WAITS = {WAIT_NOTHING: "", WAIT_SNDBUF: "waits for room in its send buffer", WAIT_MEMORY: "waits for memory"}
ZONE_FIGURES = {
    "free": "free_pages",
    "per-CPU": "pcp_count",
    "slab": "slab_pages",
    "dirty": "dirty_pages",
    "write-back": "writeback_pages",
    "clean": "clean_pages",
    "writers'": "writer_pages",
    "others'": "other_pages",
}
MARKS = {"min": "pages_min", "low": "pages_low", "high": "pages_high"}


def figures_of(m: Any, devices: Sequence[str]) -> Lines:
    """All figures, line by line; lines that can have nothing to say are left out."""
    lines: Lines = {}
    for zone in range(min(m.zones, ZONE_HIGHMEM)):
        z = m.zone[zone]
        if z.present_pages:
            lines[ZONES[zone]] = {name: getattr(z, field) for name, field in ZONE_FIGURES.items()}
            lines[f"{ZONES[zone]} marks"] = {"GFP_ATOMIC floor": atomic_floor(m, zone)} | {
                name: getattr(z, field) for name, field in MARKS.items()
            }
    for d in range(m.devices):
        dev = m.dev[d]
        lines[f"reserve {devices[d]}"] = {
            "skbs out": dev.rx_reserve_used,
            "cap": dev.rx_reserve,
            "allocated since the start": dev.reserve_allocations,
        }
        lines[f"ring {devices[d]}"] = {
            "packets": dev.ring_done,
            "buffers shown to the NIC": ring_free(m, d),
            "buffers": dev.ring_filled,
            "missed": dev.rx_missed,
        }
        if m.config.closed:
            lines[f"sending {devices[d]}"] = {"frames waiting": dev.tx_len, "sent": dev.tx_packets}
    lines["skbs"] = {"in all": m.skbs_used, "in the backlog": m.backlog_len, "of background sockets": m.background_held}
    if m.config.closed:
        lines["writes"] = {
            "issued": sum(m.session[s].writes_issued for s in range(m.sessions)),
            "completed": sum(m.session[s].writes_completed for s in range(m.sessions)),
            "kswapd awake": m.vm.kswapd_awake,
        }
    return lines


def counters_of(m: Any) -> dict[str, int]:
    """The host's own counters (nstat, softnet_stat)."""
    return {name: getattr(m.mib, name) for name in COUNTERS}


def live_sockets(m: Any) -> list[int]:
    """The rows of sockets that are in use."""
    return [i for i in range(m.sks_made) if m.sk[i].state != SS_FREE]


def line_text(now: Mapping[str, int], then: Mapping[str, int] | None) -> str:
    """A line's figures; one that changed as `2 -> 1`.  What is 0 and was 0 is not worth a word, but for the first."""
    words = []
    for at, (name, value) in enumerate(now.items()):
        before = value if then is None else then.get(name, value)
        if value != before:
            words.append(f"{name} {figure(before)} -> {figure(value)}")
        elif value or at == 0:
            words.append(f"{name} {figure(value)}")
    return ", ".join(words)


def changes_text(now: Lines, then: Lines) -> str:
    """What changed, in one line: the figures that are not what they were."""
    words = []
    for line, figures in now.items():
        before = then.get(line, {})
        changed = [
            f"{name} {figure(before[name])} -> {figure(value)}"
            for name, value in figures.items()
            if before.get(name, value) != value
        ]
        if changed:
            words.append(f"{line}: {', '.join(changed)}")
    return "; ".join(words)


def socket_lines(m: Any) -> list[str]:
    """The sockets that hold something, the fullest first: what waits in each, of what it may hold, who reads it."""
    holding = [i for i in live_sockets(m) if m.sk[i].queue_len + m.sk[i].ofo_len]
    holding.sort(key=lambda i: (-m.sk[i].rmem_alloc, i))
    lines = []
    for i in holding[:SOCKETS_SHOWN]:
        sk = m.sk[i]
        kind = "tcp" if sk.protocol == IPPROTO_TCP else "udp"
        here = f":{sk.sport}" if not sk.saddr else f"{address_text(sk.family, sk.saddr_hi, sk.saddr)}:{sk.sport}"
        marked = ", SOCK_MEMALLOC" if sk.memalloc else ""
        ahead = f", {sk.ofo_len} out of order" if sk.ofo_len else ""
        lines.append(
            f"{kind} {here}: {sk.queue_len} queued{ahead}, {figure(sk.rmem_alloc)} of {figure(sk.rcvbuf)} B, "
            f"reader {READERS[sk.reader]}{marked}"
        )
    if len(holding) > SOCKETS_SHOWN:
        lines.append(f"and {len(holding) - SOCKETS_SHOWN} others")
    return lines


def session_lines(m: Any, now_ns: int) -> list[str]:
    """The block devices of a closed loop: the session, and the connection that it speaks through."""
    lines = []
    for s in range(m.sessions if m.config.closed else 0):
        session, conn = m.session[s], m.conn[s]
        waits = f", {WAITS[conn.wait]}" if conn.wait != WAIT_NOTHING else ""
        armed = 0 < conn.rto_due_ns < now_ns + 3600 * 10**9
        rto = f", RTO in {(conn.rto_due_ns - now_ns) / 1e6:.1f} ms" if armed else ""
        lines.append(
            f"{s}: {SESSION_STATES[session.state]}, {session.tasks} writes under way; tcp {CONN_STATES[conn.state]}, "
            f"{CA_STATES[conn.ca_state]}, cwnd {conn.snd_cwnd}, unacknowledged "
            f"{(conn.snd_nxt - conn.snd_una) & 0xFFFFFFFF} B{rto}{waits}"
        )
    return lines


def ring_cells(m: Any, d: int) -> str:
    """A ring's descriptors as cells, from slot 0: `#` a packet, `o` a buffer (`R`: of the reserve), `.` none.

    Small letters, `-` and `r`: the driver has not shown the buffer to the NIC yet.
    """
    dev = m.dev[d]
    waiting = {(dev.next_to_clean + at) % dev.ring_slots for at in range(dev.ring_done)}
    shown = {(dev.rdh + at) % dev.ring_slots for at in range(ring_free(m, d))}
    cells = []
    for slot in range(dev.ring_size):
        b = dev.ring_skb[slot]
        if slot in waiting:
            cells.append("#")
        elif b == NONE:
            cells.append(".")
        elif m.skb[b].from_reserve:
            cells.append("R" if slot in shown else "r")
        else:
            cells.append("o" if slot in shown else "-")
    return "".join(cells)
