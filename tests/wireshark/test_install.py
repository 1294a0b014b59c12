"""`emu wireshark install`, `uninstall` and `status` in homes of their own: what is written, what is left alone."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from external_tools import tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wireshark_home import ROOT, emu_at, environment_of

from emu.errors import UsageError
from emu.wireshark import install as installer
from emu.wireshark.extcap_dialog import INTERFACES
from emu.wireshark.folders import Folders, folders
from emu.wireshark.install import PARTS, install, items, status, uninstall
from emu.wireshark.launcher import launcher_text, shebang
from emu.wireshark.manifest import MANIFEST_NAME
from emu.wireshark.profile import PROFILE


def places_in(home: Path) -> Folders:
    """The folders that Wireshark 4.0 would use there."""
    return folders(environment_of(home) | {"PATH": ""})


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the bytes of files, None for folders."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def whats(told: list[installer.Told]) -> dict[str, str]:
    return {one.path.name: one.what for one in told}


def test_installing_and_taking_back_leaves_nothing(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    told = install(places)
    assert {one.what for one in told} == {"wrote"}
    assert {one.part for one in told} == set(PARTS)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        ".local/lib/wireshark/plugins/emu.lua",
        ".config/wireshark/extcap/emu-extcap",
        f".config/wireshark/{MANIFEST_NAME}",
        *(
            f".config/wireshark/profiles/{PROFILE}/{name}"
            for name in ("preferences", "colorfilters", "dfilter_buttons", "io_graphs", "recent")
        ),
    }
    assert {one.what for one in status(places)} == {"installed"}
    assert {one.what for one in uninstall(places)} == {"removed"}
    assert tree(tmp_path) == {}


def test_what_was_there_before_is_there_afterwards(tmp_path: Path) -> None:
    (tmp_path / ".config/wireshark/profiles/mine").mkdir(parents=True)
    (tmp_path / ".config/wireshark/preferences").write_text("gui.toolbar_main_style: 1\n")
    (tmp_path / ".local/lib/wireshark/plugins").mkdir(parents=True)
    before = tree(tmp_path)
    install(places_in(tmp_path))
    assert before.items() < tree(tmp_path).items()
    uninstall(places_in(tmp_path))
    assert tree(tmp_path) == before


def test_installing_again_changes_nothing(tmp_path: Path) -> None:
    install(places_in(tmp_path))
    before = tree(tmp_path)
    told = install(places_in(tmp_path))
    assert {one.what for one in told if one.path.name != "recent"} == {"up to date"}
    assert tree(tmp_path) == before


def test_a_newer_emu_replaces_what_an_older_one_wrote_and_takes_away_what_it_does_not_have(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    older = [item._replace(octets=b"-- older\n") if item.part == "plugin" else item for item in items(places, PARTS)]
    older.append(installer.Item("profile", places.profile / "decode_as_entries", b"# gone since\n"))
    with patch.object(installer, "items", lambda *_: older):
        install(places)
    assert whats(status(places))["emu.lua"] == "out of date"
    told = whats(install(places))
    assert (told["emu.lua"], told["decode_as_entries"], told["colorfilters"]) == ("updated", "removed", "up to date")
    assert {one.what for one in status(places)} == {"installed"}
    assert not (places.profile / "decode_as_entries").exists()
    uninstall(places)
    assert tree(tmp_path) == {}


def test_a_file_that_the_user_changed_is_kept_and_told(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    install(places)
    changed = places.profile / "colorfilters"
    changed.write_text("# mine\n")
    assert whats(status(places))["colorfilters"] == "changed"
    assert whats(install(places))["colorfilters"] == "kept"
    told = uninstall(places)
    assert whats(told)["colorfilters"] == "kept"
    assert [str(one.path) for one in told if one.part == "folder"] == [str(places.profile)]
    assert changed.read_text() == "# mine\n"
    assert whats(install(places))["colorfilters"] == "kept", "it is still known whose it is"
    uninstall(places, purge=True)
    assert tree(tmp_path) == {}


def test_what_wireshark_keeps_in_the_profile_is_its_own(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    install(places)
    (places.profile / "recent").write_text("gui.zoom_level: 3\n")
    (places.profile / "disabled_protos").write_text("http\n")
    assert whats(status(places))["recent"] == "installed"
    install(places)
    assert (places.profile / "recent").read_text() == "gui.zoom_level: 3\n"
    told = uninstall(places)
    assert [(one.path, one.why) for one in told if one.what == "kept"] == [
        (places.profile, "not empty: disabled_protos")
    ]


def test_purging_takes_what_wireshark_has_put_into_the_profile_and_nothing_else(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    install(places)
    (places.profile / "disabled_protos").write_text("http\n")
    (places.configuration / "recent_common").write_text("gui.splash: FALSE\n")
    uninstall(places, purge=True)
    assert [name for name, octets in tree(tmp_path).items() if octets is not None] == [
        ".config/wireshark/recent_common"
    ]


@pytest.mark.parametrize("item", range(7))
def test_a_file_of_somebody_else_is_never_overwritten(tmp_path: Path, item: int) -> None:
    places = places_in(tmp_path)
    path = items(places, PARTS)[item].path
    path.parent.mkdir(parents=True)
    path.write_text("somebody else's\n")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"exists, and emu did not put it there; rename or remove it") as refused:
        install(places)
    assert str(path) in str(refused.value)
    assert tree(tmp_path) == before
    assert whats(status(places))[path.name] == "in the way"


def test_the_same_file_put_there_by_hand_stays_when_emu_goes(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    plugin = items(places, ["plugin"])[0]
    plugin.path.parent.mkdir(parents=True)
    plugin.path.write_bytes(plugin.octets)
    assert whats(install(places))["emu.lua"] == "kept"
    assert whats(status(places))["emu.lua"] == "the same"
    uninstall(places)
    assert plugin.path.read_bytes() == plugin.octets


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/nowhere/at/all")])
def test_what_is_no_file_is_refused_in_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    places = places_in(tmp_path)
    places.plugins.mkdir(parents=True)
    make(places.plugins / "emu.lua")
    with pytest.raises(UsageError, match=r"emu\.lua: .*try again$"):
        install(places)
    assert not places.profile.exists()


class Killed(BaseException):
    """As if by a signal."""


def failing_at(count: int, error: BaseException) -> Callable[[installer.Item], None]:
    """A write that fails the `count`-th time, half done."""
    calls = iter(range(1000))

    def write(item: installer.Item) -> None:
        if next(calls) == count:
            item.path.with_name(item.path.name + ".partial").write_bytes(item.octets[:3])
            raise error
        WRITE(item)

    return write


WRITE = installer._write


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UsageError("disk full")])
@given(count=st.integers(0, 6), upgrade=st.booleans())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_install_that_fails_puts_back_what_was_there(
    tmp_path: Path, error: BaseException, count: int, upgrade: bool
) -> None:
    home = tmp_path / f"{count}{upgrade}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    places = places_in(home)
    if upgrade:
        older = [item._replace(octets=b"older\n") for item in items(places, PARTS) if not item.wiresharks]
        with patch.object(installer, "items", lambda *_: older):
            install(places)
    before = tree(home)
    with patch.object(installer, "_write", failing_at(count, error)), contextlib.suppress(type(error)):
        install(places)
        raise AssertionError("it was to fail")
    assert tree(home) == before


def test_an_install_that_was_killed_is_finished_or_taken_back_by_the_next_command(tmp_path: Path) -> None:
    for name, command in (("again", install), ("back", uninstall)):
        home = tmp_path / name
        home.mkdir()
        places = places_in(home)
        older = [item._replace(octets=b"older\n") for item in items(places, PARTS)]
        with patch.object(installer, "items", lambda *_, older=older: older):
            install(places)
        killed = "import os; from emu.wireshark import install as i; from emu.wireshark.folders import folders\n"
        killed += "write, n = i._write, iter(range(99))\n"
        killed += "i._write = lambda item: os._exit(9) if next(n) == 3 else write(item)\ni.install(folders())"
        environment = environment_of(home) | {"PATH": "", "PYTHONPATH": str(ROOT)}
        assert subprocess.run([sys.executable, "-c", killed], env=environment, check=False).returncode == 9
        assert {one.what for one in status(places)} == {"installed", "out of date"}
        command(places)
        assert "changed" not in {one.what for one in status(places)}
        uninstall(places)
        assert tree(home) == {}


def test_a_dry_run_says_the_same_and_does_nothing(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    said = install(places, dry_run=True)
    assert tree(tmp_path) == {}
    assert install(places) == said
    before = tree(tmp_path)
    said = uninstall(places, dry_run=True)
    assert tree(tmp_path) == before
    assert uninstall(places) == said


def test_parts_come_one_by_one_and_the_graphs_of_the_plugin_with_the_plugin(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    install(places, ["profile"])
    assert not places.plugins.exists()
    assert "emu.reserve_used" not in (places.profile / "io_graphs").read_text()
    assert whats(status(places))["emu-extcap"] == "not installed"
    told = whats(install(places, ["plugin"]))
    assert (told["emu.lua"], told["io_graphs"]) == ("wrote", "updated")
    assert "emu.reserve_used" in (places.profile / "io_graphs").read_text()
    uninstall(places)
    assert tree(tmp_path) == {}


def test_a_manifest_that_is_damaged_is_named(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    install(places)
    manifest = places.configuration / MANIFEST_NAME
    for text in ("{", '{"files": 1}', '{"emu_wireshark": 99}'):
        manifest.write_text(text)
        with pytest.raises(UsageError, match=f"^{manifest}: "):
            uninstall(places)


ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"XDG_CONFIG_HOME": "HOME/xdg"},
    {"WIRESHARK_CONFIG_DIR": "HOME/own"},
    {"WIRESHARK_CONFIG_DIR": "HOME/own", "XDG_CONFIG_HOME": "HOME/xdg"},
    {"WIRESHARK_PLUGIN_DIR": "HOME/plugins"},
    {"HOME_HAS": ".wireshark"},
    {"HOME_HAS": ".wireshark .config/wireshark"},
]


@pytest.mark.parametrize("variables", ENVIRONMENTS, ids=str)
def test_without_tshark_the_folders_are_those_that_it_names(tmp_path: Path, variables: dict[str, str]) -> None:
    for folder in variables.get("HOME_HAS", "").split():
        (tmp_path / folder).mkdir(parents=True)
    more = {name: value.replace("HOME", str(tmp_path)) for name, value in variables.items() if name != "HOME_HAS"}
    environment = environment_of(tmp_path, **more)
    tool("tshark")
    asked = folders(environment)
    assert asked.asked
    assert folders(environment | {"PATH": ""}) == asked._replace(asked=False)


def test_what_newer_versions_say_of_extcaps_is_heeded(tmp_path: Path) -> None:
    program = tmp_path / "tshark"
    program.write_text("#!/bin/sh\nprintf 'Personal configuration:\\t/c\\nPersonal Lua Plugins:\\t/p\\n'\n")
    program.write_text(program.read_text() + "printf 'Personal Extcap path:\\t/e\\n'\n")
    program.chmod(0o755)
    assert folders({"PATH": str(tmp_path)}) == Folders(Path("/c"), Path("/p"), Path("/e"), asked=True)
    program.write_text("#!/bin/sh\nexit 1\n")
    assert not folders(environment_of(tmp_path, PATH=str(tmp_path))).asked


def as_user(home: Path) -> list[str]:
    """How to become a user who is not root, for whom that home is made; empty where we are none already."""
    if os.geteuid() != 0:
        return []
    shutil.chown(home, 65534, 65534)
    for folder in home.parents[:4]:  # pytest's own folders are closed to others, with -n one more
        if folder.owner() == "root" and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


@pytest.mark.parametrize("somebody", [False, True], ids=["as-we-are", "not-root"])
def test_wireshark_finds_what_was_installed(tmp_path: Path, somebody: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    become = as_user(home) if somebody else []
    environment = environment_of(home)
    tool("tshark")
    if become and subprocess.run([*become, sys.executable, "-c", "import emu"], cwd=ROOT, check=False).returncode:
        pytest.skip("another user may not read this checkout or its Python")

    def told(*words: str) -> str:
        done = subprocess.run(
            [*become, *words], env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    emu_wireshark = (sys.executable, "-m", "emu", "wireshark")
    summary: dict[str, Any] = json.loads(told(*emu_wireshark, "install", "--json"))
    assert summary["folders"]["asked"]
    assert {each["what"] for each in summary["files"]} == {"wrote"}
    assert str(home / ".local/lib/wireshark/plugins/emu.lua") in told("tshark", "-G", "plugins")
    reached = subprocess.run([*become, "sh", "-c", f'"{sys.executable}" -c 0'], capture_output=True, check=False)
    listed = told("tshark", "-D")
    # Root's own Python may be closed to others: then they could not have installed, and Wireshark cannot start it.
    assert reached.returncode or all(f" {interface} (" in listed for interface in INTERFACES)
    assert all(path.owner() == home.owner() for path in home.rglob("*"))
    assert {each["what"] for each in json.loads(told(*emu_wireshark, "status", "--json"))["files"]} == {"installed"}
    told(*emu_wireshark, "uninstall")
    assert str(home) not in told("tshark", "-G", "plugins")
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_what_is_said_to_people_names_every_file(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, PATH="")
    done = emu_at(environment, "wireshark", "install")
    for item in items(places_in(tmp_path), PARTS):
        assert f" {item.path}\n" in done.stdout
    assert "folders of Wireshark 4.0" in done.stderr
    assert emu_at(environment, "wireshark", "uninstall").stdout.count("removed") == len(
        items(places_in(tmp_path), PARTS)
    )
    assert "nothing is installed" in emu_at(environment, "wireshark", "uninstall").stdout
    refused = emu_at(environment, "wireshark", "install", "--only", "colours")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "emu: --only colours: expected one of plugin, profile, extcap\n"


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("a file where a folder has to be\n")
    done = emu_at(environment_of(tmp_path, PATH=""), "wireshark", "install")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".config"], "nothing half"


@pytest.mark.parametrize("folder", ["plain", "with a blank", 'with "quotes" and $HOME', "l" * 130])
def test_the_launcher_starts_whatever_the_interpreter_is_called(tmp_path: Path, folder: str) -> None:
    interpreter = tmp_path / folder / "python"
    interpreter.parent.mkdir()
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    package = tmp_path / "root" / "emu" / "wireshark"
    package.mkdir(parents=True)
    (package / "extcap.py").write_text("def main(words):\n    print('started', *words)\n    return 3\n")
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    script = tmp_path / "emu-extcap"
    script.write_text(launcher_text(str(interpreter), str(tmp_path / "root")))
    script.chmod(0o755)
    done = subprocess.run([script, "--x", "a b"], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stdout, done.stderr) == (3, "started --x a b\n", "")
    (package / "extcap.py").unlink()
    done = subprocess.run([script], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_plain_interpreter_stands_in_the_first_line() -> None:
    assert shebang("/usr/bin/python3") == "#!/usr/bin/python3"
