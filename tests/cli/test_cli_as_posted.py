"""`--as-posted`, `emu bugs`, `emu explain bug N`: the patch's own bugs on the command line."""

import json
from pathlib import Path

import pytest
from emu_process import ROOT, emu, emu_here, refused

from emu.as_posted import as_posted_for_each, buildable, parse_as_posted
from emu.cli.main import arguments
from emu.errors import UsageError
from emu.kernel.bugs import BUGS, Bug, bugs_of
from emu.kernel.policy import POLICIES
from emu.scenario_checks import CHECKS
from emu.scenario_file import load_scenario

CROWD = str(ROOT / "pcaps" / "bugs" / "crowd.pcap")
SMALL_RING = ("--set", "device.0.ring=80", "--no-progress", "--json")


def mask(*numbers: int) -> int:
    """Bit n for bug n."""
    return sum(1 << number for number in numbers)


@pytest.mark.parametrize("text", ["", None, " "])
def test_nothing_asked_is_no_bug(text: str | None) -> None:
    """Under every policy."""
    assert {parse_as_posted(text, policy) for policy in POLICIES} == {0}


@pytest.mark.parametrize("policy", [name for name in POLICIES if name.startswith("phillips")])
def test_all_means_those_that_the_revision_has(policy: str) -> None:
    """Not one more."""
    assert parse_as_posted("all", policy) == mask(*bugs_of(policy))


def test_numbers_in_any_order_with_blanks_and_twice() -> None:
    """A list is a set."""
    assert parse_as_posted(" 11, 1,8 ,11", "phillips-v5") == mask(1, 8, 11)


@pytest.mark.parametrize(
    ("text", "policy", "said"),
    [
        ("5", "phillips-v5", "phillips-v5 has no bug 5; it has 1,2,6,7,8,9,10,11,12,14,15"),
        ("1,4", "phillips-v1", "phillips-v1 has no bug 4; it has 1,2,3,6"),
        ("16", "phillips-v5", "'16' is not a bug from 1 to 15"),
        ("0", "phillips-v5", "'0' is not a bug from 1 to 15"),
        ("1,,2", "phillips-v5", "'' is not a bug"),
        ("eight", "phillips-v5", "'eight' is not a bug from 1 to 15; expected 'all', or numbers"),
        ("-1", "phillips-v5", "'-1' is not a bug"),
        ("²", "phillips-v5", "'²' is not a bug"),
        ("all", "mainline", "mainline is not a revision of the patch"),
        ("1", "linux-2.6.12", "linux-2.6.12 is not a revision of the patch"),
    ],
)
def test_what_a_revision_does_not_have_is_refused(text: str, policy: str, said: str) -> None:
    """With the numbers that it has."""
    with pytest.raises(UsageError) as caught:
        parse_as_posted(text, policy)
    assert said in str(caught.value)


def test_several_policies_each_get_what_they_have() -> None:
    """And what none of them has is an error."""
    three = ["phillips-v2", "phillips-v5", "mainline"]
    assert as_posted_for_each("4,8,1", three) == {"phillips-v2": "1,4", "phillips-v5": "1,8", "mainline": ""}
    everything = as_posted_for_each("all", three)
    assert everything["phillips-v2"] == "1,2,3,4,6" and everything["mainline"] == ""
    assert as_posted_for_each("", three) == dict.fromkeys(three, "")
    with pytest.raises(UsageError, match="none of phillips-v2, phillips-v5, mainline has bug 13; together they have"):
        as_posted_for_each("13", three)
    with pytest.raises(UsageError, match="none of mainline is a revision"):
        as_posted_for_each("all", ["mainline"])


def test_only_bug_4_leaves_no_kernel_to_run() -> None:
    """And the sentence says how to leave it out."""
    for policy in POLICIES:
        for number in bugs_of(policy):
            assert bool(buildable(policy, mask(number))) == (number == 4)
    assert buildable("phillips-v2", mask(1, 4, 6)).endswith("leave it out: as-posted=1,6")
    assert buildable("phillips-v2", mask(4)).endswith("leave it out: no as-posted")


def test_the_bare_option_is_spelt_out_and_nothing_else_is() -> None:
    """Only a word of its own, and not behind `--`."""
    words = ["replay", "--as-posted", "a", "--as-posted=8", "--as-posted-x", "--", "--as-posted"]
    assert arguments(words) == ["replay", "--as-posted=all", *words[2:]]


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "--as-posted", CROWD, "--policy", "phillips-v6", *SMALL_RING),
        ("replay", CROWD, "--as-posted", "--policy", "phillips-v6", *SMALL_RING),
        ("replay", CROWD, "--policy", "phillips-v6", *SMALL_RING, "--as-posted"),
        ("replay", CROWD, "--policy", "phillips-v6", *SMALL_RING, "--as-posted=all"),
        ("replay", CROWD, "--policy", "phillips-v6", *SMALL_RING, "--set", "policy.as_posted=all"),
    ],
)
def test_the_bare_option_may_stand_anywhere(words: tuple[str, ...]) -> None:
    """It takes neither the capture's name nor the next option for its list; the kernel dies of bug 1."""
    done = emu_here(*words)
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert summary["oops"] > 0 and summary["not_played"] > 0


