"""Whether the `mainline` policy would have done what a real kernel did, packet by packet.

No rule is written down here a second time: each kind of row is put through the machine's own functions, and what
they decide is compared with the trace.  What they cannot decide from a row (queues, sequence numbers, records that
were lost or joined wrongly) is counted as not judged, with the reason.  A record that is missing proves something only
where no trace event was lost; a record that is there always does.
"""

import re
from collections import Counter as Tally
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from emu.engine.plain import PlainEngine
from emu.engine.setup import build_machine
from emu.errors import CaptureError
from emu.kernel.dev import netif_receive_skb, skips_taps
from emu.kernel.drop_reason import DELIVERED, REASONS, UNHANDLED_PROTO
from emu.kernel.flows import flow_received
from emu.kernel.icmp import ICMP_ECHO
from emu.kernel.machine import MAX_ORDER, NONE, PACKET_HOST, ZONE_NORMAL, Packet, Zone
from emu.kernel.netdevice import dev_memalloc_skb
from emu.kernel.page_alloc import floor_of, zone_watermark_ok
from emu.kernel.policy import POLICIES, RULE_CORE, RULE_FILTER
from emu.kernel.sock import IPPROTO_TCP, IPPROTO_UDP, READER_IMMEDIATE
from emu.kernel.tcp_seq import TCP_ACK
from emu.verdicts.check_trace import (
    CLASS_ECHO,
    CLASS_UDP,
    FIRST,
    GUEST_TAP,
    HOST_TAP,
    PACKETS,
    SUMMARY,
    Repeated,
    Row,
    Tap,
    Trace,
    read_trace,
)
from emu.wire.headers import KIND_ARP, KIND_ICMP, KIND_OTHER, KIND_TCP, KIND_UDP

POLICY = "mainline"

# --- what a release calls the same drop --------------------------------------------------------------------------

ENOMEM = 12


class Release(NamedTuple):
    """How kernels since `since` report what the policy calls PFMEMALLOC."""

    since: tuple[int, int]
    filter_reasons: tuple[str, ...]  # refused by sk_filter_trim_cap
    core_reasons: tuple[str, ...]  # refused by __netif_receive_skb_core
    returns_reason: bool  # sk_filter_trim_cap may return the drop reason, a positive number, in place of -ENOMEM
    source: str


RELEASES = (
    Release((0, 0), ("SOCKET_FILTER",), ("UNHANDLED_PROTO",), False, "measured on 6.1.192, read in 6.13.7"),
    Release(
        (6, 14),
        ("SOCKET_FILTER", "PFMEMALLOC"),
        ("UNHANDLED_PROTO", "PFMEMALLOC"),
        False,
        "UNCONFIRMED: PFMEMALLOC came between 6.13 and 6.19, so both names are accepted",
    ),
    Release((6, 19), ("PFMEMALLOC",), ("PFMEMALLOC",), False, "read in v6.19"),
    Release((7, 0), ("PFMEMALLOC",), ("PFMEMALLOC",), True, "measured on 7.3.4"),
)
ANY_RELEASE = Release(
    (0, 0),
    ("SOCKET_FILTER", "PFMEMALLOC"),
    ("UNHANDLED_PROTO", "PFMEMALLOC"),
    True,
    "run.json does not name the kernel, so the names of all releases are accepted",
)


def release_of(kernel: str) -> Release:
    """The row of RELEASES for a kernel's version, as `6.1` or `7.3.4+deb13-amd64`."""
    version = re.match(r"\D*(\d+)\.(\d+)", kernel)
    if version is None:
        return ANY_RELEASE
    found = RELEASES[0]
    for release in RELEASES:
        if release.since <= (int(version[1]), int(version[2])):
            found = release
    return found


# --- what a class of the trace is ---------------------------------------------------------------------------------


class Traffic(NamedTuple):
    """What a class's name says of its packets."""

    kind: int
    ethertype: int = 0x0800
    memalloc: int | None = None  # of its socket; None: only the row's sk_memalloc column knows
    closed: int | None = None  # 1: nobody listens; None: not known


CLASSES = {
    "arp": Traffic(KIND_ARP, 0x0806),
    CLASS_ECHO: Traffic(KIND_ICMP),
    CLASS_UDP: Traffic(KIND_UDP, memalloc=0, closed=0),
    "udp_closed": Traffic(KIND_UDP, memalloc=0, closed=1),
    "tcp_bulk_unread": Traffic(KIND_TCP, memalloc=0, closed=0),
    "tcp_echo": Traffic(KIND_TCP, memalloc=0, closed=0),
}

WITHOUT_MODEL = "IPv6, VLAN and unknown classes are not modelled"
NO_SOCKET_KNOWN = "whether a socket was there is not in the row"
NOT_LINEAR = "virtio: headers are not linear at the probe, so classes are unreliable"
MISJOINED = "mis-joined record: the drop belongs to another skb at the same address"
LOST = "a record may be among the trace events that were lost"
NO_FILTER = "TCP that met no filter under its own skb: merged by GRO, or TIME_WAIT"
NOT_YET = "the socket of a memalloc class was not SOCK_MEMALLOC (yet)"
OWN_FILTER = "refused by a filter of the socket's own"
TAP_FULL = "dropped by a packet tap whose ring was full"
NO_HANDLER_KNOWN = "whether the ethertype has a handler is not in the row"
NO_REASON_SAID = "the kernel does not say why (NOT_SPECIFIED, or a number without a name)"

