"""One panel per packet: what happened since the last one, its verdict and rule, how the machine stands."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from emu.engine.stepping import Step
from emu.kernel.drop_reason import DELIVERED, DROPPED, REASONS, VERDICTS
from emu.kernel.machine import PACKET_OUTGOING
from emu.verdicts.explain import explain_row
from emu.verdicts.schema import row_values
from emu.verdicts.step.coming import event_text, next_of
from emu.verdicts.step.figures import (
    Lines,
    changes_text,
    counters_of,
    figures_of,
    line_text,
    ring_cells,
    session_lines,
    socket_lines,
)

WIDTH = 118
LABEL = 14
CELLS = 80  # of a ring, on one line
HAPPENED_SHOWN = 12
RING_LEGEND = "# packet   o buffer the NIC may fill   - one not shown to it yet   R r of the reserve   . none"


class Happened(NamedTuple):
    """One step in words, and what it changed."""

    time_ns: int
    text: str
    changed: str


def time_text(time_ns: int, start_ns: int) -> str:
    """A moment, since the first frame."""
    microseconds, nanoseconds = divmod(time_ns - start_ns, 1000)
    return f"{microseconds // 1000}.{microseconds % 1000:03d}{nanoseconds:03d}".rstrip("0").rstrip(".") + " ms"


def credit_text(p: Any) -> str:
    """What a packet that was accepted did to its device's count of reserve buffers, where that is not 0."""
    before, after = p.reserve_used_before, p.reserve_used_after
    if p.verdict != DELIVERED or p.cap_skbs == 0 or before == 0:
        return ""
    if after < before:
        return f"the check of its protocol gives a buffer back ({before} -> {after}); its socket is SOCK_MEMALLOC"
    return f"no check gives a buffer back: rx_reserve_used stays {before}"


def arrival_text(p: Any, devices: Sequence[str]) -> str:
    """That a frame is on the wire of a device."""
    how = "is sent from" if p.pkt_type == PACKET_OUTGOING else "arrives on"
    return f"frame {p.frame} {how} {devices[p.dev]}"


class Story:
    """Follows a machine step by step, and says in panels what it saw."""

    def __init__(self, devices: Sequence[str]) -> None:
        """`devices` names the devices by number, upper ones behind them; those inferred later are numbered."""
        self._devices = list(devices)
        self._start_ns: int | None = None
        self._figures: Lines = {}
        self._panel_figures: Lines = {}
        self._counters: dict[str, int] = {}
        self._happened: list[Happened] = []

    def see(self, step: Step) -> None:
        """Take note of a step."""
        m = step.machine
        self._devices += [f"vlan{d}" for d in range(len(self._devices), m.netdevs)]
        now = figures_of(m, self._devices)
        if self._start_ns is None:
            # The clock starts with the first frame, so this is the machine as the crunch left it, one arrival later.
            self._start_ns = m.plan_start_ns
            self._panel_figures = self._figures = now
            self._counters = counters_of(m)
        texts = [event_text(event, self._devices) for event in step.events]
        texts += [arrival_text(p, self._devices) for p in step.arrived]
        changed = changes_text(now, self._figures)
        self._happened.append(Happened(m.now_ns, "; ".join(texts) or "something outside the CPU", changed))
        self._figures = now

    def panel(self, step: Step, p: Any | None) -> list[str]:
        """The panel of packet `p`, whose verdict has just fallen, or of whatever has happened; one string per line."""
        start_ns = self._start_ns or 0
        lines = self._head(p, step.machine, start_ns)
        lines += self._since(start_ns)
        if p is not None:
            lines += self._verdict(p)
        lines += self._state(step.machine)
        coming = next_of(step, self._devices)
        said = "nothing: all is quiet" if coming is None else f"{time_text(coming.due_ns, start_ns)}  {coming.text}"
        lines += [_labelled("next", said)]
        self._happened = []
        self._panel_figures = self._figures
        self._counters = counters_of(step.machine)
        return lines

    def _head(self, p: Any | None, m: Any, start_ns: int) -> list[str]:
        title = f" {time_text(m.now_ns, start_ns)} "
        if p is not None:
            row = row_values(p, self._devices)
            what = row["flow"] or row["class"]
            title = f" frame {row['frame']}, {time_text(p.time_ns, start_ns)}: {what}, {row['length']} B "
        return [f"--{title}".ljust(WIDTH, "-")]

    def _since(self, start_ns: int) -> list[str]:
        shown = self._happened[-HAPPENED_SHOWN:]
        lines = []
        if len(shown) < len(self._happened):
            lines.append(f"{len(self._happened) - len(shown)} steps before")
        for step in shown:
            lines.append(f"{time_text(step.time_ns, start_ns)}  {step.text}")
            if step.changed:
                lines.append(f"    {step.changed}")
        return _block("happened", lines)

    def _verdict(self, p: Any) -> list[str]:
        row = row_values(p, self._devices)
        reason = f": {row['reason']}" if p.verdict == DROPPED else ""
        point = f" in {row['point']}" if row["point"] else ""
        lines = _block("verdict", [f"{VERDICTS[p.verdict]}{point}{reason}"])
        because = explain_row(row).line
        if p.verdict == DROPPED:
            lines += _block("meaning", [REASONS[p.reason].sentence])
            lines += _block("because", [because])
        lines += _block("rule", [rule for rule in (str(row["policy_rule"]),) if rule and rule not in because])
        lines += _block("reserve", [credit for credit in (credit_text(p),) if credit])
        if p.from_reserve:
            lines += _block("buffer", ["allocated with __GFP_MEMALLOC"])
        return lines

    def _state(self, m: Any) -> list[str]:
        lines = []
        for name, figures in self._figures.items():
            lines += _block(name, [line_text(figures, self._panel_figures.get(name))])
        for d in range(m.devices):
            cells = ring_cells(m, d)
            parts = [cells[at : at + CELLS] for at in range(0, len(cells), CELLS)]
            lines += _block(f"{self._devices[d]} cells", parts)
        lines += _block("", [RING_LEGEND]) if m.devices else []
        lines += _block("queues", socket_lines(m))
        lines += _block("sessions", session_lines(m, m.now_ns))
        counted = line_text(_moved(counters_of(m), self._counters), self._counters)
        return lines + (_block("counters", [counted]) if counted else [])


def _moved(now: dict[str, int], then: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in now.items() if value != then.get(name, 0)}


def _labelled(label: str, text: str) -> str:
    return f"{label.ljust(LABEL)}{text}".rstrip()


def _block(label: str, texts: Sequence[str]) -> list[str]:
    """Texts behind a label, broken at the width; a continued text stands deeper."""
    lines: list[str] = []
    for text in texts:
        indent = " " * (len(text) - len(text.lstrip()))
        for part in wrap(
            text.strip(),
            WIDTH - LABEL,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
            break_long_words=False,
        ):
            lines.append(_labelled("" if lines else label, part))
    return lines
