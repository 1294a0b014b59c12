"""What a verb that reads verdicts says on stderr of the file itself, and with which exit code it ends."""

from collections.abc import Iterable

from emu.errors import Exit
from emu.request import say_on_stderr


def tell_of_file(name: str, notes: Iterable[str], incomplete: str, damage: str, *, named: bool = False) -> Exit:
    """Say what the file leaves out and why it ends early; `named`: before each note stands whose it is.

    The exit code: a damaged file is an error, although what it has was read; the whole file of a run that was
    interrupted is none.
    """
    for note in notes:
        say_on_stderr(f"{name}: {note}" if named else note)
    if incomplete:
        say_on_stderr(f"{name} ends early: {incomplete.removeprefix(f'{name}: ')}")
    return Exit.CAPTURE if damage else Exit.DONE
