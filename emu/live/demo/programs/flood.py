"""Sends UDP datagrams at a steady pace to ports that nobody reads.

`python -m emu.live.demo.programs.flood --words FILE --to 10.77.0.2 --per-second 5000`
"""

import argparse
import socket
import time

from msgspec import Struct

from emu.live.demo.programs.ending import Ending, program_parser, say_ready, tell_result
from emu.live.demo.programs.ports import FIRST_PORT, PORTS
from emu.live.state import SharedWords

TICK_SECONDS = 0.001
CATCH_UP_SECONDS = 0.05  # a sender that was held up for longer does not send what it missed in one burst


class FloodResult(Struct, frozen=True, kw_only=True):
    """What was sent, and how fast."""

    asked_per_second: int
    sent: int
    refused: int  # the sender's own interface or memory did not take them
    skipped: int  # of the time in which the sender was held up
    seconds: float
    per_second: float


class Pace:
    """How many datagrams are due: those of the time that has passed, except when that was too long ago."""

    def __init__(self, per_second: int, now: float) -> None:
        """The clock starts."""
        self._per_second = per_second
        self._began = now
        self._taken = 0
        self.skipped = 0

    def due(self, now: float) -> int:
        """Datagrams to send now."""
        behind = int((now - self._began) * self._per_second) - self._taken
        burst = max(1, int(CATCH_UP_SECONDS * self._per_second))
        late = max(0, behind - burst)
        self.skipped += late
        self._taken += behind
        return behind - late


def flood(words: SharedWords, arguments: argparse.Namespace) -> FloodResult:
    """Send until the end."""
    ending = Ending(words, arguments.seconds)
    sent = refused = 0
    payload = b"x" * arguments.bytes
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        began = time.monotonic()
        pace = Pace(arguments.per_second, began)
        say_ready()
        while not ending.due:
            for _ in range(pace.due(time.monotonic())):
                port = arguments.first_port + (sent + refused) % arguments.ports
                try:
                    sender.sendto(payload, (arguments.to, port))
                    sent += 1
                except OSError:
                    refused += 1
            words.put("datagrams_sent", sent)
            time.sleep(ending.nap(TICK_SECONDS))
        seconds = time.monotonic() - began
    return FloodResult(
        asked_per_second=arguments.per_second,
        sent=sent,
        refused=refused,
        skipped=pace.skipped,
        seconds=round(seconds, 3),
        per_second=round(sent / seconds, 1) if seconds > 0 else 0.0,
    )


def main() -> None:
    """Parse the options, send, tell."""
    parser = program_parser("Sends UDP datagrams at a steady pace.")
    parser.add_argument("--to", required=True, help="IPv4 address")
    parser.add_argument("--per-second", type=int, default=5000)
    parser.add_argument("--first-port", type=int, default=FIRST_PORT)
    parser.add_argument("--ports", type=int, default=PORTS)
    parser.add_argument("--bytes", type=int, default=1200, help="payload of a datagram")
    arguments = parser.parse_args()
    tell_result(flood(SharedWords(arguments.words), arguments))


if __name__ == "__main__":
    main()
