"""The emulator as a capture interface of Wireshark: it asks what there is, then has us write into a pipe.

A capture is `emu replay` or `emu run` with --realtime, in this process.  Wireshark stops one with SIGTERM, or goes away
and leaves its end of the pipe closed; both end whatever we do, waiting at once and computing soon.  Whatever stands on
stderr in the end is shown to the user as an error, so nothing else is written there.
Source: extcap(4); Wireshark 4.0 extcap.c (`extcap_child_watch_cb`, `cb_verify_filter`).
"""

import os
import select
import signal
import stat
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from emu.errors import EmuError, Exit, UsageError
from emu.wireshark.extcap_dialog import (
    BETWEEN,
    FIELDS,
    INTERFACES,
    ITS_OWN,
    REPLAY,
    RUN,
    config_sentences,
    dlt_sentences,
    interface_sentences,
)

if TYPE_CHECKING:
    from emu.cli.options import ReplayCommand
    from emu.cli.run_options import RunCommand
    from emu.runs import Run

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE_S = 1.0  # so long a stop may take: a batch is finished, outputs are closed; compiling would take a minute


def main(argv: Sequence[str] | None = None) -> int:
    """Answer one call of Wireshark's; the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    asked, interface = _parsed(words)
    if asked.extcap_interfaces:
        _say(interface_sentences())
    elif interface is None:
        print(f"emu: --extcap-interface: expected one of {', '.join(INTERFACES)}", file=sys.stderr)
        return Exit.USAGE
    elif asked.extcap_dlts:
        _say(dlt_sentences())
    elif asked.extcap_config:
        _say(config_sentences(interface))
    elif asked.capture:
        return _capture(interface, asked)
    elif asked.extcap_capture_filter is not None:
        _say(_faults_of_filter(interface, asked.extcap_capture_filter))
    else:
        print("emu: this is started by Wireshark as a capture interface (emu wireshark install)", file=sys.stderr)
        return Exit.USAGE
    return Exit.DONE


def _parsed(words: Sequence[str]) -> tuple[Namespace, str | None]:
    """The call; what a newer Wireshark says further is none of ours."""
    parser = ArgumentParser(prog="emu-extcap", allow_abbrev=False, add_help=False)
    for flag in ("capture", "extcap-interfaces", "extcap-dlts", "extcap-config"):
        parser.add_argument(f"--{flag}", action="store_true")
    for option in ("extcap-interface", "extcap-capture-filter", "extcap-version", "fifo"):
        parser.add_argument(f"--{option}")
    asked = parser.parse_known_args(words)[0]
    interface = asked.extcap_interface if asked.extcap_interface in INTERFACES else None
    for field in FIELDS[interface] if interface else ():
        if field.type == "boolflag":
            parser.add_argument(field.call, action="store_true")
        else:
            parser.add_argument(field.call)
    return parser.parse_known_args(words)[0] if interface else asked, interface


def _say(sentences: Sequence[str]) -> None:
    for line in sentences:
        print(line)


def _faults_of_filter(interface: str, text: str) -> list[str]:
    """What is wrong with a capture filter, as Wireshark wants it: nothing, or one line."""
    try:
        check_filter(interface, text)
    except EmuError as error:
        return [" ".join(str(error).split())]
    return []


def check_filter(interface: str, text: str) -> None:
    """Errors: UsageError for a capture filter that cannot be."""
    if not text:
        return
    if interface == RUN:
        raise UsageError(f"{text}: a run has no capture filter, its frames depend on each other; use a display filter")
    from emu.capture.bpf import Filter
    from emu.wire.headers import LINKTYPE_ETHERNET

    Filter(text).meet({LINKTYPE_ETHERNET})


def _capture(interface: str, asked: Namespace) -> int:
    """Play into the pipe; the exit code."""
    from emu.capture.output import ClosedPipe

    if not asked.fifo:
        print("emu: --capture: expected --fifo FILE", file=sys.stderr)
        return Exit.USAGE
    guard, code = Guard(asked.fifo), int(Exit.DONE)
    try:
        try:
            for number in SIGNALS:
                signal.signal(number, _stop)
            guard.open()
            code = _played(interface, asked)
        except EmuError as error:
            if not isinstance(error, ClosedPipe):
                print(f"emu: {error}", file=sys.stderr, flush=True)
                code = error.exit_code
        _turn_deaf()
    except KeyboardInterrupt:
        _turn_deaf()
    guard.close()
    return code


def _turn_deaf() -> None:
    """Heed no signal any more: all is said, and Wireshark sends several, the last when it sees the pipe closed."""
    while True:
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            return
        except KeyboardInterrupt:
            continue


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Guard:
    """Keeps the pipe open from the first moment to the last, and sees to it that a stop is one.

    Open from the first: whoever waits for a writer must not wait for ever when we refuse; then we have just come and
    gone.  A stop: signals reach Python only between two of its steps, which the compiler may be long about, and that
    the reader has gone is seen only by who writes.  So a thread waits for both, and after PATIENCE_S ends the process;
    what has been written till then are whole blocks.
    """

    def __init__(self, fifo: str) -> None:
        """Nothing is open yet."""
        self._fifo = fifo
        self._pipe: int | None = None
        self._over = threading.Event()

    def open(self) -> None:
        """Open the pipe, which waits for its reader, and watch.  Errors: UsageError when it cannot be opened."""
        self._signalled, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        try:
            if Path(self._fifo).exists() and stat.S_ISFIFO(Path(self._fifo).stat().st_mode):
                self._pipe = os.open(self._fifo, os.O_WRONLY)
        except OSError as error:
            raise UsageError(f"{self._fifo}: {error.strerror}") from error
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._signalled, select.POLLIN)
        if self._pipe is not None:
            poll.register(self._pipe, 0)
        ready = [descriptor for descriptor, _ in poll.poll()]
        if self._over.is_set():
            return
        if self._signalled not in ready:  # nobody reads any more: as if we had been told
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._over.wait(PATIENCE_S):
            os._exit(Exit.DONE)

    def close(self) -> None:
        """It is over: the reader of the pipe may know.  The thread goes with the process."""
        self._over.set()
        if self._pipe is not None:
            os.close(self._pipe)


def _played(interface: str, asked: Namespace) -> int:
    """Play what is asked for; the exit code."""
    check_filter(interface, asked.extcap_capture_filter or "")
    said: list[str] = []
    run = _replayed(asked, said) if interface == REPLAY else _run(asked, said)
    if run.interrupted:
        return Exit.DONE
    if run.damage is not None:
        print(f"emu: {run.damage}", file=sys.stderr)
        return Exit.CAPTURE
    return Exit.DONE  # whether a scenario's expectations hold is not what a capture is asked


def _replayed(asked: Namespace, said: list[str]) -> "Run":
    from contextlib import nullcontext

    from emu.request import inputs_of, outputs_of
    from emu.runs import run_once

    command = replay_command(asked)
    return run_once(command, inputs_of(command), outputs_of(command), lambda _task: nullcontext(), said.append)


def _run(asked: Namespace, said: list[str]) -> "Run":
    from contextlib import nullcontext

    from emu.cli.run import outputs_of_run
    from emu.closed_runs import run_closed_once

    command = run_command(asked)
    return run_closed_once(command, outputs_of_run(command), lambda _what, _lasts: nullcontext(), said.append)


def replay_command(asked: Namespace) -> "ReplayCommand":
    """What the dialog asks of `emu replay`.  Errors: UsageError."""
    from emu.cli.options import ReplayCommand
    from emu.engine.plain import REPLAY as USE
    from emu.request import file_bytes

    if not asked.file:
        raise UsageError("which capture is to be replayed? name it in the interface's options (Capture file)")
    return ReplayCommand(
        capture=[asked.file],
        write=asked.fifo,
        annotate=_annotate(asked),
        policy=_policy(asked),
        flood=_several(asked.flood),
        settings=_settings(asked),
        scenario=Path(asked.scenario) if asked.scenario else None,
        host=asked.host or None,
        memalloc=asked.memalloc or None,
        speed=asked.speed or None,
        realtime=asked.realtime or "1",
        filter=asked.extcap_capture_filter or None,
        engine=_engine(asked, USE, file_bytes(asked.file)),
        progress=False,
    )


def run_command(asked: Namespace) -> "RunCommand":
    """What the dialog asks of `emu run`.  Errors: UsageError."""
    from emu.cli.run_options import RunCommand
    from emu.engine.plain import RUN as USE
    from emu.toml_text import toml_value

    settings = _settings(asked)
    if asked.flood:
        settings.append(f"run.flood={toml_value(_several(asked.flood))}")
    try:
        seed = int(asked.seed) if asked.seed else None
    except ValueError:
        raise UsageError(f"Seed {asked.seed}: expected a number from 0") from None
    return RunCommand(
        scenario=asked.scenariofile or asked.scenario or "",
        write=asked.fifo,
        annotate=_annotate(asked),
        policy=_policy(asked),
        settings=settings,
        duration=getattr(asked, "for") or None,
        seed=seed,
        realtime=asked.realtime or "1",
        engine=_engine(asked, USE, None),
        baseline=False,
        progress=False,
    )


def _annotate(asked: Namespace) -> str:
    return "all" if asked.annotateall else "drops"


def _policy(asked: Namespace) -> str | None:
    return None if asked.policy in (None, "", ITS_OWN) else asked.policy


def _several(text: str | None) -> list[str]:
    return [word for part in (text or "").split(BETWEEN) if (word := part.strip())]


def _settings(asked: Namespace) -> list[str]:
    cap = [f"device.0.rx_reserve={asked.cap}"] if asked.cap else []
    return [*_several(asked.set), *cap]


def _engine(asked: Namespace, use: str, capture_bytes: int | None) -> str:
    """The engine; nobody who watches waits a minute for the compiler unless he has asked for it."""
    from emu.engine.choose import choose_engine

    if asked.engine not in (None, "", "auto"):
        return str(asked.engine)
    _, said = choose_engine("auto", capture_bytes, use)
    return "plain" if said else "auto"


if __name__ == "__main__":
    sys.exit(main())
