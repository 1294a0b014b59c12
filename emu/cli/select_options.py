"""The options that say which packets are meant, the same for every verb that reads verdicts."""

from typing import Annotated

import typer

Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="NAME", help="Only these classes: tcp, udp, icmp, arp ...; repeatable, or A,B."),
]
Memalloc = Annotated[
    bool | None,
    typer.Option("--memalloc/--others", help="Only packets of block I/O's sockets, or only all others."),
]
Flows = Annotated[
    list[str] | None,
    typer.Option(
        "--flow",
        metavar="FLOW",
        help="Only this flow, both ways: ADDRESS, PORT, ADDRESS:PORT, [IPV6]:PORT, 'END > END'; repeatable.",
    ),
]
