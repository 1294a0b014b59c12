"""Where the Wireshark of this user looks for plugins, profiles and capture programs."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from emu.wireshark.profile import PROFILE

ASK_SECONDS = 60  # a first start of tshark on a slow disk

# What `tshark -G folders` calls them; before 4.2 it does not know a personal folder of extcaps.
CONFIGURATION, LUA_PLUGINS, EXTCAPS = "Personal configuration", "Personal Lua Plugins", "Personal Extcap path"


class Folders(NamedTuple):
    """The user's own folders; `asked` says whether tshark named them, else they are those of Wireshark 4.0."""

    configuration: Path
    plugins: Path
    extcaps: Path
    asked: bool

    @property
    def profile(self) -> Path:
        """The folder of our profile."""
        return self.configuration / "profiles" / PROFILE


def folders(environment: Mapping[str, str] = os.environ) -> Folders:
    """The folders of the installed Wireshark; where there is no tshark to ask, by the rules of Wireshark 4.0."""
    named = _asked(environment)
    configuration = _absolute(named[CONFIGURATION]) if CONFIGURATION in named else _configuration(environment)
    plugins = named.get(LUA_PLUGINS, "")
    extcaps = named.get(EXTCAPS, "")
    return Folders(
        configuration=configuration,
        plugins=_absolute(plugins) if plugins else _home(environment) / ".local/lib/wireshark/plugins",
        extcaps=_absolute(extcaps) if extcaps else configuration / "extcap",
        asked=CONFIGURATION in named,
    )


def _asked(environment: Mapping[str, str]) -> dict[str, str]:
    """What `tshark -G folders` says; nothing where there is none, or it fails."""
    program = shutil.which("tshark", path=environment.get("PATH"))
    if program is None:
        return {}
    try:
        done = subprocess.run(  # noqa: S603 - the user's own tshark, no text of others in its arguments
            [program, "-G", "folders"],
            capture_output=True,
            check=True,
            env=dict(environment),
            timeout=ASK_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (line.partition(":") for line in os.fsdecode(done.stdout).splitlines())
    return {name.strip(): path.strip() for name, _, path in lines if path.strip()}


def _configuration(environment: Mapping[str, str]) -> Path:
    """The personal configuration folder (Wireshark 4.0, wsutil/filesystem.c get_persconffile_dir_no_profile)."""
    if given := environment.get("WIRESHARK_CONFIG_DIR"):
        return _absolute(given)
    home = _home(environment)
    usual = _absolute(environment.get("XDG_CONFIG_HOME") or home / ".config") / "wireshark"
    old = home / ".wireshark"
    return old if old.is_dir() and not usual.is_dir() else usual


def _home(environment: Mapping[str, str]) -> Path:
    return _absolute(environment.get("HOME") or Path.home())


def _absolute(path: str | Path) -> Path:
    return Path(path).absolute()
