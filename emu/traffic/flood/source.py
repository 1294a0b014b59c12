"""A flood, asked for and checked, becomes a stream of frames.

Scapy is imported when one is opened, not before.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from emu.capture.frames import FrameSource
from emu.engine.plain import Engine
from emu.kernel.machine import NONE
from emu.traffic.crafted import START_NS
from emu.traffic.flood.kinds import Flood
from emu.traffic.iscsi.options import IscsiAcks, check
from emu.traffic.iscsi.session import SessionReader


class Ends(NamedTuple):
    """The host, which receives, and the peer, which sends, where a flood's options do not say; "" is the default's."""

    host_mac: str = "02:00:00:00:00:02"
    host_ipv4: str = "10.0.0.2"
    host_ipv6: str = "fd00::2"
    peer_mac: str = "02:00:00:00:00:01"
    peer_ipv4: str = "10.0.0.1"
    peer_ipv6: str = "fd00::1"


def settled(ends: Ends | None) -> Ends:
    """Ends without gaps: what is left open is the default's; a peer that would be the host itself is the other one."""
    if ends is None:
        return Ends()
    host_and_peer = [said or default for said, default in zip(ends, Ends(), strict=True)]
    for at in range(3):
        if host_and_peer[3 + at] == host_and_peer[at]:
            host_and_peer[3 + at] = Ends()[at] if host_and_peer[at] != Ends()[at] else Ends()[3 + at]
    return Ends(*host_and_peer)


def open_flood(
    flood: Flood, engine: Engine, *, start_ns: int = START_NS, device: int = NONE, ends: Ends | None = None
) -> FrameSource:
    """The frames of a flood; `ends` where its options leave them out, `start_ns` when it begins.

    Errors: UsageError for a template that cannot be read or lacks a header, and a plan that is too large.
    """
    return opener_of(flood, engine, start_ns=start_ns, device=device, ends=ends)()


def opener_of(
    flood: Flood, engine: Engine, *, start_ns: int = START_NS, device: int = NONE, ends: Ends | None = None
) -> Callable[[], FrameSource]:
    """What opens a flood, from its start and as often as it is called; its templates are built once.

    Parameters and errors as of `open_flood`.
    """
    if isinstance(flood.options, IscsiAcks):
        options = flood.options if ends is None else aimed(flood.options, flood.given, settled(ends))
        return partial(SessionReader, options, engine, start_ns=start_ns, device=device)
    from emu.traffic.flood.reader import FloodReader
    from emu.traffic.flood.recipes import plan_of

    return partial(FloodReader, plan_of(flood, ends), engine, start_ns=start_ns, device=device)


def aimed(options: IscsiAcks, given: tuple[str, ...], ends: Ends) -> IscsiAcks:
    """A session whose ends are these where the user has not said others."""
    ipv4 = check(options).family == 4
    host, peer = (ends.host_ipv4, ends.peer_ipv4) if ipv4 else (ends.host_ipv6, ends.peer_ipv6)
    where = {"initiator": host, "target": peer, "initiator_mac": ends.host_mac, "target_mac": ends.peer_mac}
    return msgspec.structs.replace(options, **{key: value for key, value in where.items() if key not in given})