SOCKET_KINDS = (KIND_TCP, KIND_UDP)
VLANS = (0x8100, 0x88A8)
IPV6 = 0x86DD


def traffic_of(name: str) -> Traffic | None:
    """What a class is; None when the emulator has no model of it."""
    known = CLASSES.get(name)
    if known is not None:
        return known
    if name.endswith("_MEMALLOC"):
        kind = {"tcp": KIND_TCP, "udp": KIND_UDP}.get(name[:3])
        return None if kind is None else Traffic(kind, memalloc=1, closed=0)
    if name.startswith("tcp_"):
        return Traffic(KIND_TCP)
    if name.startswith("udp_"):
        return Traffic(KIND_UDP)
    if name.startswith("icmp_"):
        return Traffic(KIND_ICMP)
    other = re.fullmatch(r"(ethertype|l3)_([0-9a-f]{4})", name)
    if other is None:
        return None
    ethertype = int(other[2], 16)
    if other[1] == "l3":  # written as it lies in memory, low byte first
        ethertype = (ethertype & 0xFF) << 8 | ethertype >> 8
    return None if ethertype in VLANS or ethertype == IPV6 else Traffic(KIND_OTHER, ethertype)


# --- the emulated kernel's answer ---------------------------------------------------------------------------------

PORT_ORDINARY, PORT_MEMALLOC, PORT_CLOSED = 1, 2, 3
QUIET = {
    "memory_pages": 16_384,
    "sk_buff_bytes": 168,
    "l1_bytes": 128,
    "netdev_max_backlog": 300,
    "udp_rcvbuf": 1 << 30,
    "tcp_rcvbuf": 1 << 30,
    "ordinary_reader": READER_IMMEDIATE,
    "memalloc_reader": READER_IMMEDIATE,
}


class Prediction(NamedTuple):
    """What the policy's functions do with one packet."""

    verdict: int
    reason: int
    rule: int
    taps: bool  # packet taps get it
    pfmemalloc_drops: int  # what it adds to PFMemallocDrop
    udp_errors: int  # to Udp InErrors
    echo_replies: int


class QuietHost:
    """A machine without any shortage, so that a packet's fate depends on its tag and its socket alone."""

    def __init__(self, memalloc_socks: bool) -> None:
        """Boot it; `memalloc_socks`: it has a SOCK_MEMALLOC socket, so mainline's static key is on."""
        self._frame = 0
        self._known: dict[tuple[Traffic, int, int], Prediction] = {}
        self.m = build_machine(
            PlainEngine(),
            config=QUIET,
            policy=POLICIES[POLICY].rules,
            devices=[{"mtu": 1500, "weight": 64, "ring_size": 16}],
            sock_rules=[
                {"protocol": protocol, "local_port": port} | said
                for protocol in (IPPROTO_TCP, IPPROTO_UDP)
                for port, said in ((PORT_MEMALLOC, {"memalloc": 1}), (PORT_CLOSED, {"closed": 1}))
            ],
        )
        if memalloc_socks:
            flow_received(self.m, self._packet(Traffic(KIND_TCP), 1))

    def _packet(self, traffic: Traffic, memalloc: int) -> Any:
        p: Any = PlainEngine().new(Packet)
        self._frame += 1
        p.frame = p.packet_id = self._frame
        p.length = p.caplen = 1442
        p.kind = traffic.kind
        p.pkt_type = PACKET_HOST
        p.ethertype = traffic.ethertype
        p.ip_protocol = {KIND_TCP: IPPROTO_TCP, KIND_UDP: IPPROTO_UDP}.get(traffic.kind, 1)
        p.saddr, p.daddr, p.sport = 1, 2, self._frame  # each a connection of its own: none is old, none is ahead
        p.dport = PORT_CLOSED if traffic.closed else PORT_MEMALLOC if memalloc else PORT_ORDINARY
        p.l4_length, p.payload_length = 1420, 1400
        p.tcp_flags = TCP_ACK
        p.icmp_type = ICMP_ECHO
        p.quoted_port = NONE
        p.sk = NONE
        p.segments = 1
        return p

    def ask(self, traffic: Traffic, memalloc: int, pfmemalloc: int) -> Prediction:
        """What becomes of such a packet, from `netif_receive_skb` on."""
        key = (traffic, memalloc, pfmemalloc)
        if key not in self._known:
            self._known[key] = self._receive(*key)
        return self._known[key]

    def _receive(self, traffic: Traffic, memalloc: int, pfmemalloc: int) -> Prediction:
        m, mib = self.m, self.m.mib
        p = self._packet(traffic, memalloc)
        if traffic.kind in SOCKET_KINDS:
            flow_received(m, p)
        b = dev_memalloc_skb(m, 0)
        assert b != NONE, "a quiet machine has memory"
        m.skb[b].pfmemalloc = m.skb[b].from_reserve = pfmemalloc
        taps = not skips_taps(m, b)
        before = (mib.TcpExtPFMemallocDrop, mib.UdpInErrors, mib.IcmpOutEchoReps)
        netif_receive_skb(m, p, b)
        return Prediction(
            verdict=p.verdict,
            reason=p.reason,
            rule=p.rule,
            taps=taps,
            pfmemalloc_drops=mib.TcpExtPFMemallocDrop - before[0],
            udp_errors=mib.UdpInErrors - before[1],
            echo_replies=mib.IcmpOutEchoReps - before[2],
        )


