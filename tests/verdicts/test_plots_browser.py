"""The report in a real browser without a network: it draws, answers the mouse, and complains about nothing."""

from pathlib import Path

import pytest
from browser_kit import Seen, browse_page
from plots_kit import story

from emu.verdicts.plots.html import write_report
from emu.verdicts.plots.timeline import Run, timeline_of

pytest.importorskip("plotly")


def browse(folder: Path, runs: list[Run], probe: str, width: int = 1280) -> Seen:
    """Open the report of runs and run the probe in it."""
    write_report(folder / "page.html", runs, "deadlock")
    return browse_page(folder, probe, width)


LOCKED = story("linux-2.6.12", locks=True, count=300)
CURED = story("phillips-v5", locks=False, cap=50, count=300)
SINGLE = story("mainline", locks=False, count=1)
UNBUILT: Run = ("phillips-v2", {"policy": "phillips-v2", "does_not_build": "dev is not declared"}, {})


def test_one_run_is_drawn_and_answers_the_mouse(tmp_path: Path) -> None:
    seen = browse(
        tmp_path,
        [LOCKED],
        """
        const drawn = plots().map(count);
        const empty = plots().flatMap((plot) => all(".scatterlayer .trace", plot)).filter((trace) =>
          !all("path", trace).some((path) => path.getBoundingClientRect().width > 500)).length;
        const marks = plots().map((plot) => all(".shapelayer path", plot).length);
        const words = all(".annotation", plots()[0]).map((mark) => mark.textContent);
        const before = all(".legend output").map((output) => output.textContent);
        const field = plots()[4].querySelector(".nsewdrag").getBoundingClientRect();
        const at = { clientX: field.left + field.width / plots()[4].layout.xaxis.range[1], clientY: field.top + 40 };
        for (const kind of ["mouseover", "mousemove"]) {
          plots()[4].querySelector(".nsewdrag").dispatchEvent(new MouseEvent(kind, { bubbles: true, ...at }));
        }
        await nap();
        const hovered = all(".legend output").map((output) => output.textContent);
        const box = all(".hoverlayer text", plots()[4]).map((text) => text.textContent).join("|");
        const cursors = all(".cursor:not([hidden])").map((cursor) => cursor.style.left);
        all(".zoom button")[1].click();
        await nap();
        const zoomed = plots().map((plot) => plot.layout.xaxis.range.slice());
        await Plotly.relayout(plots()[2], { "xaxis.range[0]": 1, "xaxis.range[1]": 2 });
        await nap();
        const dragged = plots().map((plot) => plot.layout.xaxis.range.slice());
        all(".legend button")[0].click();
        await nap();
        return { drawn, empty, marks, words, before, hovered, box, cursors, zoomed, dragged, hidden: count(plots()[0]),
          fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
          sideways: document.documentElement.scrollWidth };
        """,
    )
    found = seen.found
    assert seen.console == []
    panels = timeline_of(LOCKED).panels
    assert found["drawn"] == [sum(line.style != "readout" for line in panel.lines) for panel in panels]
    assert found["empty"] == 0
    assert found["marks"] == [3] * len(panels), "the lockup, what is behind it, and the last page, in each plot"
    assert found["words"] == ["✖ LOCKUP 2.990 s", "last page 2.750 s"]
    # The values at the end of the run, then those of the sample at 1 s, each with its unit.
    given = LOCKED[2]
    assert found["before"][0] == f"{given['normal_free_pages'][-1]} pages"
    assert found["hovered"][0] == f"{given['normal_free_pages'][100]:,} pages".replace(",", "\u202f")
    assert f"clean : {given['clean_pages'][100]:,} pages".replace(",", "\u202f") in found["box"].replace(
        "clean:", "clean :"
    )
    assert len(found["cursors"]) == len(panels)
    assert len(set(found["cursors"])) == 1
    assert found["zoomed"] == [[1.75, 3.24]] * len(panels)
    assert found["dragged"] == [[1, 2]] * len(panels)
    assert found["hidden"] == found["drawn"][0] - 1
    assert found["fetched"] == []
    assert found["sideways"] <= 1280


def test_a_comparison_draws_every_policy_and_each_alone_when_asked(tmp_path: Path) -> None:
    seen = browse(
        tmp_path,
        [LOCKED, CURED, SINGLE, UNBUILT],
        """
        const compared = all(".compare .plot").map(count);
        const alone = [], dots = [];
        for (const tab of all("[role=tab]")) {
          tab.click();
          await nap();
          alone.push(plots().map(count));
          dots.push(plots().map((plot) => all(".scatterlayer .point", plot).length));
        }
        const empty = all("article.run:not([hidden]) .empty").map((note) => note.textContent);
        all("section .legend button")[0].click();
        await nap();
        return { compared, alone, dots, empty, left: all(".compare .plot").map(count),
          shades: all("section .legend i").map((swatch) => getComputedStyle(swatch).borderTopColor),
          rows: all(".outcomes tbody tr").map((row) => row.cells[0].textContent + row.cells[1].textContent) };
        """,
    )
    found = seen.found
    assert seen.console == []
    assert found["compared"] == [4] * 5, "three lines and the cross of the one that locked up"
    assert found["left"] == [2] * 5
    assert found["alone"] == [[6, 1, 2, 2, 3, 1, 5], [6, 2, 2, 2, 3, 1, 5], [6, 1, 2, 2, 3, 1, 5], []]
    assert found["dots"][0] == [0] * 7
    assert found["dots"][2] == [6, 1, 2, 2, 3, 0, 0], "a single sample is a dot, but no rate"
    assert found["empty"] == ["There are no samples to draw."]
    assert found["shades"] == ["rgb(0, 114, 178)", "rgb(194, 124, 0)", "rgb(0, 138, 101)"]
    assert found["rows"] == [
        "linux-2.6.12✖ LOCKUP",
        "phillips-v5✔ progress",
        "mainline▲ degraded",
        "phillips-v2∅ does not build",
    ]


def test_on_a_phone_nothing_has_to_be_scrolled_sideways(tmp_path: Path) -> None:
    seen = browse(
        tmp_path,
        [LOCKED, CURED],
        """
        const bars = all(".main-svg").map((svg) => svg.getBoundingClientRect().right);
        return { sideways: document.documentElement.scrollWidth, right: Math.max(...bars), plots: plots().length,
          clipped: all(".annotation", plots()[0]).filter((mark) => {
            const box = mark.getBoundingClientRect();
            return box.left < 0 || box.right > 390;
          }).length };
        """,
        width=390,
    )
    assert seen.console == []
    assert seen.found["sideways"] <= 390
    assert seen.found["right"] <= 390
    assert seen.found["clipped"] == 0
    assert seen.found["plots"] == 7
