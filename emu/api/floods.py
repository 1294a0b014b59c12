"""`flood`: crafted traffic as an object: a file, frames, Scapy packets, a polars frame, or the input of a replay."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from emu.api.inputs import scapy_packets, write_packets
from emu.api.options import FilePath, rewriting_of, text_of
from emu.api.result import Interrupted, Shown, frame_of
from emu.api.temporary import folder_of
from emu.cli.flood import progress_bar
from emu.crafting import craft_told
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import DIR_OUTBOUND, Packet
from emu.request import rewrite_of
from emu.traffic.beside import USUAL_FRAMES, ended_after, is_endless
from emu.traffic.flood.kinds import check_kind, flood_of, meaning_of, recipe_text
from emu.traffic.flood.source import open_flood
from emu.traffic.rewrite.spec import NOTHING, Rewrite
from emu.verdicts.address import ipv4_text, ipv6_text
from emu.verdicts.schema import row_values
from emu.verdicts.screen import plain_table
from emu.wire.dissect import dissect
from emu.wire.headers import CHECKSUMS

if TYPE_CHECKING:
    import polars

BATCH = 256
GLANCE = 5  # frames that a notebook shows
HEADERS = {
    "frame": int,
    "time_ns": int,
    "length": int,
    "direction": str,
    "class": str,
    "vlan": int,
    "source": str,
    "sport": int,
    "destination": str,
    "dport": int,
    "flow": str,
}


def flood(kind: str, **options: Any) -> "Flood":
    """Crafted traffic of a kind (`emu flood --list`).

    `options` are those of `emu flood KIND --help` with `_` for `-`; `from_` and `for_`, because Python has taken `from`
    and `for`.  Ports and sizes may be a `range`, sizes also a list or {size: weight}; `template` may be Scapy packets,
    or a function that returns them.  Without `count` and `for_` there are 10 000 frames, and beside a capture as many
    as it lasts.  Errors: UsageError, one line that names the option; TypeError for a value of a wrong type.
    """
    return Flood(kind, options)


class Flood(Shown):
    """Crafted traffic that has been asked for; it is made whenever it is used, and always the same."""

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        """As `flood` says."""
        if not isinstance(kind, str):
            raise TypeError(f"kind={kind!r}: expected a text, such as 'udp'")
        check_kind(kind, "flood()")
        settings: dict[str, str | int | bool] = {}
        for name, value in options.items():
            key = name.removesuffix("_")
            if value is not None:
                settings[key] = _template(self, value) if key == "template" else _word(key, value)
        self._asked = flood_of(kind, settings, lambda key: f"flood('{kind}'): {key}")
        self._report: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """Of which kind it is."""
        return self._asked.kind

    @property
    def recipe(self) -> str:
        """As `--flood` takes it; a template that was no file is a temporary one there."""
        return recipe_text(self._asked)

    @property
    def report(self) -> dict[str, Any]:
        """What `emu flood --json` says of it: frames, bytes, sizes, asked and achieved rate.

        Of the last `write`; before the first, the frames are made for it.
        """
        if self._report is None:
            self._craft(None, "auto", False)
        assert self._report is not None
        return self._report

    def write(
        self, path: FilePath, *, engine: str = "auto", progress: bool = False, **rewriting: Any
    ) -> dict[str, Any]:
        """Write a pcapng, or a pcap if the name ends so; returns the `report`.

        `rewriting` are the options of that panel in `emu flood KIND --help`: map_ip, shift_time, loop ...
        Errors: UsageError when it cannot be written; Interrupted on Ctrl-C: the file is closed and says so; TypeError
        for an unknown keyword.
        """
        name = text_of("path", path)
        if name == "-":
            raise UsageError("write('-'): standard output is the command line's; name a file")
        rewrite = rewrite_of(rewriting_of("write", rewriting, ("engine", "progress")))
        self._craft(name, engine, progress, rewrite)
        return self.report

    def frames(self, limit: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Time (ns since 1970) and bytes of each frame, or of the first `limit`."""
        return islice(self._rows(limit, lambda row, octets: (row.file_time_ns, _bytes(row, octets))), limit)

    def packets(self, limit: int | None = 10) -> list[Any]:
        """The first frames as Scapy packets with their `time`; None: all."""
        from scapy.layers.l2 import Ether
        from scapy.utils import EDecimal

        packets = []
        for time_ns, octets in self.frames(limit):
            packet = Ether(octets)
            packet.time = EDecimal(time_ns) / 1_000_000_000
            packets.append(packet)
        return packets

    def to_polars(self, limit: int | None = None) -> "polars.DataFrame":
        """A row per frame: time, length and what its headers say.  Errors: UsageError when polars is missing."""
        return frame_of(list(islice(self._rows(limit, _headers), limit)), HEADERS)

    def __repr__(self) -> str:
        """One line."""
        return f"<Flood {self.recipe!r}>"

    def _craft(self, path: str | None, engine: str, progress: bool, rewrite: Rewrite = NOTHING) -> None:
        bar = progress_bar(True, self.kind) if progress else nullcontext()
        say = logging.getLogger("emu").info
        self._report = craft_told(self._asked, bar, say, write=path, engine=engine, rewrite=rewrite)
        if self._report["incomplete"]:
            raise Interrupted(self)

    def _rows(self, limit: int | None, take: Callable[[Any, Any], Any]) -> Iterator[Any]:
        """What `take` makes of each row and the window that it is in."""
        asked = self._asked
        if is_endless(asked):
            asked = ended_after(asked, USUAL_FRAMES if limit is None else max(limit, 1))
        engine = PlainEngine()
        rows = engine.rows(Packet, BATCH)
        with closing(open_flood(asked, engine)) as source:
            while count := source.read(rows, 0, BATCH):
                for at in range(count):
                    yield take(rows[at], source.octets)
                source.discard(source.position)

    def _show(self, console: Console) -> None:
        console.print(Text.assemble((self.recipe, "bold"), f": {meaning_of(self.kind)}"))
        table = plain_table("The first frames", "time, ns", "bytes")
        table.add_column("frame")
        for packet in self.packets(GLANCE):
            table.add_row(str(int(packet.time * 1_000_000_000)), str(len(packet)), Text(packet.summary()))
        console.print(table)


