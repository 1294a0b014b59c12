"""Binds UDP ports and never reads them: what arrives stays in their receive queues until these are full.

`python -m emu.live.demo.programs.ports --words FILE --address 10.77.0.2 --ports 16`
"""

import argparse
import socket
import time
from contextlib import ExitStack

from msgspec import Struct

from emu.live.demo.programs.ending import Ending, program_parser, say_ready, tell_result
from emu.live.state import SharedWords

FIRST_PORT = 20000
PORTS = 16


class PortsResult(Struct, frozen=True, kw_only=True):
    """What was bound."""

    ports: int
    receive_bytes: int  # SO_RCVBUF of each, as the kernel tells it


def hold(words: SharedWords, arguments: argparse.Namespace) -> PortsResult:
    """Bind the ports, and keep them until the end."""
    ending = Ending(words, arguments.seconds)
    with ExitStack() as bound:
        receive_bytes = 0
        for port in range(arguments.first_port, arguments.first_port + arguments.ports):
            holder = bound.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            if arguments.receive_bytes:
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, arguments.receive_bytes)
            holder.bind((arguments.address, port))
            receive_bytes = holder.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        say_ready()
        while not ending.due:
            time.sleep(ending.nap())
    return PortsResult(ports=arguments.ports, receive_bytes=receive_bytes)


def main() -> None:
    """Parse the options, bind, wait, tell."""
    parser = program_parser("Binds UDP ports and never reads them.")
    parser.add_argument("--address", required=True, help="IPv4 address to bind to")
    parser.add_argument("--first-port", type=int, default=FIRST_PORT)
    parser.add_argument("--ports", type=int, default=PORTS)
    parser.add_argument("--receive-bytes", type=int, default=0, help="SO_RCVBUF of each; 0: the system's own")
    arguments = parser.parse_args()
    tell_result(hold(SharedWords(arguments.words), arguments))


if __name__ == "__main__":
    main()
