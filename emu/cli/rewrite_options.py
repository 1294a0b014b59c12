"""The options that rewrite captures as they are read, for every verb that plays them."""

from dataclasses import dataclass
from typing import Annotated

import typer

Texts = list[str] | None
PANEL = "Rewriting (each capture by itself, before they are merged)"


@dataclass(frozen=True, kw_only=True)
class RewriteOptions:
    """What is changed in the frames of a capture."""

    map_mac: Annotated[
        Texts,
        typer.Option(
            "--map-mac", metavar="A=B", help="Ethernet address A becomes B; repeatable.", rich_help_panel=PANEL
        ),
    ] = None
    map_ip: Annotated[
        Texts,
        typer.Option(
            "--map-ip",
            metavar="NET=NET",
            help="An address or network becomes another of equal length (10.0.0.0/24=192.168.7.0/24, fd00::1=fd00::9), "
            "also in ARP, neighbour discovery and what ICMP errors quote; the longest prefix wins; repeatable.",
            rich_help_panel=PANEL,
        ),
    ] = None
    map_port: Annotated[
        Texts,
        typer.Option(
            "--map-port",
            metavar="[tcp:|udp:]A=B",
            help="A port or a range becomes another (80=8080, udp:9000-9015=7000-7015); repeatable.",
            rich_help_panel=PANEL,
        ),
    ] = None
    shift_time: Annotated[
        str | None,
        typer.Option("--shift-time", metavar="TIME", help="Add +1.5s, -20ms, ... to all times.", rich_help_panel=PANEL),
    ] = None
    rebase_time: Annotated[
        str | None,
        typer.Option(
            "--rebase-time",
            metavar="TIME",
            help="The first frame comes then: 2005-08-12T00:00:00Z, or seconds since 1970.",
            rich_help_panel=PANEL,
        ),
    ] = None
    truncate: Annotated[
        int | None,
        typer.Option(
            "--truncate",
            metavar="N",
            help="Keep N bytes of each frame, as a capture with this snap length would.",
            rich_help_panel=PANEL,
        ),
    ] = None
    fix_checksums: Annotated[
        bool,
        typer.Option(
            "--fix-checksums",
            help="Put wrong checksums right; without it right ones stay right and wrong ones wrong.",
            rich_help_panel=PANEL,
        ),
    ] = False
    loop: Annotated[
        int | None,
        typer.Option("--loop", metavar="N", help="Play each capture N times over.", rich_help_panel=PANEL),
    ] = None
    loop_gap: Annotated[
        str | None,
        typer.Option(
            "--loop-gap",
            metavar="TIME",
            help="Time between two rounds (default: the mean gap between frames).",
            rich_help_panel=PANEL,
        ),
    ] = None
    loop_distinct: Annotated[
        str | None,
        typer.Option(
            "--loop-distinct",
            metavar="none|addresses|ports|seq",
            help="What tells a round from the others: TCP's sequence numbers (default), the remote ends' addresses, or "
            "the clients' ports (the larger of each pair).",
            rich_help_panel=PANEL,
        ),
    ] = None
