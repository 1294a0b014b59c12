"""A replay's report in a real browser: it draws, sorts and filters, and a drop that is pressed tells its frame."""

from pathlib import Path
from typing import Any

import pytest
from browser_kit import Seen, browse_page
from report_kit import dropped, row, verdicts_of

from emu.verdicts.report.page import write_replay_report

pytest.importorskip("plotly")

# What is copied is caught: a page without a person's hand on it may not write to the clipboard.
CATCH = """
  const copied = [];
  Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { copied.push(text); } } });
  const details = document.querySelector(".details");
  const told = () => details.hidden ? null : details.querySelector("h3").textContent;
  const rows = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const column = (table, at) => rows(table).map((row) => row.cells[at].textContent);
"""


def open_page(folder: Path, rows: list[dict[str, Any]], probe: str, width: int = 1280) -> Seen:
    write_replay_report(folder / "page.html", verdicts_of(rows))
    return browse_page(folder, CATCH + probe, width)


def some() -> list[dict[str, Any]]:
    rows = [row(at, cap_skbs=50, reserve_used_before=at % 50, ring_free=at % 7) for at in range(1, 400)]
    rows += [dropped(at, flow=f"tcp 10.0.0.{at % 5}:1 > 10.0.0.9:80", memalloc=1) for at in range(400, 440)]
    rows += [dropped(440, "RX_MISSED", cause="NOMEM", culprit_frame=7, flow="tcp 10.0.0.1:1 > 10.0.0.9:80")]
    return rows


def test_a_drop_that_is_pressed_tells_its_frame_and_its_filter(tmp_path: Path) -> None:
    seen = open_page(
        tmp_path,
        some(),
        """
        const drawn = all(".plot").map(count);
        const width = (path) => path.getBoundingClientRect().width;
        const widths = all(".plot").map((plot) => Math.max(...all(".trace path", plot).map(width)));
        const hidden = details.hidden;
        all("tr[data-drop]").at(-1).click();
        await nap();
        const last = { told: told(), text: details.textContent, chosen: all("tr[aria-selected=true]").length };
        details.querySelector(".close").click();
        await nap();
        const closed = told();
        const points = all(".plot").at(-1);
        points.emit("plotly_click", { points: [{ pointNumber: 0, x: 0 }] });
        await nap();
        const first = told();
        document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
        await nap();
        const escaped = told();
        all(".frame")[0].click();
        await nap();
        return { drawn, widths, hidden, last, closed, first, escaped, named: told(), copied,
          shown: Number(all(".frame")[0].textContent),
          fetched: performance.getEntriesByType("resource").map((entry) => entry.name) };
        """,
    )
    found = seen.found
    assert seen.console == []
    # Packets and drops by reason, memory with its floor, reserve with its cap, ring, and the drops themselves.
    assert found["drawn"] == [3, 2, 2, 2, 1, 1] or found["drawn"] == [3, 2, 2, 3, 1, 1]
    assert min(found["widths"][:-1]) > 500
    assert found["hidden"] is True
    assert found["last"]["told"] == "Frame 440: dropped, RX_MISSED"
    assert found["last"]["chosen"] == 1
    for word in ("frame.number == 440", "causeNOMEM", "frame.number == 7", "free_pages300 pages"):
        assert word in found["last"]["text"]
    assert found["closed"] is None
    assert found["first"] == "Frame 400: dropped, PFMEMALLOC"
    assert found["escaped"] is None
    assert found["named"].startswith(f"Frame {found['shown']}")
    assert found["copied"] == ["frame.number == 440", "frame.number == 400", f"frame.number == {found['shown']}"]
    assert found["fetched"] == []


def test_tables_are_sorted_and_filtered(tmp_path: Path) -> None:
    seen = open_page(
        tmp_path,
        some(),
        """
        const table = all(".rows table").at(-1);
        const heads = [...table.tHead.rows[0].cells];
        const before = column(table, 0);
        heads[0].querySelector("button").click();
        const down = column(table, 0);
        heads[0].querySelector("button").click();
        const up = column(table, 0);
        heads[3].querySelector("button").click();
        const reasons = column(table, 3);
        const box = all(".filter").at(-1);
        box.querySelector("input").value = "nomem 10.0.0.1";
        box.querySelector("input").dispatchEvent(new Event("input"));
        const left = column(table, 0), said = box.querySelector("output").textContent;
        all("tr[data-drop]:not([hidden])")[0].click();
        await nap();
        return { before, down, up, reasons, left, said, told: told(), sorted: heads[3].getAttribute("aria-sort") };
        """,
    )
    found = seen.found
    frames = [str(at) for at in range(400, 441)]
    assert seen.console == []
    assert found["before"] == frames
    assert found["down"] == frames[::-1]
    assert found["up"] == frames
    assert found["reasons"] == ["PFMEMALLOC"] * 40 + ["RX_MISSED"]
    assert found["sorted"] == "ascending"
    assert found["left"] == ["440"]
    assert found["said"] == "1 of 41"
    assert found["told"] == "Frame 440: dropped, RX_MISSED"


def test_a_frame_that_is_not_in_the_sample_is_told_without_its_numbers(tmp_path: Path) -> None:
    # The only drop of its flow is in no sample; the flow's row names it all the same.
    rows = [dropped(at) for at in range(1, 1_200)]
    rows[607] |= {"flow": "tcp 10.9.9.9:1 > 10.0.0.9:80"}
    seen = open_page(
        tmp_path,
        rows,
        """
        all(".frame").find((button) => button.textContent === "608").click();
        await nap();
        return { told: told(), text: details.textContent, copied };
        """,
    )
    assert seen.console == []
    assert seen.found["told"] == "Frame 608"
    assert "not in this page" in seen.found["text"]
    assert seen.found["copied"] == ["frame.number == 608"]


@pytest.mark.parametrize("rows", [[], [dropped(1)]], ids=["none", "one dropped"])
def test_the_least_that_there_can_be_is_drawn_without_a_complaint(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    seen = open_page(tmp_path, rows, 'return all(".plot").map((plot) => all(".point, .trace", plot).length > 0);')
    assert seen.console == []
    assert all(seen.found)
    assert len(seen.found) == (5 if rows else 0)


def test_on_a_phone_the_page_is_not_wider_than_the_phone(tmp_path: Path) -> None:
    seen = open_page(
        tmp_path,
        some(),
        """
        all("tr[data-drop]")[0].click();
        await nap();
        return { sideways: document.documentElement.scrollWidth, right: details.getBoundingClientRect().right };
        """,
        width=390,
    )
    assert seen.console == []
    assert seen.found["sideways"] <= 390
    assert seen.found["right"] <= 390
