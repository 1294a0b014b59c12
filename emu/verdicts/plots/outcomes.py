"""What a run came to, in words: the word itself, the chain of a lockup, the figures of the table above the plots."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from emu.verdicts.screen import figure

NS_PER_S = 1_000_000_000
NONE = "–"  # noqa: RUF001 - a dash as typographers have it: nothing to tell
NO_BUILD = "does not build"

# Each outcome has a sign of its own: colour alone tells a colour-blind reader nothing.
SIGNS = {"progress": "✔", "degraded": "▲", "LOCKUP": "✖", "oops": "‼", NO_BUILD: "∅"}
TONES = {"progress": "green", "degraded": "orange", "LOCKUP": "red", "oops": "purple", NO_BUILD: "grey"}


class Link(NamedTuple):
    """One that can never run again, and for what it waits."""

    actor: str
    waits_for: str
    why: str


class Lockup(NamedTuple):
    """When nothing could ever go on, and who waits for whom; `frame` took the last page, 0 when unknown."""

    time_s: float
    last_page_s: float | None
    frame: int
    chain: tuple[Link, ...]


class Column(NamedTuple):
    """A figure of the table: how it is headed, what it means, how it is read from a summary."""

    title: str
    means: str
    read: Callable[[Mapping[str, Any]], str]


def outcome_of(summary: Mapping[str, Any]) -> str:
    """The word for how the run went."""
    return NO_BUILD if "does_not_build" in summary else str(summary["outcome"])


def lockup_of(summary: Mapping[str, Any]) -> Lockup | None:
    """The lockup, when there was one."""
    told = summary.get("lockup")
    if not told:
        return None
    last_page = told["last_page_ns"]
    return Lockup(
        told["time_ns"] / NS_PER_S,
        None if last_page is None else last_page / NS_PER_S,
        told["frame"] or 0,
        tuple(Link(str(link["actor"]), str(link["waits_for"]), str(link["why"])) for link in told["chain"]),
    )


def headline(summary: Mapping[str, Any]) -> str:
    """What happened, in one sentence."""
    if "does_not_build" in summary:
        return f"There was no kernel to run: {summary['does_not_build']}."
    lockup = lockup_of(summary)
    if lockup is not None:
        taken = ""
        if lockup.last_page_s is not None:
            by = f"frame {figure(lockup.frame)} took" if lockup.frame else "somebody took"
            taken = f" {by} the last page at {lockup.last_page_s:.3f} s;"
        return f"Locked up:{taken} from {lockup.time_s:.3f} s on nobody who waits can ever run again."
    longest = _block(summary, "longest_stall_ms")
    stalled = NONE if longest is None else f"{longest / 1000:g} s"
    sentences = {
        "progress": f"Block I/O went on to the end; its longest stall was {stalled}.",
        "degraded": f"Block I/O suffered, and is not stuck for ever; its longest stall was {stalled}.",
        "oops": "The kernel hit one of its own bugs and died.",
    }
    return sentences.get(outcome_of(summary), "") + _because(summary) + _deadline(summary)


def _because(summary: Mapping[str, Any]) -> str:
    """The rules by which a run is degraded, as a sentence."""
    rules = summary.get("because")
    return f" Degraded, for {'; '.join(rules)}." if rules else ""


def _deadline(summary: Mapping[str, Any]) -> str:
    deadline = summary.get("next_deadline")
    return f" Next deadline: {deadline['what']} at {deadline['time_ns'] / NS_PER_S:.3f} s." if deadline else ""


def _block(summary: Mapping[str, Any], *keys: str) -> Any:
    """A figure of block I/O; None where the run has none."""
    found: Any = summary.get("block_io")
    for key in keys:
        found = None if found is None else found.get(key)
    return found


def _number(value: float | None, unit: str, per: float = 1) -> str:
    if value is None:
        return NONE
    scaled = value / per
    text = figure(round(scaled)) if abs(scaled) >= 100 or scaled == int(scaled) else f"{scaled:.3g}"
    return f"{text} {unit}".strip()


def _rate(summary: Mapping[str, Any]) -> str:
    rate, without = _block(summary, "mb_per_s"), _block(summary, "baseline_mb_per_s")
    if rate is None:
        return NONE
    return _number(rate, "MB/s") + ("" if without is None else f" of {_number(without, '')}")


def _stall(summary: Mapping[str, Any]) -> str:
    return _number(_block(summary, "longest_stall_ms"), "s", 1000)


def _latency(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda summary: _number(_block(summary, "latency_us", key), "ms", 1000)


def _when(summary: Mapping[str, Any]) -> str:
    lockup = lockup_of(summary)
    return NONE if lockup is None else f"{lockup.time_s:.3f} s"


def _last_page(summary: Mapping[str, Any]) -> str:
    lockup = lockup_of(summary)
    if lockup is None or lockup.last_page_s is None:
        return NONE
    return f"{lockup.last_page_s:.3f} s" + (f", frame {figure(lockup.frame)}" if lockup.frame else "")


def _clean_after(summary: Mapping[str, Any]) -> str:
    if _block(summary, "mb_per_s") is None:
        return NONE
    after = _block(summary, "clean_after_ms")
    return "never" if after is None else _number(after, "s", 1000)


def _dropped(which: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda summary: figure(summary[which]["dropped"]) if which in summary else NONE


def _reserve(summary: Mapping[str, Any]) -> str:
    if "devices" not in summary:
        return NONE
    return figure(sum(device["rx_reserve_used_max"] for device in summary["devices"].values()))


def drops_of(summary: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """What was dropped: by class, then by reason; heading, name, how many."""
    told = (
        (heading, name, int(count))
        for heading, key in (("class", "drops_by_class"), ("reason", "drops_by_reason"))
        for name, count in summary.get(key, {}).items()
    )
    return [(heading, name, count) for heading, name, count in told if count]


TABLE: Sequence[Column] = (
    Column("Locked up at", "virtual time from which nothing could ever go on", _when),
    Column("Last page", "when the last page that they could get was taken, and by which frame", _last_page),
    Column("Block I/O", "bytes written and answered per second, against the same run without flood", _rate),
    Column("Longest stall", "between two completions while writes waited", _stall),
    Column("p50", "median latency of a write", _latency("p50")),
    Column("p99", "99 of 100 writes took no longer", _latency("p99")),
    Column("Slowest", "longest latency of a write that came to an end", _latency("max")),
    Column("Clean after", "until no page was dirty or under write-back", _clean_after),
    Column("Reserve, most", "skbs that were charged to the reserve at a time, over all devices", _reserve),
    Column("Block I/O lost", "frames of block I/O dropped", _dropped("memalloc")),
    Column("Others lost", "all other frames dropped", _dropped("other")),
)
