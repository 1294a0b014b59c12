"""`emu live demo`: the lockup and its cure on real block I/O."""

import sys

from rich.console import Console

from emu.cli.live_options import LiveDemoCommand
from emu.cli.replay import print_json, screen
from emu.engine.choose import choose_engine
from emu.engine.plain import LIVE
from emu.live.demo.demonstration import DemoOptions, run_demo
from emu.live.demo.result import has_reserve
from emu.live.demo.screen import DemoScreen
from emu.live.demo.table import show_demo
from emu.live.lab.lab import needs_privileges
from emu.live.session import duration_seconds
from emu.live.warm import warm
from emu.request import say_on_stderr


def run_live_demo(command: LiveDemoCommand) -> int:
    """Run it; the exit code: 0 when every world did what is claimed of its policy."""
    options = DemoOptions(
        policies=_policies(command),
        scenario=command.scenario,
        writes=command.writes,
        depth=command.depth,
        limit_seconds=duration_seconds("--limit", command.limit),
        bound_seconds=duration_seconds("--for", command.duration),
        flood_per_second=command.flood_pps,
        ports=command.ports,
        page_cache=command.page_cache,
        captures=command.captures,
        out=command.out,
    )
    needs_privileges()
    engine, said = choose_engine("auto", None, LIVE)
    if said:
        say_on_stderr(said)
    warm(engine, with_log=False)  # what is compiled here the worlds find in the cache: their time is not for that
    with DemoScreen(Console(stderr=True, highlight=False)) as shown:
        result = run_demo(options, say_on_stderr, shown)
    if result.unwritten:
        say_on_stderr(result.unwritten)
    if command.json:
        print_json(result)
    else:
        show_demo(screen(sys.stdout), result)
    return result.exit_code


def _policies(command: LiveDemoCommand) -> tuple[str, ...]:
    if command.policies is None:
        shown = DemoOptions().policies
        return tuple(policy for policy in shown if has_reserve(policy)) if command.page_cache else shown
    return tuple(name.strip() for name in command.policies.split(",") if name.strip())
