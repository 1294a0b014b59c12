"""`emu export`: a log or an annotated capture becomes a file of another kind."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from emu.capture.output import STDOUT, OutputFile
from emu.capture.reader import open_capture
from emu.capture.write import PCAPNG, format_of
from emu.cli.export_options import ExportCommand
from emu.engine.plain import PlainEngine
from emu.errors import Exit, NothingToPlayError, UsageError
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
            exported = _export(form, command.file, output, advance)
    except BaseException:
        output.discard()
        raise
    if not exported.written and not exported.damage:
        output.discard()
        raise NothingToPlayError(f"{command.file}: nothing to export: {exported.nothing}")
    output.finish()
    return _tell(exported)


def _export(form: Format, file: str, output: OutputFile, advance: Advance | None) -> Exported:
    if form.needs_packets:
        from emu.verdicts.export.drops import export_net_dm
        from emu.verdicts.export.packets import export_packets

        name = "stdin" if file == STDOUT else file
        file_format = PCAPNG if output.name == STDOUT else format_of(output.name)
        with open_capture(file, PlainEngine()) as reader:
            if form.name == "net_dm":
                return export_net_dm(reader, name, output, file_format, advance)
            return export_packets(reader, name, form.name == "drops", output, file_format, advance)
    from emu.verdicts.export.kfree_skb import export_kfree_skb
    from emu.verdicts.export.rows import export_rows
    from emu.verdicts.read import open_verdicts

    verdicts = open_verdicts(file, wanted_by=f"emu export --format {form.name}")
    if form.name == "kfree_skb":
        return export_kfree_skb(verdicts, output, advance)
    return export_rows(verdicts, form.name, output, advance)


def _tell(exported: Exported) -> int:
    """Say on stderr what was written and what was not; the exit code."""
    say_on_stderr(f"{exported.written} {exported.what} exported")
    for note in exported.notes:
        say_on_stderr(note)
    if exported.damage:
        say_on_stderr(exported.damage)
        return Exit.CAPTURE
    return Exit.DONE


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
