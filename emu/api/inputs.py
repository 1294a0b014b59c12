"""What a caller may give as a capture: all of it becomes files that the replay reads, temporary ones where needed."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from emu.errors import NothingToPlayError, UsageError
from emu.task import Input

END_OF_PCAP_S = 1 << 32


class Given(NamedTuple):
    """What is to be played: captures, and floods as `--flood` takes them."""

    inputs: list[Input]
    floods: list[str]


def given_from(captures: Sequence[Any], devices: Mapping[str, Any] | None, until: ExitStack) -> Given:
    """What the caller gave, by device or without; temporary files live `until` the replay has ended.

    Errors: TypeError when something is nothing that can be played, UsageError when captures and devices are both given,
    or Scapy packets are of several link layers.
    """
    named = [("", capture) for capture in captures] + [(str(name), each) for name, each in (devices or {}).items()]
    given = Given([], [])
    for device, capture in named:
        recipe = getattr(capture, "recipe", None)
        if isinstance(recipe, str):
            kind, _, options = recipe.partition(":")
            words = [*filter(None, [options]), *([f"device={device}"] if device else [])]
            given.floods.append(f"{kind}:{','.join(words)}" if words else kind)
        else:
            given.inputs.append(_input(device, capture, until))
    if any(each.device for each in given.inputs) and not all(each.device for each in given.inputs):
        raise UsageError("device: captures without a device are given as well; name the device of each")
    return given


def _input(device: str, capture: Any, until: ExitStack) -> Input:
    if isinstance(capture, str | os.PathLike):
        path = os.fsdecode(os.fspath(capture))
        if path == "-":
            raise UsageError("-: standard input is the command line's; give the file itself: sys.stdin.buffer")
        return Input(device, path)
    if isinstance(capture, bytes | bytearray | memoryview):
        path = _temporary(until)
        Path(path).write_bytes(capture)
        return Input(device, path, f"{memoryview(capture).nbytes} bytes")
    if hasattr(capture, "read"):
        return Input(device, _copied(capture, until), _name_of(capture))
    packets = scapy_packets(capture)
    path = _temporary(until)
    write_packets(path, packets)
    return Input(device, path, f"{len(packets)} Scapy packets" if len(packets) != 1 else "a Scapy packet")


def _temporary(until: ExitStack) -> str:
    folder = until.enter_context(tempfile.TemporaryDirectory(prefix="emu-", ignore_cleanup_errors=True))
    return str(Path(folder, "capture"))


def _copied(file: Any, until: ExitStack) -> str:
    """A file that is open: what is still to be read of it, so that it may be a pipe and is read once."""
    path = _temporary(until)
    with Path(path).open("wb") as into:
        try:
            shutil.copyfileobj(file, into)
        except TypeError:
            raise TypeError(f"{_name_of(file)}: is open as text; open it as binary: open(path, 'rb')") from None
    return path


def _name_of(file: Any) -> str:
    name = getattr(file, "name", "")
    return name if isinstance(name, str) and name else "a file"


def scapy_packets(given: Any) -> list[Any]:
    """One Scapy packet or several.  Errors: TypeError for anything else, NothingToPlayError for none."""
    from scapy.packet import Packet

    if isinstance(given, Packet):
        return [given]
    packets = list(given) if isinstance(given, Iterable) else [given]
    for packet in packets:
        if not isinstance(packet, Packet):
            kind = type(packet).__name__
            raise TypeError(f"{kind}: is no capture: expected a path, bytes, a binary file, or Scapy packets")
    if not packets:
        raise NothingToPlayError("captures: an empty list of packets; no frame to play")
    return packets


def write_packets(path: str, packets: Sequence[Any]) -> None:
    """Write Scapy packets as a nanosecond pcap; each arrives at its own `time`.

    Errors: UsageError when they are of several link layers, or of one that captures do not have, or when a time is none
    that a capture can hold.
    """
    from scapy.config import conf
    from scapy.utils import PcapWriter

    kinds = list(dict.fromkeys(type(packet) for packet in packets))
    numbers = {kind: conf.l2types.layer2num.get(kind) for kind in kinds}
    for kind, number in numbers.items():
        if number is None:
            raise UsageError(
                f"packets: a packet begins with {kind.__name__}, which is no link layer; put Ether() around it"
            )
    if len(set(numbers.values())) > 1:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"packets: they begin with different layers ({names}); give each kind as a capture of its own")
    with PcapWriter(path, nano=True, linktype=numbers[kinds[0]]) as writer:
        for number, packet in enumerate(packets, 1):
            try:
                seconds = int(packet.time)
            except (TypeError, ValueError, OverflowError):
                seconds = -1
            if not 0 <= seconds < END_OF_PCAP_S:
                raise UsageError(
                    f"packets: packet {number} has the time {packet.time}; expected seconds from 1970 to 2106"
                )
            writer.write(packet)
