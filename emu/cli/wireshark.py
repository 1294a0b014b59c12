"""`emu wireshark`: bring what emu has for Wireshark into the user's own folders, and take it back."""

import sys
from collections.abc import Sequence

from emu.cli.replay import print_json
from emu.errors import Exit, UsageError
from emu.wireshark.folders import Folders, folders
from emu.wireshark.install import PARTS, Told, install, status, uninstall
from emu.wireshark.profile import PROFILE


def run_install(only: Sequence[str], dry_run: bool, as_json: bool) -> int:
    """Install these parts, or all; the exit code."""
    for part in only:
        if part not in PARTS:
            raise UsageError(f"--only {part}: expected one of {', '.join(PARTS)}")
    places = folders()
    told = install(places, only or PARTS, dry_run=dry_run)
    _show("install", places, told, dry_run, as_json)
    if not as_json and not dry_run and any(one.part == "profile" for one in told):
        print(f"\nwireshark -C {PROFILE} verdicts.pcapng   (emu wireshark uninstall takes all of it back)")
    return Exit.DONE


def run_uninstall(purge: bool, dry_run: bool, as_json: bool) -> int:
    """Take back what was installed; the exit code."""
    places = folders()
    told = uninstall(places, purge=purge, dry_run=dry_run)
    _show("uninstall", places, told, dry_run, as_json)
    if not told and not as_json:
        print(f"nothing is installed in {places.configuration}")
    return Exit.DONE


def run_status(as_json: bool) -> int:
    """Say how what was installed stands; the exit code."""
    places = folders()
    _show("status", places, status(places), False, as_json)
    return Exit.DONE


def _show(verb: str, places: Folders, told: Sequence[Told], dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "emu_wireshark": 1,
                "verb": verb,
                "dry_run": dry_run,
                "folders": {
                    "configuration": str(places.configuration),
                    "plugins": str(places.plugins),
                    "extcap": str(places.extcaps),
                    "asked": places.asked,
                },
                "files": [{"part": one.part, "path": str(one.path), "what": one.what, "why": one.why} for one in told],
            }
        )
        return
    if not places.asked:
        print("emu: no tshark that could be asked: these are the folders of Wireshark 4.0", file=sys.stderr)
    if dry_run and told:
        print("nothing is changed: this is what would be")
    for one in told:  # no table: a path is copied, so it must not be broken
        why = f"   {one.why}" if one.why else ""
        print(f"{one.part:<8} {one.what:<13} {one.path}{why}")