def test_a_list_switches_on_what_it_names() -> None:
    """Bug 8 alone: five pages instead of 54, and nobody dies. In a process of its own, as a user types it."""
    done = emu("replay", CROWD, "--as-posted=8", *SMALL_RING)
    summary = json.loads(done.out)
    assert (done.code, summary["devices"]["eth0"]["memalloc_pages"], summary["oops"]) == (0, 5, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--as-posted=5",), "phillips-v5 has no bug 5"),
        (("--as-posted", "--policy", "mainline"), "mainline is not a revision of the patch"),
        (("--as-posted", "--policy", "phillips-v2"), "does not compile (bug 4"),
        (("--as-posted=4", "--policy", "phillips-v2"), "leave it out: no as-posted"),
        (("--set", "policy.as_posted=x"), "'x' is not a bug"),
    ],
)
def test_replay_refuses_in_one_line(words: tuple[str, ...], said: str) -> None:
    """Exit 2, before anything is played."""
    assert said in refused("replay", CROWD, *words, code=2)


def test_compare_plays_what_compiles_and_names_what_does_not() -> None:
    """v2 has a row that says so, on screen and as JSON; the others run, each with its own bugs."""
    words = ("compare", CROWD, "--policies", "phillips-v1,phillips-v2,phillips-v4", "--as-posted")
    done = emu_here(*words, "--set", "device.0.ring=80")
    assert done.code == 0, done.err
    assert "phillips-v2    does not compile" in done.out
    assert "note: phillips-v2 does not compile (bug 4" in done.out
    compared = json.loads(emu_here(*words, *SMALL_RING).out)["policies"]
    assert list(compared) == ["phillips-v1", "phillips-v2", "phillips-v4"]
    assert set(compared["phillips-v2"]) == {"policy", "does_not_build"}
    assert compared["phillips-v1"]["oops"] > 0
    assert compared["phillips-v4"]["devices"]["eth0"]["reserve_allocations"] == 0


def test_compare_without_anything_that_compiles_is_refused() -> None:
    """Nothing is left to compare."""
    said = refused("compare", CROWD, "--policies", "phillips-v2", "--as-posted=4", code=2)
    assert "does not compile" in said


def test_compare_leaves_out_what_a_revision_does_not_have() -> None:
    """Bug 8 is v5's; v6 and mainline are played as they are, and the scenario's own policy does not matter."""
    done = emu_here("compare", CROWD, "--policies", "phillips-v5,phillips-v6,mainline", "--as-posted=8", *SMALL_RING)
    compared = json.loads(done.out)["policies"]
    pages = {name: summary["devices"]["eth0"]["memalloc_pages"] for name, summary in compared.items()}
    assert pages == {"phillips-v5": 5, "phillips-v6": 54, "mainline": 0}
    assert "none of phillips-v1, mainline has bug 8" in refused(
        *("compare", CROWD, "--policies", "phillips-v1,mainline", "--as-posted=8"), code=2
    )


def test_compare_takes_the_bugs_of_the_scenario(tmp_path: Path) -> None:
    """A file's policy.as_posted goes for every policy that has the bug; the option comes before it."""
    file = tmp_path / "ffs.toml"
    file.write_text('[policy]\nas_posted = "8"\n')
    words = ("compare", CROWD, "--scenario", str(file), "--policies", "phillips-v5,phillips-v6", *SMALL_RING)

    def pages(*more: str) -> list[int]:
        compared = json.loads(emu_here(*words, *more).out)["policies"]
        return [summary["devices"]["eth0"]["memalloc_pages"] for summary in compared.values()]

    assert pages() == [5, 54]
    assert pages("--as-posted=") == [54, 54]


def test_the_scenario_check_names_the_key() -> None:
    """The same sentence, for the list of all problems of a file."""
    with pytest.raises(UsageError) as refused:
        load_scenario(None, {"policy.as_posted": "5"})
    sentence = "policy.as_posted: as-posted '5': phillips-v5 has no bug 5; it has 1,2,6,7,8,9,10,11,12,14,15"
    assert str(refused.value).splitlines() == [f'--set policy.as_posted="5": {sentence}']
    assert [problem for check in CHECKS for problem in check(load_scenario(None))] == []


def test_bugs_are_listed_with_their_revisions_and_what_is_done_instead() -> None:
    """A line per bug on screen, all of the table as JSON."""
    done = emu_here("bugs")
    for bug in BUGS:
        assert f"{bug.number:>3}   v" in done.out
    assert done.out.count("stays: ") == sum(bug.stays for bug in BUGS)
    said = json.loads(emu_here("bugs", "--json").out)["bugs"]
    assert [(bug["number"], bug["revisions"]) for bug in said] == [(bug.number, list(bug.revisions)) for bug in BUGS]
    assert all(bug["see"]["with_bug"].startswith("emu replay pcaps/bugs/") for bug in said)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: str(bug.number))
def test_every_bug_is_explained(bug: Bug) -> None:
    """Effect, source, who noticed, and the two commands."""
    said = json.loads(emu_here("explain", "bug", str(bug.number), "--json").out)
    assert (said["number"], said["effect"], said["noticed"]) == (bug.number, bug.effect, bug.noticed)
    shown = " ".join(emu_here("explain", f"bug:{bug.number}").out.split())
    for part in (bug.title, bug.source, said["see"]["with_bug"]):
        assert part in shown
