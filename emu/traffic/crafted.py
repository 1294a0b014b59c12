"""What crafted traffic says of itself: who the host is, and which sockets the frames are for.

It stands in the comment of the file's section header, so that a replay of the file, months later, knows it; crafted on
the fly, the traffic says the same.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from emu.traffic.expression import parse_address

START_NS = 1_123_804_800 * 10**9  # when crafted time starts: 2005-08-12T00:00:00Z, the day of the patch
PREFIX = "emu crafted "  # what such a comment starts with; JSON follows
MAC_OR_NONE = "^([0-9a-f]{2}(:[0-9a-f]{2}){5})?$"


class CraftedSocket(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sockets of the host, as `[[socket]]` of a scenario names them (see traffic.expression for `match`)."""

    match: str
    local_port: int = 0
    memalloc: bool = False
    closed: bool = False


class Crafted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Crafted traffic in words: `recipe` is what `--flood` would take to make it again."""

    recipe: str
    host_mac: Annotated[str, Meta(pattern=MAC_OR_NONE)] = ""
    host_addresses: list[str] = []
    sockets: list[CraftedSocket] = []

    def __post_init__(self) -> None:
        """Refuse what is no address: a file may say anything.  Errors: ValueError."""
        for address in self.host_addresses:
            parse_address(address)

    def comment(self) -> str:
        """The section header's comment."""
        return PREFIX + msgspec.json.encode(self, order="deterministic").decode()


def crafted_of(comments: Iterable[str]) -> list[Crafted]:
    """What the comments of section headers say of crafted traffic; what is none, or damaged, says nothing."""
    found = []
    for comment in comments:
        if comment.startswith(PREFIX):
            try:
                found.append(msgspec.json.decode(comment[len(PREFIX) :], type=Crafted))
            except msgspec.MsgspecError:
                continue
    return found
