"""The report as a file: everything in it, nothing fetched, the same bytes each time."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plots_kit import CHAIN, samples, story, summary

from emu.errors import UsageError
from emu.verdicts.plots.html import page_of, write_report
from emu.verdicts.plots.timeline import Run

DRAWS = "/* what draws */"
POLICIES = 9
MANY = 4_096


class Page(HTMLParser):
    """Elements by name, what they would fetch, and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.fetched: list[str] = []
        self.policy = ""
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        given = dict(attributes)
        self.fetched += [f"{tag} {name}" for name in ("src", "href", "srcset", "data", "action") if name in given]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""

    def handle_data(self, text: str) -> None:
        self.words.append(text)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def two_runs() -> list[Run]:
    return [story("linux-2.6.12", locks=True, count=60), story("phillips-v5", locks=False, cap=50, count=60)]


def test_every_line_of_every_run_is_in_the_page_as_it_was_sampled() -> None:
    runs = two_runs()
    data = data_of(page_of(runs, "deadlock", DRAWS))
    for run, (policy, _, given) in zip(data["runs"], runs, strict=True):
        assert run["policy"] == policy
        assert run["seconds"] == [time_ns / 1e9 for time_ns in given["time_ns"]]
        for key in (
            "normal_free_pages",
            "reserve_used",
            "ring_filled",
            "dirty_pages",
            "writeback_pages",
            "clean_pages",
        ):
            assert run["lines"][key]["values"] == given[key]
        assert run["lines"]["pages_min"]["values"] == 256, "a line that never changes is one number"
        drawn = {key for panel in run["panels"] for key in panel["keys"]}
        assert drawn == set(run["lines"])
        assert {"atomic_floor_pages", "pages_low", "pages_high", "writes_per_s", "memalloc_dropped"} <= drawn
    assert [len(panel["lines"]) for panel in data["compare"]] == [2] * 5


def test_the_chain_of_a_lockup_is_told_and_its_moment_marked() -> None:
    page = page_of([story("linux-2.6.12", locks=True, count=60)], "deadlock", DRAWS)
    words = " ".join(Page(page).words)
    for link in CHAIN:
        assert all(said in words for said in link.values())
    assert data_of(page)["runs"][0]["lockup"] == {"time": 0.59, "last": 0.55, "at": 59}


def test_a_long_chain_is_there_to_its_end() -> None:
    policy, told, given = story("linux-2.6.12", locks=True, count=20)
    told["lockup"]["chain"] = [{"actor": f"reader {at}", "waits_for": "a page", "why": "none"} for at in range(25)]
    page = page_of([(policy, told, given)], "deadlock", DRAWS)
    words = " ".join(Page(page).words)
    assert all(f"reader {at} " in words for at in range(25))
    assert "15 more who wait" in words


def test_drops_are_told_in_all_too() -> None:
    words = Page(page_of([story("v5", locks=False, count=20)], "deadlock", DRAWS)).words
    at = words.index("RX_MISSED")
    assert words[at - 1 : at + 2] == ["reason", "RX_MISSED", "119 000"]


def test_one_run_is_not_compared_with_itself() -> None:
    page = page_of([story("linux-2.6.12", locks=True, count=60)], "deadlock", DRAWS)
    assert data_of(page)["compare"] == []
    assert "All policies" not in page


def test_nothing_is_fetched_and_the_browser_is_told_so(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    report = tmp_path / "out.html"
    write_report(report, two_runs(), "deadlock")
    text = report.read_text()
    page = Page(text)
    assert page.fetched == []
    assert not {"link", "img", "iframe", "base", "object"} & set(page.elements)
    assert "default-src 'none'" in page.policy
    assert "http" not in page.policy
    styles = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_same_runs_make_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, two_runs(), "deadlock")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"], "nothing unfinished is left"


def test_an_input_is_not_overwritten(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    scenario = tmp_path / "deadlock.toml"
    scenario.write_text("[run]\n")
    with pytest.raises(UsageError, match="would overwrite the input"):
        write_report(scenario, two_runs(), "deadlock", [scenario])
    assert scenario.read_text() == "[run]\n"


def test_names_and_words_cannot_become_markup() -> None:
    evil = "</script><img src=x onerror=alert(1)>\"'&"
    policy, told, given = story(evil, locks=True, count=20)
    told["lockup"]["chain"] = [{"actor": evil, "waits_for": evil, "why": evil}]
    page = page_of([(policy, told, given), (policy, {"policy": evil, "does_not_build": evil}, {})], evil, DRAWS)
    assert "img" not in Page(page).elements
    assert Page(page).elements.count("script") == 3
    assert data_of(page)["runs"][0]["policy"] == evil


def test_what_is_no_number_is_no_json_either() -> None:
    given = samples(3, free_pages=[1, float("nan"), 3])
    data = data_of(page_of([("v5", summary("v5", "progress"), given)], "x", DRAWS))
    assert data["runs"][0]["lines"]["free_pages"]["values"] == [1, None, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_no_and_of_one_sample_are_shown(count: int) -> None:
    page = page_of([("v5", summary("v5", "progress"), samples(count))], "x", DRAWS)
    assert ("There are no samples to draw." in page) == (count == 0)
    assert len(data_of(page)["runs"][0]["seconds"]) == count


def test_nine_policies_of_4096_samples_fit_in_a_file_that_can_be_sent() -> None:
    runs = [story(f"policy-{number}", locks=number % 2 == 0, count=MANY, pace=number) for number in range(POLICIES)]
    assert len(page_of(runs, "deadlock", DRAWS)) < 8_000_000


def test_without_plotly_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=r"^--report needs plotly: pip install 'emu\[plots\]'$"):
        write_report(tmp_path / "out.html", two_runs(), "deadlock")
    assert list(tmp_path.iterdir()) == []


def test_no_run_is_no_report() -> None:
    with pytest.raises(UsageError, match="there is no run to show"):
        page_of([], "deadlock", DRAWS)
