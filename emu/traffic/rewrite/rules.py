"""The rules of a rewrite as records that compiled functions read, and the counts that they keep."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from emu.engine.plain import Engine
from emu.kernel.record import record
from emu.traffic.expression import signed64
from emu.traffic.rewrite.spec import END_OF_TIMES_NS, Rewrite

PLACES = (("hi", 64), ("lo", 0))


@record
class Link:
    """What `wire.link.network_header` reads and writes; a row's own columns are left alone."""

    offset: int
    caplen: int
    length: int
    linktype: int
    kind: int
    header_error: int
    ethertype: int
    vlan_tags: int
    vlan_outer: int
    vlan_inner: int


@record
class Rules:
    """What to do with every frame, in this round of a loop, and what was done."""

    edits: int  # 1: bytes may change
    macs: int  # how many rows of each table
    nets: int
    ports: int
    fix: int
    truncate: int  # bytes; 0: not
    rebase: int  # 1: the first frame says by how much time is shifted
    rebase_ns: int
    shift_ns: int
    round_shift_ns: int
    seq_add: int  # of this round
    address_add: int
    address_spare: int  # what no round adds: for the address that would otherwise be the other end's
    port_add: int
    host_mac: int  # 0: not known
    by_direction: int  # 1: what the capture says of a frame's direction counts
    host_family: int  # 0: not known
    host_addr_hi: int
    host_addr: int

    hit: int  # 1: something in this frame was changed
    missed: int  # 1: something in this frame could not be reached
    fixed_here: int
    left_here: int
    link: Link

    frames: int
    changed: int
    fixed: int
    left: int
    cut: int
    unreadable: int
    held: int
    earliest_ns: int  # of this round, without its shift
    latest_ns: int
    round_frames: int


@record
class MacRow:
    """One MacMap."""

    old: int
    new: int


@record
class NetRow:
    """One NetMap: IPv4 in the low halves, IPv6 in signed halves."""

    family: int
    mask_hi: int
    mask_lo: int
    old_hi: int
    old_lo: int
    new_hi: int
    new_lo: int


@record
class PortRow:
    """One PortMap."""

    protocol: int
    first: int
    last: int
    to: int


class Rewritten(NamedTuple):
    """What rewriting did, in frames."""

    frames: int  # that came by
    changed: int  # whose bytes were changed
    checksums_fixed: int  # with a wrong checksum that --fix-checksums put right
    checksums_left: int  # with a checksum that it could not see whole: fragments, and frames that the capture cut
    truncated: int  # by --truncate
    unreadable: int  # whose addresses or ports are cut off or malformed, and stayed
    times_held: int  # that would have been before 1970 or after 2116, and were put there
    rounds: int  # that were begun, of the source that had most

    def sentences(self, what: str = "captures") -> list[str]:
        """What a reader of the results must know of `what` was rewritten; the addresses in them are the new ones."""
        rounds = f" in {self.rounds} rounds" if self.rounds > 1 else ""
        said = [f"{what} are rewritten: {self.changed} of {self.frames} frames have other bytes{rounds}"]
        for count, sentence in (
            (self.checksums_fixed, "frames had a wrong checksum, which was fixed"),
            (self.checksums_left, "frames have a checksum that could not be fixed: they are fragments, or cut off"),
            (self.truncated, "frames were truncated"),
            (self.unreadable, "frames are malformed or cut off where addresses or ports would be, and kept those"),
            (self.times_held, "frames would have been before 1970 or after 2116, and were put there"),
        ):
            if count:
                said.append(f"{count} {sentence}")
        return said


def rules_of(rewrite: Rewrite, engine: Engine) -> Any:
    """The rules of the first round."""
    rules = engine.new(Rules)
    engine.fill(
        rules,
        {
            "edits": bool(rewrite.macs or rewrite.nets or rewrite.ports or rewrite.fix_checksums),
            "macs": len(rewrite.macs),
            "nets": len(rewrite.nets),
            "ports": len(rewrite.ports),
            "fix": rewrite.fix_checksums,
            "truncate": rewrite.truncate or 0,
            "rebase": rewrite.rebase_ns is not None,
            "rebase_ns": rewrite.rebase_ns or 0,
            "shift_ns": rewrite.shift_ns,
            "address_spare": rewrite.loop,
            "earliest_ns": END_OF_TIMES_NS,
        },
    )
    return rules


def tables_of(rewrite: Rewrite, engine: Engine) -> tuple[Any, Any, Any]:
    """The tables of MacRow, NetRow and PortRow; never empty, the rules say how many rows count."""
    macs = [{"old": one.old, "new": one.new} for one in rewrite.macs]
    nets = []
    for one in rewrite.nets:
        bits = 32 if one.family == 4 else 128
        mask = (1 << bits) - (1 << one.host)
        halves = {"mask": mask, "old": one.old, "new": one.new}
        columns = {f"{name}_{half}": signed64(v >> s) for name, v in halves.items() for half, s in PLACES}
        nets.append({"family": one.family} | columns)
    ports = [{"protocol": p.protocol, "first": p.first, "last": p.last, "to": p.to} for p in rewrite.ports]
    return _table(MacRow, macs, engine), _table(NetRow, nets, engine), _table(PortRow, ports, engine)


def _table(row: type, values: Sequence[dict[str, int]], engine: Engine) -> Any:
    rows = engine.rows(row, max(len(values), 1))
    for at, columns in enumerate(values):
        engine.fill(rows[at], columns)
    return rows


def report_of(rules: Any, rounds: int) -> Rewritten:
    """The counts that the rules have kept."""
    counts = [int(getattr(rules, name)) for name in ("frames", "changed", "fixed", "left", "cut", "unreadable", "held")]
    return Rewritten._make([*counts, rounds])


def added(reports: Iterable[Rewritten | None]) -> Rewritten | None:
    """Several sources' reports as one, None where nothing was rewritten."""
    found = [report for report in reports if report is not None]
    if not found:
        return None
    *counts, _ = (sum(column) for column in zip(*found, strict=True))
    return Rewritten._make([*counts, max(report.rounds for report in found)])
