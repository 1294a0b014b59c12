"""An annotated capture read back: its frames, and what became of each as far as the file tells.

It need not be as emu wrote it: editcap, mergecap and Wireshark keep comments and interfaces, in whatever order.
"""

import re
from types import TracebackType
from typing import Any

from emu.capture.annotate import pair_of
from emu.capture.comments import LOST, NOBODYS, SURVIVORS, Side, Verdict, read_verdict
from emu.capture.lexicon import POLICY_NAME as POLICY_GROUP
from emu.capture.lexicon import ROOM, TOLD_ALL, TOLD_LOST, Lexicon, lexicon_words
from emu.capture.linktype import PLAYED, suffix_of
from emu.capture.reader import CaptureReader, open_capture
from emu.capture.sections import MAX_INTERFACES
from emu.engine.plain import Engine
from emu.errors import CaptureError
from emu.kernel.policy import POLICIES
from emu.printable import printable
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS_TRUST
from emu.wire.octets import Octets

EARLIEST_NS = -(1 << 62)
INCOMPLETE = re.compile(r"(interrupted )?after frame \d+")  # how the comment begins that says so
MADE_BY = re.compile(r"emu \S+ .*: policy (\S.*), scenario sha256 [0-9a-f]+")


class AnnotatedReader:
    """Reads an annotated capture as CaptureReader reads any; a row is a Packet with the fields of `comments.EXTRA`.

    `row.dev` is an index into `devices`, `row.policy` - 1 one into `policies`; without a comment, `row.verdict` is
    PENDING and `row.told` says how much is known.  `row.time_ns` is the comment's, else the file's time as replay
    clamps it.
    """

    def __init__(self, reader: CaptureReader, engine: Engine) -> None:
        """Read from an open capture, with the engine that it was opened with; `close` closes it.

        Raises CaptureError for a pcap, which has no comments.
        """
        self.reader = reader
        if reader.format != "pcapng":
            raise self.not_annotated()
        self.devices: list[str] = []
        self._numbers: dict[str, int] = {}  # of devices
        self.policies = list(POLICIES)
        self._engine = engine
        self._lexicon = engine.new(Lexicon)
        self._blob = bytearray()
        self._enter_words()
        self._sides = engine.rows(Side, MAX_INTERFACES)
        self._sided = 0  # interfaces that have been looked at
        self._complete = engine.function(complete_rows)
        engine.fill(self._lexicon, {"clock_ns": EARLIEST_NS})

    def rows(self, length: int) -> Any:
        """Room for `length` frames."""
        return self._engine.rows(Verdict, length)

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Turn up to `limit` further frames into rows, dissected and with their verdicts; 0 at the end.

        Raises CaptureError at a frame of a link type that is not played.
        """
        count = self.reader.read(rows, first, limit)
        if len(self.reader.interfaces) > self._sided:
            self._enter_sides()
        at, last = first, first + count
        while at < last:
            at = self._complete(
                rows, at, last, self.reader.octets, self.reader.position, self._sides, self._lexicon, self._words
            )
            if at < last:
                self._learn_policy()
        return count

    def count(self, field: str) -> int:
        """A count of Lexicon so far: lost_untold, survived_short, paced, unknown."""
        return int(getattr(self._lexicon, field))

    def told(self, how_much: int) -> int:
        """How many frames so far have told so much: TOLD_*."""
        return int(self._lexicon.told[how_much])

    @property
    def is_annotated(self) -> bool:
        """Whether anything read so far has a verdict, or could have: there is an interface for the lost."""
        found = any(pair_of(interface.name)[1] for interface in self.reader.interfaces)
        return found or self.told(TOLD_ALL) + self.told(TOLD_LOST) > 0

    def not_annotated(self) -> CaptureError:
        """What to say of a capture that emu has not annotated."""
        wrong = f"; and {self.reader.damage}" if self.reader.damage else ""
        return CaptureError(
            f"{self.reader.name}: no frame of it has a verdict: expected a capture that emu has annotated "
            f"(emu replay CAPTURE -w verdicts.pcapng){wrong}"
        )

    @property
    def policies_met(self) -> list[str]:
        """The policies that comments of frames have named so far; if none has, those of the section headers."""
        met = [name for number, name in enumerate(self.policies, 1) if int(self._lexicon.policies[number])]
        found = [MADE_BY.fullmatch(comment) for comment in self.reader.section_comments]
        return met or list(dict.fromkeys(match[1] for match in found if match))

    @property
    def incomplete(self) -> str:
        """Why the file ends before its capture did, as it says itself or as it was found; else nothing."""
        said = [comment for comment in self.reader.statistics_comments if INCOMPLETE.match(comment)]
        return "; ".join(filter(None, [*said, self.damage]))

    @property
    def damage(self) -> str:
        """What is wrong with this file itself, whatever its run came to; else nothing."""
        return str(self.reader.damage or "")

    @property
    def octets(self) -> Any:
        """The window as the engine indexes it; `read` may replace it."""
        return self.reader.octets

    @property
    def position(self) -> int:
        """What to discard up to when no frame's bytes are kept."""
        return self.reader.position

    def discard(self, offset: int) -> int:
        """Give up the bytes before window offset `offset`; kept rows' offsets shrink by what is returned."""
        return self.reader.discard(offset)

    def close(self) -> None:
        """Close the capture."""
        self.reader.close()

    def __enter__(self) -> "AnnotatedReader":
        """Nothing to do: it is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the capture."""
        self.close()

    def _enter_words(self) -> None:
        """Write all words into the blob and their places into the lexicon."""
        blob = bytearray()
        groups = lexicon_words()
        groups[POLICY_GROUP] = ["_".join(name.split()) for name in self.policies]
        for group, words in enumerate(groups):
            self._lexicon.first[group] = group * ROOM
            self._lexicon.count[group] = len(words)
            for number, word in enumerate(words):
                self._lexicon.word_start[group * ROOM + number] = len(blob)
                self._lexicon.word_length[group * ROOM + number] = len(word.encode())
                blob += word.encode()
        self._blob = blob
        self._words = self._engine.view(blob)

    def _learn_policy(self) -> None:
        """Give the policy that reading stopped at a number of its own."""
        octets = bytes(self.reader.octets[int(self._lexicon.strange_at) : int(self._lexicon.strange_end)])
        blob = bytearray(self._blob + octets)
        word = POLICY_GROUP * ROOM + len(self.policies)
        self._lexicon.word_start[word] = len(self._blob)
        self._lexicon.word_length[word] = len(octets)
        self._lexicon.count[POLICY_GROUP] = len(self.policies) + 1
        self.policies.append(printable(octets.decode("utf-8", "replace")))
        self._blob = blob
        self._words = self._engine.view(blob)

    def _enter_sides(self) -> None:
        """Say of every interface whose frames it holds; one of survivors is known by that of the lost beside it."""
        interfaces = self.reader.interfaces
        lost = {(interface.section, pair_of(interface.name)[0]) for interface in interfaces if _is_lost(interface.name)}
        for at, interface in enumerate(interfaces):
            name, is_lost = pair_of(interface.name)
            paired = (interface.section, name) in lost
            side = self._sides[at]
            side.holds = LOST if is_lost else SURVIVORS if paired else NOBODYS
            if at >= self._sided:
                side.dev = self._device(name, interface.linktype, paired)
        self._sided = len(interfaces)

    def _device(self, name: str, linktype: int, paired: bool) -> int:
        """The number of a device; frames of a further link type have a pair of interfaces of their own."""
        if paired and linktype in PLAYED:
            device = name.removesuffix(f".{suffix_of(linktype)}")
            name = device if device in self._numbers else name
        if name not in self._numbers:
            self._numbers[name] = len(self.devices)
            self.devices.append(name)
        return self._numbers[name]


def _is_lost(name: str) -> bool:
    return pair_of(name)[1]


def open_annotated(path: str, engine: Engine) -> AnnotatedReader:
    """Open a capture, or standard input for `-`; raises CaptureError in one line when it cannot be read."""
    reader = open_capture(path, engine)
    try:
        return AnnotatedReader(reader, engine)
    except BaseException:
        reader.close()
        raise


def complete_rows(
    rows: Any, first: int, last: int, octets: Octets, end: int, sides: Any, lexicon: Any, words: Octets
) -> int:
    """Dissect `rows[first:last]` and read their verdicts; returns the row whose policy is not known yet, else `last`.

    `end` is the end of what has been walked of `octets`.
    """
    at = first
    while at < last:
        row = rows[at]
        dissect(row, octets, CHECKSUMS_TRUST)
        if not read_verdict(octets, row, end, sides, lexicon, words):
            break
        at += 1
    return at
