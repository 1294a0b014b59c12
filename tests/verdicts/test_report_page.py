"""The page of a replay's report: all in it, nothing fetched, whatever a name says, and the same bytes each time."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import pytest
from report_kit import dropped, row, table_of, verdicts_of
from test_plots_html import Page, data_of

from emu.errors import UsageError
from emu.kernel.drop_reason import CAUSES, REASONS
from emu.verdicts.report.page import contents_of, page_of, write_replay_report
from emu.verdicts.schema import NAMES

DRAWS = "/* what draws */"
HOSTILE = "udp </script><script>alert(1)</script> & \" ' > x"


def page(rows: list[dict[str, Any]], **more: Any) -> str:
    return page_of(contents_of(verdicts_of(rows, **more)), DRAWS)


def words_of(text: str) -> str:
    return " ".join(" ".join(Page(text).words).split())


def some() -> list[dict[str, Any]]:
    rows = [row(at) for at in range(1, 40)]
    rows += [dropped(at, memalloc=at % 2, **{"class": "tcp"}) for at in range(40, 50)]
    rows += [dropped(50, "RX_MISSED", cause="NOMEM", culprit_frame=7), row(12, verdict="event", reason="QUEUE_PURGE")]
    return rows


def test_the_page_says_what_the_rows_come_to() -> None:
    words = words_of(page(some()))
    assert "50 packets received under phillips-v5: 39 delivered, 11 lost (22.0 %), 5 of them block I/O's" in words
    assert "All 12 are shown." in words


def test_every_drop_is_in_the_page_with_its_numbers_and_its_explanation() -> None:
    rows = some()
    data = data_of(page(rows))
    assert data["filter"] == "frame.number == "
    assert [column[0] for column in data["columns"]] == list(NAMES)
    lost = [one for one in rows if one["verdict"] != "delivered"]
    assert [drop["row"] for drop in data["drops"]] == [[str(one[name]) for name in NAMES] for one in lost]
    assert [drop["second"] for drop in data["drops"]] == pytest.approx([(one["frame"] - 1) / 1e3 for one in lost])
    assert "; saved by: SOCK_MEMALLOC on " in data["drops"][0]["why"]
    assert "the last refill got no memory" in data["drops"][-2]["why"]


def test_reasons_and_causes_are_linked_to_their_sentences() -> None:
    rows = [dropped(reason.number, reason.name) for reason in REASONS if reason.name]
    rows += [dropped(100 + cause.number, "RX_MISSED", cause=cause.name) for cause in CAUSES]
    text = page(rows)
    wanted = set(re.findall(r'href="#(.*?)"', text))
    given = set(re.findall(r'<dt id="(.*?)"', text))
    assert wanted == given
    assert len(given) == len(REASONS) - 1 + len(CAUSES) - 1
    words = words_of(text)
    assert all(reason.sentence in words for reason in REASONS[1:])


def test_nothing_in_a_name_ends_an_element_and_nothing_is_fetched() -> None:
    text = page([dropped(1, flow=HOSTILE, device=HOSTILE)], name=HOSTILE, incomplete=HOSTILE, notes=(HOSTILE,))
    seen = Page(text)
    assert seen.elements.count("script") == Page(page([dropped(1)])).elements.count("script")
    assert [what for what in seen.fetched if what != "a href"] == []
    assert "default-src 'none'" in seen.policy
    assert data_of(text)["drops"][0]["row"][NAMES.index("flow")] == HOSTILE
    assert words_of(text).count(HOSTILE) >= 5


def test_a_replay_that_ended_early_says_so() -> None:
    words = words_of(page(some(), incomplete="interrupted after frame 60", notes=("one finding",)))
    assert "Incomplete interrupted after frame 60" in words
    assert "one finding" in words
    assert "Incomplete" not in words_of(page(some()))


def test_a_log_of_drops_alone_makes_no_shares_of_what_it_does_not_know() -> None:
    lost = [one for one in some() if one["verdict"] != "delivered"]
    words = words_of(page(lost, drops_only=True))
    assert "A log of drops alone under phillips-v5: 11 lost, 5 of them block I/O's (memalloc)." in words
    assert "Received" not in words
    assert "100.0 %" not in words.split("By class")[1]


def test_a_capture_whose_survivors_have_no_comment_does_not_call_them_delivered() -> None:
    rows = [one | {"verdict": None, "memalloc": None} if one["verdict"] == "delivered" else one for one in some()]
    text = page(rows, is_capture=True, policy="")
    words = words_of(text)
    assert "50 frames: 11 lost (22.0 %)" in words
    assert "Delivered" not in words
    assert "block I/O (memalloc) not said 5 not said" in words
    assert "not said the file does not name it" in words
    assert next(iter(data_of(text)["run"]["lines"].values()))["name"] == "survived"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(1)],
        [dropped(1)],
        [row(1, verdict="event", reason="QUEUE_PURGE")],
        [dropped(1, verdict="oops", reason="")],
    ],
    ids=["none", "one delivered", "one dropped", "one event", "one oops"],
)
def test_the_least_that_there_can_be_makes_a_page(rows: list[dict[str, Any]]) -> None:
    data = data_of(page(rows))
    assert len(data["drops"]) == sum(one["verdict"] != "delivered" for one in rows)
    assert len(data["run"]["seconds"]) == len(rows)


def test_the_page_says_how_much_it_leaves_out() -> None:
    rows = [dropped(at, flow=f"udp 10.0.{at // 250}.{at % 250}:1 > 10.1.0.1:9") for at in range(1, 2_001)]
    words = words_of(page(rows))
    data = data_of(page(rows))
    assert f"Shown {len(data['drops'])} of 2 000: the first ones of each reason, and one in 5 of all." in words
    assert "and 1 900 further flows: 1 900 packets, 1 900 of them lost" in words


def test_the_same_rows_make_the_same_bytes_and_an_unwritable_name_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    rows = some()
    for name in ("a.html", "b.html"):
        write_replay_report(tmp_path / name, verdicts_of(rows))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").stat().st_size < 8_000_000
    with pytest.raises(UsageError, match="would overwrite the input"):
        write_replay_report(tmp_path / "a.html", verdicts_of(rows), [tmp_path / "a.html"])
    with pytest.raises(UsageError, match="is a directory"):
        write_replay_report(tmp_path, verdicts_of(rows))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_page_of_a_million_packets_is_as_small_as_one_of_ten_thousand() -> None:
    few = [dropped(at, flow=f"tcp 10.0.0.1:{at} > 10.1.0.1:3260") if at % 2 else row(at) for at in range(1, 2_001)]
    table = polars.concat([table_of(few)] * 500)
    many = page_of(contents_of(replace(verdicts_of([]), table=table)), "")
    assert f"Shown {len(data_of(many)['drops'])} of 500 000" in words_of(many)
    assert len(many) < 1_000_000
