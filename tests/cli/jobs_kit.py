"""Jobs that a worker can import and do."""

import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from emu.apart import Job, Teller
from emu.engine.choose import COMPILING
from emu.errors import UsageError


class Small(NamedTuple):
    """What a job returns."""

    value: str
    interrupted: bool = False


class AwkwardError(UsageError):
    """One that cannot be pickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}: {second}")


def echo(teller: Teller, text: str, seconds: float) -> Small:
    """Return the text after a while; say it, too."""
    time.sleep(seconds)
    teller.say(f"{text} was here")
    return Small(text)


def compile_something(teller: Teller, journal: str) -> Small:
    """Ask for leave to compile, and write down when that begins and ends."""
    teller.say(f"{COMPILING}, as it were")
    for word in ("begin", "end"):
        with Path(journal).open("a") as file:
            file.write(f"{word} {os.getpid()}\n")
        time.sleep(0.05)
    return Small("compiled")


def fail(teller: Teller, kind: str) -> Small:
    """Fail in a way."""
    if kind == "awkward":
        raise AwkwardError("a.pcap", "cannot be")
    if kind == "bug":
        raise LookupError("no such thing")
    os._exit(7)


def job(name: str, play: Any, *arguments: Any) -> Job:
    """A job that nobody watches."""
    return Job(name, play, arguments, lambda _what, _lasts_ns: nullcontext())
