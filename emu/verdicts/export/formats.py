"""The formats of `emu export`, declared once: the verb, its help and its messages are made from FORMATS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from emu.capture.output import STDOUT
from emu.errors import UsageError
from emu.verdicts.names import name_of

# How far an export has come: what is done and, where somebody knows, what there is to do.
Advance = Callable[[int, int | None], None]


class Format(NamedTuple):
    """A format: the suffixes of files that can be nothing else, and what it makes of a log or a capture."""

    name: str
    suffixes: tuple[str, ...]
    what: str
    needs_packets: bool  # an annotated capture, for a log has no bytes of frames
    is_text: bool  # goes to standard output unless -w says otherwise


FORMATS = (
    Format("net_dm", (), "the kernel's drop-monitor packets, as dwdump writes them (pcapng, pcap)", True, False),
    Format("kfree_skb", (), "lines as ftrace prints the tracepoint skb:kfree_skb", False, True),
    Format("jsonl", (".jsonl",), "a JSON object per row (emu schema --json-schema)", False, True),
    Format("csv", (".csv",), "the log's columns as CSV", False, True),
    Format("parquet", (".parquet",), "the log's columns as Parquet", False, False),
    Format("arrow", (".arrow",), "the log's columns as Arrow", False, False),
    Format("survivors", (), "only the frames that were not lost, as a capture (pcapng, pcap)", True, False),
    Format("drops", (), "only the frames that were lost, as a capture (pcapng, pcap)", True, False),
)
BY_NAME = {form.name: form for form in FORMATS}


@dataclass(frozen=True)
class Exported:
    """What became of an export: how much was written, what a person must be told, why the input ends early.

    `damage`: what is wrong with the input itself, a part of `incomplete`; what it has is written.
    """

    written: int
    what: str  # is counted: rows, lines, packets, frames
    notes: tuple[str, ...] = ()  # what was left out, and why
    nothing: str = ""  # why nothing was written, where nothing was
    incomplete: str = ""
    damage: str = ""


def format_named(name: str | None, write: str | None) -> Format:
    """The format that is asked for, or the one that the suffix of the output tells.

    Errors: UsageError when there is none of this name, or neither says which.
    """
    if name is None:
        suffix = Path(write or "").suffix.lower()
        told = [form for form in FORMATS if suffix in form.suffixes]
        if not told:
            raise UsageError(f"emu export: name a format with --format: {', '.join(BY_NAME)}")
        return told[0]
    return BY_NAME[name_of("--format", name, tuple(BY_NAME))]


def output_of(form: Format, write: str | None) -> str:
    """Where the export goes.  Errors: UsageError when it is not text and no output is named."""
    if write is not None:
        return write
    if not form.is_text:
        raise UsageError(f"--format {form.name}: is no text; name a file with -w, or write it into a pipe with -w -")
    return STDOUT
