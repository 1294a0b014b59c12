"""Plots as PNG and SVG: readable by others, the same bytes each time, the lockup to be seen."""

import math
import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from plots_kit import S, lockup, samples, story, summary

from emu.errors import UsageError
from emu.verdicts.plots.image import DOTS_PER_INCH, WIDTH, check_plot, plot_of, write_plot
from emu.verdicts.plots.timeline import Run, timeline_of

mpl = pytest.importorskip("matplotlib")

SVG = "{http://www.w3.org/2000/svg}"


def two_runs() -> list[Run]:
    return [story("linux-2.6.12", locks=True, count=80), story("phillips-v5", locks=False, cap=50, count=80)]


def pixels(octets: bytes) -> Any:
    """Rows of RGBA, 0 to 1, as matplotlib's reader has them."""
    from matplotlib.image import imread

    return imread(BytesIO(octets), format="png")


@pytest.mark.parametrize(("form", "runs"), [("png", two_runs()), ("svg", two_runs()[:1])])
def test_the_same_runs_make_the_same_bytes_whatever_matplotlibrc_says(form: str, runs: list[Run]) -> None:
    first = plot_of(runs, "deadlock", form)
    with mpl.rc_context({"font.size": 31, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        assert plot_of(runs, "deadlock", form) == first
    assert b"Date" not in first
    assert b"dc:date" not in first


def test_a_png_is_as_wide_as_promised_and_a_comparison_has_all_its_panels(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.PNG"
    write_plot(one, two_runs()[:1], "deadlock")
    write_plot(two, two_runs(), "deadlock")
    tall, less = pixels(one.read_bytes()), pixels(two.read_bytes())
    assert tall.shape[1] == less.shape[1] == WIDTH * DOTS_PER_INCH
    assert tall.shape[0] > less.shape[0] > 1_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.PNG"]


def red_columns(octets: bytes) -> list[int]:
    """Columns of pixels in which the strong red of a lockup goes through most of the lower half."""
    image = pixels(octets)
    lower = image[image.shape[0] // 2 :]
    red = (lower[:, :, 0] > 0.7) & (lower[:, :, 1] < 0.45) & (lower[:, :, 2] < 0.25)
    return [column for column in range(image.shape[1]) if red[:, column].mean() > 0.5]


def test_the_lockup_is_a_line_through_all_plots_at_its_moment() -> None:
    run = ("v5", summary("v5", "LOCKUP", lockup=lockup(1 * S, None)), samples(201))
    columns = red_columns(plot_of([run], "deadlock", "png"))
    # The plots begin 0.75 inches from the left and end 0.25 from the right; 1 s is half of their 2 s.
    middle = (0.75 + (WIDTH - 1.0) / 2) * DOTS_PER_INCH
    assert columns
    assert all(abs(column - middle) <= 3 for column in columns)
    assert red_columns(plot_of([("v5", summary("v5", "progress"), samples(201))], "deadlock", "png")) == []


def test_an_svg_is_xml_and_says_lockup_where_and_why() -> None:
    octets = plot_of(two_runs()[:1], "deadlock <&> $x_1$", "svg")
    root = ElementTree.fromstring(octets)
    assert root.tag == f"{SVG}svg"
    axes = [group for group in root.iter(f"{SVG}g") if group.get("id", "").startswith("axes_")]
    assert len(axes) == len(timeline_of(two_runs()[0]).panels)
    text = octets.decode()
    assert "LOCKUP 0.790 s" in text
    assert "flusher waits for a SCSI Response of session 0" in text
    assert "$x_1$" in text, "a title is not mathematics"
    assert 'xlink:href="http' not in text


def test_a_long_chain_says_how_much_of_it_is_not_shown() -> None:
    policy, told, given = story("linux-2.6.12", locks=True, count=20)
    told["lockup"]["chain"] = [{"actor": f"reader {at}", "waits_for": "a page", "why": "none"} for at in range(25)]
    text = plot_of([(policy, told, given)], "deadlock", "svg").decode()
    assert "reader 9 waits" in text
    assert "reader 10 waits" not in text
    assert "and 15 more" in text


def test_a_long_headline_is_broken_into_lines() -> None:
    policy, told, given = story("mainline", locks=False, count=20)
    reasons: list[list[str]] = [[], ["packets were lost"] * 20]
    plots = [plot_of([(policy, told | {"because": because}, given)], "x", "png") for because in reasons]
    assert pixels(plots[1]).shape[0] > pixels(plots[0]).shape[0]


@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_hardly_any_samples_are_drawn(count: int) -> None:
    runs: list[Run] = [
        ("v5", summary("v5", "LOCKUP", lockup=lockup(0, 0)), samples(count, free_pages=[math.nan] * count))
    ]
    if count == 0:
        runs.append(("v2", {"policy": "v2", "does_not_build": "no dev"}, {}))
    assert pixels(plot_of(runs, "x", "png")).shape[1] == WIDTH * DOTS_PER_INCH


def test_nine_policies_of_4096_samples_are_a_small_picture() -> None:
    runs = [story(f"policy-{number}", locks=number % 2 == 0, count=4_096, pace=number) for number in range(9)]
    assert len(plot_of(runs, "deadlock", "png")) < 1_000_000


@pytest.mark.parametrize("name", ["out.pdf", "out", "-", "png"])
def test_another_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--plot .*{name}: expected a name that ends in \.png or \.svg$"):
        write_plot(tmp_path / name, two_runs(), "deadlock")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"^--plot needs matplotlib: pip install 'emu\[plots\]'$"):
        check_plot("out.png")


def test_no_run_is_no_plot() -> None:
    with pytest.raises(UsageError, match="there is no run to show"):
        plot_of([], "deadlock", "png")