def _bytes(row: Any, octets: Any) -> bytes:
    return bytes(octets[row.offset : row.offset + row.caplen])


def _headers(row: Any, octets: Any) -> tuple[Any, ...]:
    row.time_ns = row.file_time_ns
    dissect(row, octets, CHECKSUMS.index("verify"))
    said = row_values(row, ("eth0",))
    source, destination = _address(row, row.saddr_hi, row.saddr), _address(row, row.daddr_hi, row.daddr)
    way = "out" if row.direction == DIR_OUTBOUND else "in"
    ports = (row.sport or None, row.dport or None) if said["class"] in ("tcp", "udp") else (None, None)
    front = (row.frame, row.time_ns, row.length, way, said["class"], said["vlan"])
    return (*front, source, ports[0], destination, ports[1], said["flow"])


def _address(row: Any, high: int, low: int) -> str:
    if row.ip_version == 6:
        return ipv6_text(high, low)
    return ipv4_text(low) if row.ip_version == 4 or low else ""


def _word(key: str, value: Any) -> str | int | bool:
    """An option's value as the command line has it."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, range):
        if value.step != 1 or not value:
            raise UsageError(f"{key} {value}: expected a range that counts up by one")
        return f"{value[0]}{'..' if key == 'size' else '-'}{value[-1]}"
    if isinstance(value, Mapping):
        return "+".join(f"{text_of(key, size)}:{text_of(key, weight)}" for size, weight in value.items())
    if isinstance(value, list | tuple):
        return "+".join(text_of(key, each) for each in value)
    return text_of(key, value)


def _template(owner: Flood, value: Any) -> str:
    """A template's file: packets go to a temporary one that lives as long as the flood."""
    if isinstance(value, str | Path):
        return str(value)
    path = str(Path(folder_of(owner, "emu-template-"), "template.pcap"))
    write_packets(path, scapy_packets(value() if callable(value) and not hasattr(value, "layers") else value))
    return path