# --- one row against the answer -----------------------------------------------------------------------------------

CHECKED, NOT_JUDGED, MISMATCH = range(3)


class Judged(NamedTuple):
    """What comparing a row gave; `why` it was not judged, or what was `expected` instead."""

    outcome: int
    why: str = ""
    expected: str = ""


class Setting(NamedTuple):
    """What holds for every row of a trace."""

    release: Release
    complete: bool  # no trace event was lost, so a record that is missing was never made
    tap_open: bool | None  # a packet tap ran in the guest; None: not known
    reliable_classes: bool


# Reasons that the policy's functions decide from class, tag and socket; any other needs what a row does not hold.
DECIDED = ("PFMEMALLOC", "SOCKET_FILTER", "UNHANDLED_PROTO", "NO_SOCKET", "IP_NOPROTO")
# Reasons of a socket's state, all of them behind its filter, and why a row does not show it.
QUEUE = {
    name: f"{name}: what the receive queue held is not in the row"
    for name in ("SOCKET_RCVBUFF", "SOCKET_BACKLOG", "PROTO_MEM")
}
TCP_BEFORE_FILTER = ("TCP_CSUM", "TCP_MINTTL", "TCP_MD5", "TCP_AO", "TCP_AUTH")  # v6.19 net/ipv4/tcp_ipv4.c
HEADERS = ("PKT_TOO_SMALL", "HDR_TRUNC", "IP_INHDR", "OTHERHOST")
# Which protocol a function belongs to, by how its name starts.
FUNCTIONS = (("udp", KIND_UDP), ("tcp", KIND_TCP), ("icmp", KIND_ICMP), ("arp", KIND_ARP))
TAP_FUNCTIONS = ("tpacket_rcv", "packet_rcv")


def function_of(location: str) -> str:
    """The kernel function of a location as `__udp4_lib_rcv+0x9a2`, without leading underscores."""
    return location.partition("+")[0].lstrip("_")


def state_reason(kind: int, reason: str) -> str:
    """Why a reason depends on the state of such a packet's socket, "" when it does not."""
    if kind == KIND_TCP and reason.startswith("TCP_") and not reason.startswith(TCP_BEFORE_FILTER):
        return f"{reason}: sequence numbers and windows are not in the row"
    return QUEUE.get(reason, "") if kind in SOCKET_KINDS else ""


def accepted_fates(prediction: Prediction, setting: Setting) -> tuple[str, ...]:
    """How the trace would show what the policy decided, in the words of the trace's release."""
    if prediction.verdict == DELIVERED:
        return ("ok",)
    if prediction.rule == RULE_FILTER:
        return tuple(f"drop:{name}" for name in setting.release.filter_reasons)
    if prediction.rule == RULE_CORE:
        return tuple(f"drop:{name}" for name in setting.release.core_reasons)
    dropped = f"drop:{REASONS[prediction.reason].name}"
    if prediction.reason == UNHANDLED_PROTO and prediction.taps and setting.tap_open is not False:
        # A tap takes the core's last reference and frees it without a drop (v6.19 net/core/dev.c: pt_prev).
        return ("ok",) if setting.tap_open else ("ok", dropped)
    return (dropped,)


def judge_filter(row: Row, prediction: Prediction, release: Release) -> Judged | None:
    """Compare what sk_filter_trim_cap returned; None when it agrees or was not recorded."""
    returned = row.filter_ret
    if returned is None:
        return None
    reason = row.fate.removeprefix("drop:")
    if prediction.rule == RULE_FILTER:
        if returned == -ENOMEM or (release.returns_reason and returned > 0):
            return None
        return Judged(MISMATCH, expected=f"filter_ret {-ENOMEM}")
    if returned == 0:
        return None
    if returned == -ENOMEM or row.fate == "ok" or (reason in release.filter_reasons and release.returns_reason):
        return Judged(MISMATCH, expected="filter_ret 0")
    return Judged(NOT_JUDGED, why=OWN_FILTER)


