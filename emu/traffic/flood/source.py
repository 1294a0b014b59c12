"""A flood, asked for and checked, becomes a stream of frames.

Scapy is imported when one is opened, not before.
"""

from typing import NamedTuple

from emu.capture.frames import FrameSource
from emu.engine.plain import Engine
from emu.kernel.machine import NONE
from emu.traffic.flood.kinds import Flood


class Ends(NamedTuple):
    """The host, which receives, and the peer, which sends, where a flood's options do not say; "" is the default's."""

    host_mac: str = "02:00:00:00:00:02"
    host_ipv4: str = "10.0.0.2"
    host_ipv6: str = "fd00::2"
    peer_mac: str = "02:00:00:00:00:01"
    peer_ipv4: str = "10.0.0.1"
    peer_ipv6: str = "fd00::1"


def open_flood(
    flood: Flood, engine: Engine, *, start_ns: int | None = None, device: int = NONE, ends: Ends | None = None
) -> FrameSource:
    """The frames of a flood; `ends` where its options leave them out, `start_ns` when it begins (left out: 2005).

    Errors: UsageError for a template that cannot be read or lacks a header, and a plan that is too large.
    """
    from emu.traffic.flood.reader import START_NS, FloodReader
    from emu.traffic.flood.recipes import plan_of

    start = START_NS if start_ns is None else start_ns
    return FloodReader(plan_of(flood, ends), engine, start_ns=start, device=device)
