"""`emu export`: a log or an annotated capture becomes a file of another kind."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from emu.capture.output import STDOUT, OutputFile
from emu.capture.reader import open_capture
from emu.capture.write import PCAP, PCAPNG, format_of
from emu.cli.export_options import ExportCommand
from emu.cli.told import tell_of_file
from emu.engine.choose import choose_engine
from emu.engine.plain import Engine, PlainEngine
from emu.errors import NothingToPlayError, UsageError
from emu.request import say_on_stderr
from emu.verdicts.export.formats import Advance, Exported, Format, format_named, output_of
from emu.verdicts.log import SUFFIXES


def run_export(command: ExportCommand) -> int:
    """Export one file; the exit code."""
    form = format_named(command.format, command.write)
    write = output_of(form, command.write)
    if form.needs_packets and Path(command.file).suffix.lower() in SUFFIXES:
        raise UsageError(
            f"{command.file}: is a log, which has no bytes of frames; --format {form.name} needs an annotated capture "
            "(emu replay CAPTURE -w FILE)"
        )
    output = OutputFile(write, [command.file])
    try:
        with progress_bar(command.progress, form.name) as advance:
            export = _export_packets if form.needs_packets else _export_rows
            exported = export(form, command, output, advance)
    except BaseException:
        if not output.failed:
            output.discard()
        raise
    if not exported.written and not exported.incomplete:
        output.discard()
        raise NothingToPlayError(f"{command.file}: nothing to export: {exported.nothing}")
    output.finish()
    return _tell(exported, command.file)


def _export_packets(form: Format, command: ExportCommand, output: OutputFile, advance: Advance | None) -> Exported:
    """Export what needs the bytes of frames."""
    from emu.verdicts.export.drops import export_net_dm
    from emu.verdicts.export.packets import export_packets

    file_format = PCAPNG if output.name == STDOUT else format_of(output.name)
    engine = _engine(form, command, file_format)
    name = "stdin" if command.file == STDOUT else command.file
    with open_capture(command.file, engine) as reader:
        if form.name == "net_dm":
            exported = export_net_dm(reader, engine, name, output, file_format, advance)
        else:
            exported = export_packets(reader, engine, name, form.name == "drops", output, file_format, advance)
    return exported


def _engine(form: Format, command: ExportCommand, file_format: str) -> Engine:
    """The engine that reads the capture; frames that are only copied are not worth compiling anything."""
    from emu.verdicts.read_capture import READ

    is_copy = form.name != "net_dm"
    if command.engine == "auto" and is_copy and file_format == PCAP:
        return PlainEngine()
    size = Path(command.file).stat().st_size if Path(command.file).is_file() else 0
    engine, said = choose_engine(command.engine, size, READ)
    if said and command.engine == "auto" and is_copy:
        return PlainEngine()
    if said:
        say_on_stderr(said)
    return engine


def _export_rows(form: Format, command: ExportCommand, output: OutputFile, advance: Advance | None) -> Exported:
    """Export what a log has, too."""
    from emu.verdicts.export.kfree_skb import export_kfree_skb
    from emu.verdicts.export.rows import export_rows
    from emu.verdicts.read import open_verdicts
    from emu.verdicts.read_log import queried

    wanted_by = f"emu export --format {form.name}"
    verdicts = open_verdicts(command.file, wanted_by=wanted_by, engine=command.engine, say=say_on_stderr)
    with queried(verdicts.name):
        if form.name == "kfree_skb":
            return export_kfree_skb(verdicts, output, advance)
        return export_rows(verdicts, form.name, output, advance)


def _tell(exported: Exported, file: str) -> int:
    """Say on stderr what was written and what was not; the exit code."""
    say_on_stderr(f"{exported.written} {exported.what} exported")
    return tell_of_file(file, exported.notes, exported.incomplete, exported.damage)


@contextmanager
def progress_bar(asked: bool | None, what: str) -> Iterator[Advance | None]:
    """How far it is, on stderr; nothing when stderr is no terminal, unless asked for."""
    if asked is False or (asked is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=asked is None) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