def undecided(row: Row, traffic: Traffic, prediction: Prediction, setting: Setting) -> str:
    """Why a fate other than the expected one says nothing about the policy; "" when it contradicts it."""
    refused = prediction.rule == RULE_FILTER
    if row.fate == "ok":
        if not setting.complete:
            return LOST
        return NO_FILTER if refused and traffic.kind == KIND_TCP and row.filter_ret is None else ""
    reason = row.fate.removeprefix("drop:")
    function = function_of(row.location)
    if reason == "?" or any(function.startswith(start) and traffic.kind != kind for start, kind in FUNCTIONS):
        return MISJOINED
    if prediction.taps and function in TAP_FUNCTIONS:
        return TAP_FULL
    state = state_reason(traffic.kind, reason)
    if state:
        return state if prediction.verdict == DELIVERED else ""
    if reason in DECIDED or (refused and row.filter_ret is not None):
        return ""
    if reason in HEADERS or reason.endswith("_CSUM"):
        return f"{reason}: headers and checksums are not in the row"
    if reason == "NOT_SPECIFIED" or re.fullmatch(r"r?\d+", reason):
        return NO_REASON_SAID
    return f"{reason}: the emulator has no such rule"


def judge(row: Row, traffic: Traffic, prediction: Prediction, setting: Setting) -> Judged:
    """Compare one row with what the policy's functions did."""
    if traffic.kind in SOCKET_KINDS and not traffic.closed:
        filtered = judge_filter(row, prediction, setting.release)
        if filtered is not None:
            return filtered
    accepted = accepted_fates(prediction, setting)
    if row.fate in accepted:
        return Judged(CHECKED)
    why = undecided(row, traffic, prediction, setting)
    return Judged(NOT_JUDGED, why=why) if why else Judged(MISMATCH, expected=" or ".join(accepted))


# --- the whole directory ------------------------------------------------------------------------------------------


class Mismatch(NamedTuple):
    """Where the kernel and the policy disagree."""

    where: str
    row: int  # of packets.csv.gz, the first after the header is 1; 0 when it is not one row's
    what: str
    expected: str
    found: str


@dataclass
class Findings:
    """What one part of the check found: how many mismatches, and the first of them."""

    mismatches: int = 0
    first: list[Mismatch] = field(default_factory=list)

    def add(self, mismatch: Mismatch) -> None:
        """Note one more mismatch."""
        self.mismatches += 1
        if len(self.first) < FIRST:
            self.first.append(mismatch)


@dataclass
class Group:
    """Rows of one class and tag."""

    traffic: str
    pfmemalloc: int
    predicted: list[str] = field(default_factory=list)
    rows: int = 0
    checked: int = 0
    not_judged: int = 0
    mismatches: int = 0


@dataclass
class Counter:
    """A counter of the kernel against the sum over rows; `high` is above `low` by the rows that may count."""

    name: str
    low: int = 0
    high: int = 0
    counted: int | None = None
    not_binding: str = ""  # why it proves nothing

    @property
    def agrees(self) -> bool:
        """Whether what the kernel counted is what the rows say."""
        return self.counted is not None and self.low <= self.counted <= self.high


class TapCheck(NamedTuple):
    """One rule on what packet taps see."""

    what: str
    source: str
    checked: int
    not_judged: int
    why: str
    mismatches: int


class WatermarkCheck(NamedTuple):
    """One entry of the watermark table; levels and floor in pages, the floor is the emulator's."""

    order: int
    mark: int
    flags: str
    lowmem_reserve: int
    decisions: int  # of the kernel, behind this entry
    lowest_free_ok: int | None
    highest_free_fail: int | None
    floor: int
    outcome: str


@dataclass
class Report:
    """All that a check has to say."""

    directory: str
    kernel: str
    nic: str
    release: Release
    lost_events: int | None
    rows: int
    checked: int = 0
    not_judged: dict[str, int] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)
    taps: list[TapCheck] = field(default_factory=list)
    watermark: list[WatermarkCheck] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: dict[str, Findings] = field(
        default_factory=lambda: {name: Findings() for name in ("rows", "counters", "taps", "watermark")}
    )

    @property
    def mismatches(self) -> int:
        """Mismatches of all parts."""
        return sum(part.mismatches for part in self.findings.values())

    def as_object(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {
            "directory": self.directory,
            "policy": POLICY,
            "kernel": self.kernel,
            "nic": self.nic,
            "reasons": {
                "sk_filter": list(self.release.filter_reasons),
                "core": list(self.release.core_reasons),
                "source": self.release.source,
            },
            "trace_events_lost": self.lost_events,
            "rows": self.rows,
            "checked": self.checked,
            "not_judged": self.not_judged,
            "mismatches": self.mismatches,
            "mismatches_by_part": {name: part.mismatches for name, part in self.findings.items()},
            "first_mismatches": [found._asdict() for part in self.findings.values() for found in part.first],
            "groups": [
                {
                    "class": group.traffic,
                    "pfmemalloc": group.pfmemalloc,
                    "predicted": group.predicted,
                    "rows": group.rows,
                    "checked": group.checked,
                    "not_judged": group.not_judged,
                    "mismatches": group.mismatches,
                }
                for group in self.groups
            ],
            "counters": [
                {
                    "name": counter.name,
                    "predicted_min": counter.low,
                    "predicted_max": counter.high,
                    "counted": counter.counted,
                    "agrees": counter.agrees,
                    "binding": not counter.not_binding,
                    "not_binding": counter.not_binding,
                }
                for counter in self.counters
            ],
            "taps": [tap._asdict() for tap in self.taps],
            "watermark": [entry._asdict() for entry in self.watermark],
            "notes": self.notes,
        }


def check_directory(directory: Path) -> Report:
    """Check a trace directory against the mainline policy; errors as `read_trace` has them."""
    trace = read_trace(directory)
    report = Report(
        directory=trace.name,
        kernel=trace.kernel,
        nic=trace.nic,
        release=release_of(trace.kernel),
        lost_events=trace.lost_events,
        rows=trace.rows,
    )
    setting = Setting(
        release=report.release,
        complete=report.lost_events == 0,
        tap_open={"0": False, "1": True}.get(str(trace.arguments.get("tap"))),
        reliable_classes="virtio" not in trace.nic,
    )
    host = QuietHost(static_key(trace))
    drops, errors = Counter("PFMemallocDrop"), Counter("Udp InErrors")
    check_rows(trace, host, setting, report, drops, errors)
    check_counters(trace, setting, report, drops, errors)
    check_taps(trace, host, setting, report)
    check_watermark(trace, report)
    note_limits(trace, setting, report)
    return report


def static_key(trace: Trace) -> bool:
    """Whether a SOCK_MEMALLOC socket existed: a row, the block device, or a tagged buffer says so."""
    for repeated in trace.repeated:
        row = repeated.row
        if row.sk_memalloc or row.pfmemalloc or row.traffic.endswith("_MEMALLOC"):
            return True
    return str(trace.arguments.get("nbd")) == "1"


def question(row: Row, setting: Setting) -> tuple[Traffic, int, str]:
    """What to ask the host for a row: its traffic, its socket's SOCK_MEMALLOC, and why its fate cannot be judged."""
    traffic = traffic_of(row.traffic) if setting.reliable_classes else None
    if traffic is None:
        # The filter needs no class: the socket's flag and the tag are in the row.
        why = WITHOUT_MODEL if setting.reliable_classes else NOT_LINEAR
        return Traffic(KIND_UDP), row.sk_memalloc or 0, why
    if row.traffic.startswith("l3_") and not row.pfmemalloc and not setting.tap_open:
        return traffic, 0, NO_HANDLER_KNOWN
    if traffic.kind not in SOCKET_KINDS or traffic.closed:
        return traffic, 0, ""
    if traffic.memalloc is None:
        return traffic, row.sk_memalloc or 0, "" if row.sk_memalloc is not None else NO_SOCKET_KNOWN
    if traffic.memalloc and row.sk_memalloc == 0 and not row.pfmemalloc:
        return traffic, 0, NOT_YET
    return traffic, traffic.memalloc, ""


def judge_row(row: Row, host: QuietHost, setting: Setting) -> tuple[Prediction, str, Judged]:
    """What the policy does with a row, in words (empty when it cannot know), and how that compares."""
    traffic, memalloc, why = question(row, setting)
    prediction = host.ask(traffic, memalloc, row.pfmemalloc)
    if row.sk_memalloc is not None and traffic.memalloc is not None and why != NOT_YET and not traffic.closed:
        if row.sk_memalloc != traffic.memalloc:
            return prediction, "", Judged(MISMATCH, expected=f"sk_memalloc {traffic.memalloc}")
    if why:
        filtered = judge_filter(row, prediction, setting.release)
        if filtered is None or filtered.outcome == NOT_JUDGED:
            filtered = Judged(NOT_JUDGED, why=why)
        return prediction, "", filtered
    words = " or ".join(accepted_fates(prediction, setting))
    return prediction, words, judge(row, traffic, prediction, setting)


def describe(row: Row) -> str:
    """A row in a few words."""
    words = f"{row.traffic}, pfmemalloc {row.pfmemalloc}"
    return words if row.sk_memalloc is None else f"{words}, sk_memalloc {row.sk_memalloc}"


def check_rows(
    trace: Trace, host: QuietHost, setting: Setting, report: Report, drops: Counter, errors: Counter
) -> None:
    """Put every kind of row through the policy; adds to the two counters what the rows predict of them."""
    groups: dict[tuple[str, int], Group] = {}
    wrong: list[Mismatch] = []
    for repeated in trace.repeated:
        row = repeated.row
        prediction, words, judged = judge_row(row, host, setting)
        group = groups.setdefault((row.traffic, row.pfmemalloc), Group(row.traffic, row.pfmemalloc))
        group.rows += repeated.count
        if words and words not in group.predicted:
            group.predicted.append(words)
        if judged.outcome == CHECKED:
            group.checked += repeated.count
        elif judged.outcome == NOT_JUDGED:
            group.not_judged += repeated.count
            report.not_judged[judged.why] = report.not_judged.get(judged.why, 0) + repeated.count
        else:
            group.mismatches += repeated.count
            found = row.fate if row.filter_ret is None else f"{row.fate}, filter_ret {row.filter_ret}"
            wrong += [Mismatch(PACKETS, number, describe(row), judged.expected, found) for number in repeated.first]
        add_prediction(repeated, prediction, judged, drops, errors)
    report.groups = sorted(groups.values(), key=lambda group: (group.traffic, group.pfmemalloc))
    report.checked = sum(group.checked for group in report.groups)
    findings = report.findings["rows"]
    findings.mismatches = sum(group.mismatches for group in report.groups)
    findings.first = sorted(wrong, key=lambda mismatch: mismatch.row)[:FIRST]


def add_prediction(repeated: Repeated, prediction: Prediction, judged: Judged, drops: Counter, errors: Counter) -> None:
    """Add to the counters what a row makes the kernel count; a row that may not have met the filter only may."""
    row, count = repeated.row, repeated.count
    may_not_count = row.filter_ret is None and judged.outcome == NOT_JUDGED and judged.why != LOST
    kind_unknown = judged.why in (WITHOUT_MODEL, NOT_LINEAR)
    drops.high += prediction.pfmemalloc_drops * count
    errors.high += prediction.udp_errors * count
    if not may_not_count:
        drops.low += prediction.pfmemalloc_drops * count
        if not kind_unknown:
            errors.low += prediction.udp_errors * count


def check_counters(trace: Trace, setting: Setting, report: Report, drops: Counter, errors: Counter) -> None:
    """Compare the kernel's own counters with the sums over rows, where the rows are all there are."""
    tcp, udp = trace.section("TcpExt_delta"), trace.section("Udp_delta")
    if tcp is not None:  # counters that did not move are left out of the summary
        drops.counted = trace.whole("TcpExt_delta PFMemallocDrop", tcp.get("PFMemallocDrop", 0))
    if udp is not None:
        # InErrors holds all of these; only the filter's share is predicted.
        counts = {
            name: trace.whole(f"Udp_delta {name}", udp.get(name, 0))
            for name in ("InErrors", "RcvbufErrors", "InCsumErrors", "MemErrors")
        }
        errors.counted = 2 * counts["InErrors"] - sum(counts.values())
    why = not_binding(trace, setting, report)
    for counter in (drops, errors):
        counter.not_binding = why
        if counter.counted is None:
            counter.not_binding = f"{SUMMARY} does not hold it"
        elif not why and not counter.agrees:
            expected = str(counter.low) if counter.low == counter.high else f"{counter.low} to {counter.high}"
            report.findings["counters"].add(Mismatch(SUMMARY, 0, counter.name, expected, str(counter.counted)))
    report.counters = [drops, errors]


def not_binding(trace: Trace, setting: Setting, report: Report) -> str:
    """Why the kernel's counters need not be what the rows add up to; "" when they must be."""
    traced = trace.rows_traced
    if report.lost_events is None:
        return "whether trace events were lost is not known"
    if report.lost_events:
        return f"{report.lost_events} trace events were lost"
    if traced is not None and traced != trace.rows:
        return f"{PACKETS} holds {trace.rows} of {traced} rows"
    if not setting.reliable_classes:
        return NOT_LINEAR
    return ""


# --- packet taps --------------------------------------------------------------------------------------------------


def sequences(trace: Trace, name: str, bit: int) -> tuple[set[int], int]:
    """The sequence numbers of a class and tag that name one row alone, and how many rows are left out."""
    own = trace.sequences.get((name, bit), [])
    other = set(trace.sequences.get((name, 1 - bit), []))
    alone = {number for number, times in Tally(own).items() if times == 1} - other
    return alone, len(own) - len(alone)


def check_taps(trace: Trace, host: QuietHost, setting: Setting, report: Report) -> None:
    """What packet taps in the guest saw and did not see, and what was answered on the wire."""
    if not setting.reliable_classes:
        report.notes.append(f"taps are not checked: {NOT_LINEAR}")
        return
    for name, label in ((CLASS_UDP, "UDP"), (CLASS_ECHO, "ICMP echo requests")):
        for bit in (1, 0):
            prediction = host.ask(CLASSES[name], 0, bit)
            tag = "tagged" if bit else "normal"
            if trace.guest_tap is not None and trace.guest_tap.frames:
                seen = trace.guest_tap.udp if name == CLASS_UDP else trace.guest_tap.echo_requests
                check_seen(trace, trace.guest_tap, seen, name, bit, f"{tag} {label}", prediction.taps, report)
            if name == CLASS_ECHO and bit and prediction.echo_replies and trace.host_tap is not None:
                check_answered(trace, trace.host_tap, report)
    if trace.guest_tap is None or not trace.guest_tap.frames:
        check_summary_taps(trace, host, setting, report)
    if trace.host_tap is None:
        check_summary_replies(trace, report)


def check_seen(
    trace: Trace, tap: Tap, seen: set[int], name: str, bit: int, label: str, expected: bool, report: Report
) -> None:
    """Rows of one class and tag must be in the tap's capture, or must not be."""
    numbers, unclear = sequences(trace, name, bit)
    there = numbers & seen
    if expected:
        # A tap loses packets of its own (its ring fills), so what is missing proves nothing.
        missing = len(numbers) - len(there) + unclear
        why = "the tap may have lost them" if missing else ""
        report.taps.append(TapCheck(f"{label}: seen by the guest's tap", tap.name, len(there), missing, why, 0))
        return
    for number in sorted(there):
        report.findings["taps"].add(Mismatch(tap.name, 0, f"{label}, sequence {number}", "not seen", "seen"))
    why = "sequence numbers occur twice" if unclear else ""
    report.taps.append(
        TapCheck(f"{label}: not seen by the guest's tap", tap.name, len(numbers) - len(there), unclear, why, len(there))
    )


def check_answered(trace: Trace, tap: Tap, report: Report) -> None:
    """Tagged echo requests are answered all the same: the filter is never asked."""
    numbers, unclear = sequences(trace, CLASS_ECHO, 1)
    label = "tagged ICMP echo requests: answered on the wire"
    if not tap.echo_replies:
        report.taps.append(TapCheck(label, tap.name, 0, len(numbers) + unclear, "it holds no replies at all", 0))
        return
    missing = numbers - tap.echo_replies
    for number in sorted(missing):
        what = f"tagged ICMP echo request, sequence {number}"
        report.findings["taps"].add(Mismatch(tap.name, 0, what, "answered", "no reply"))
    why = "sequence numbers occur twice" if unclear else ""
    report.taps.append(TapCheck(label, tap.name, len(numbers) - len(missing), unclear, why, len(missing)))


def check_summary_taps(trace: Trace, host: QuietHost, setting: Setting, report: Report) -> None:
    """Without the guest's capture: the counts that the summary took from it."""
    counts = trace.section("pcap")
    if counts is None or not counts.get("guest_tap_records"):
        why = "no tap ran" if setting.tap_open is False else f"there is no {GUEST_TAP}.xz and {SUMMARY} has no counts"
        report.notes.append(f"what the guest's taps saw is not checked: {why}")
        return
    for name, label, received, seen in (
        (CLASS_UDP, "UDP", "pfm_udp_rx", "pfm_udp_seen_by_guest_tap"),
        (CLASS_ECHO, "ICMP echo requests", "icmp_pfm_rx", "icmp_pfm_seen_by_guest_tap"),
    ):
        if seen not in counts or received not in counts or host.ask(CLASSES[name], 0, 1).taps:
            continue
        there, whole = trace.whole(f"pcap {seen}", counts[seen]), trace.whole(f"pcap {received}", counts[received])
        what = f"tagged {label}: not seen by the guest's tap"
        report.taps.append(TapCheck(what, SUMMARY, whole - there, 0, "", there))
        if there:
            report.findings["taps"].add(Mismatch(SUMMARY, 0, f"pcap {seen}", "0", str(there)))
    report.notes.append(f"there is no {GUEST_TAP}.xz: what taps saw is checked by the counts of {SUMMARY} alone")


def check_summary_replies(trace: Trace, report: Report) -> None:
    """Without the capture on the wire: the counts that the summary took from it."""
    counts = trace.section("pcap")
    if counts is None or not counts.get("host_icmp_replies") or "icmp_pfm_answered" not in counts:
        report.notes.append(f"what was answered is not checked: no {HOST_TAP}.xz, and {SUMMARY} has no counts")
        return
    whole = trace.whole("pcap icmp_pfm_rx", counts.get("icmp_pfm_rx", 0))
    answered = trace.whole("pcap icmp_pfm_answered", counts["icmp_pfm_answered"])
    what = "tagged ICMP echo requests: answered on the wire"
    report.taps.append(TapCheck(what, SUMMARY, answered, 0, "", whole - answered))
    if whole != answered:
        report.findings["taps"].add(Mismatch(SUMMARY, 0, "pcap icmp_pfm_answered", str(whole), str(answered)))
    report.notes.append(f"there is no {HOST_TAP}.xz: what was answered is checked by the counts of {SUMMARY} alone")


# --- the watermark table ------------------------------------------------------------------------------------------

# v6.19 mm/internal.h
ALLOC_OOM = 0x08
ALLOC_NON_BLOCK = 0x10
ALLOC_MIN_RESERVE = 0x20

LEVELS = ("order", "mark", "lowmem_reserve", "ok", "fail", "predicted_floor")


class Gate:
    """One kind of check at a zone's watermark, as the machine's page allocator has it."""

    def __init__(self, order: int, mark: int, flags: int, lowmem_reserve: int) -> None:
        """Flags are the kernel's ALLOC_*: NON_BLOCK counts only with MIN_RESERVE, OOM halves what is left."""
        high = flags & ALLOC_MIN_RESERVE
        self.order = order
        self.oom = flags & ALLOC_OOM
        self.mark = floor_of(mark, high, flags & ALLOC_NON_BLOCK if high else 0)
        self.floor = floor_of(self.mark, self.oom, 0) + lowmem_reserve
        # Without one of these flags, pages held back for high-order atomic requests do not count as free.
        self.all_free_counts = bool(flags & (ALLOC_MIN_RESERVE | ALLOC_NON_BLOCK | ALLOC_OOM))
        self.zone: Any = PlainEngine().new(Zone)
        self.zone.lowmem_reserve[ZONE_NORMAL] = lowmem_reserve

    def grants(self, free_pages: int) -> bool:
        """Whether a block is granted with so many pages free, none of them in a smaller block."""
        self.zone.free_pages = free_pages
        return zone_watermark_ok(self.zone, self.order, self.mark, ZONE_NORMAL, self.oom, 0)


def check_watermark(trace: Trace, report: Report) -> None:
    """Every entry of the summary's watermark table: what was granted must be, what was refused must be refused."""
    entries = trace.entries("watermark")
    if not entries:
        report.notes.append(f"the watermark rule is not checked: {SUMMARY} has no table")
        return
    for number, entry in enumerate(entries):
        check_entry(trace, number, entry, report)
    above = sum(entry.decisions for entry in report.watermark if entry.order)
    if above:
        report.notes.append(
            f"{above} decisions on blocks of more than one page are not judged: they hang on the free lists of each "
            "order, which the trace does not hold; their floor is compared"
        )
    singles = sum(entry.decisions for entry in report.watermark if not entry.order)
    whole = trace.summary.get("watermark_order0_checks")
    if whole is not None and trace.whole("watermark_order0_checks", whole) != singles:
        report.notes.append(f"the watermark table stands for {singles} of {whole} decisions on single pages")
    wrong = trace.summary.get("watermark_order0_mispredicted")
    if wrong is None:
        report.notes.append(f"{SUMMARY} does not count mispredicted decisions on single pages")
    elif trace.whole("watermark_order0_mispredicted", wrong):
        report.findings["watermark"].add(Mismatch(SUMMARY, 0, "watermark_order0_mispredicted", "0", str(wrong)))


def check_entry(trace: Trace, number: int, entry: Any, report: Report) -> None:
    """One entry of the table."""
    where = f"watermark[{number}]"
    values = entry if isinstance(entry, dict) else {}
    order, mark, reserve, granted, refused, predicted = (
        trace.whole(f"{where} {name}", values.get(name)) for name in LEVELS
    )
    lowest, highest = (
        None if values.get(name) is None else trace.whole(f"{where} {name}", values[name])
        for name in ("lowest_free_ok", "highest_free_fail")
    )
    if not 0 <= order < MAX_ORDER:
        raise CaptureError(f"{trace.name}/{SUMMARY}: {where} order: expected 0 to {MAX_ORDER - 1}, found {order}")
    flags = str(values.get("flags"))
    gate = Gate(order, mark, trace.whole(f"{where} flags", number_of(flags)), reserve)
    wrong = []
    what = f"order {order}, mark {mark}, flags {flags}, lowmem_reserve {reserve}"
    if predicted != gate.floor:
        wrong.append(Mismatch(SUMMARY, 0, f"{what}: predicted_floor", str(gate.floor), str(predicted)))
    if lowest is not None and not gate.grants(lowest):
        wrong.append(Mismatch(SUMMARY, 0, f"{what}: {lowest} pages free", "refused", "granted"))
    refusals_bind = order == 0 and gate.all_free_counts
    if highest is not None and refusals_bind and gate.grants(highest):
        wrong.append(Mismatch(SUMMARY, 0, f"{what}: {highest} pages free", "granted", "refused"))
    for mismatch in wrong:
        report.findings["watermark"].add(mismatch)
    outcome = "MISMATCH" if wrong else "agrees"
    if not wrong and order:
        outcome = "floor agrees"
    elif not wrong and highest is not None and not refusals_bind:
        outcome = "grants agree"  # pages may be held back, so a refusal above the floor proves nothing
    report.watermark.append(
        WatermarkCheck(order, mark, flags, reserve, granted + refused, lowest, highest, gate.floor, outcome)
    )


def number_of(text: str) -> int | None:
    """The number that a text as `0x830` stands for; None when it is none."""
    try:
        return int(text, 0)
    except ValueError:
        return None


# --- what else has to be said -------------------------------------------------------------------------------------


def note_limits(trace: Trace, setting: Setting, report: Report) -> None:
    """What the reader must know before believing the result."""
    if "UNCONFIRMED" in report.release.source or report.release is ANY_RELEASE:
        report.notes.append(f"reason names: {report.release.source}")
    if report.lost_events is None:
        report.notes.append(f"{SUMMARY} does not say whether trace events were lost: a missing record proves nothing")
    elif report.lost_events:
        report.notes.append(f"{report.lost_events} trace events were lost: a missing record proves nothing")
    if setting.tap_open is None and any(group.traffic.startswith(("ethertype_", "l3_")) for group in report.groups):
        report.notes.append(
            "run.json does not say whether a packet tap ran, so frames without a handler may be ok or UNHANDLED_PROTO"
        )
    if not any(repeated.row.pfmemalloc for repeated in trace.repeated):
        report.notes.append("no packet of this trace is tagged, so it proves nothing about the reserve")
    if report.rows and not report.checked:
        report.notes.append("no row could be checked")
    for tap in (trace.guest_tap, trace.host_tap):
        if tap is not None and tap.cut:
            report.notes.append(f"{tap.name}: the last record is incomplete; the {tap.frames} before it are used")
