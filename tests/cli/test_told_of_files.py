"""What show, diff, export and report say of a file that is damaged, ends early, or has lost its comments."""

import json
from pathlib import Path

import pytest
from bare_capture import strip_comments
from emu_process import emu_here
from export_kit import Made, kit, make

pytest.importorskip("polars")
pytest.importorskip("plotly")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run, and its capture without comments as bare.pcapng."""
    made = make(tmp_path_factory.mktemp("run"))
    strip_comments(made.capture, made.capture.with_name("bare.pcapng"))
    return made


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose capture was cut off: its own files are whole."""
    folder = tmp_path_factory.mktemp("short")
    capture = kit.pcap(kit.paced([kit.udp(5000, 1000)] * 200, gap_ns=1000))
    (folder / "cut.pcap").write_bytes(capture[:-7])
    outputs = ("-w", folder / "out.pcapng", "--log", folder / "log.parquet")
    assert emu_here("replay", folder / "cut.pcap", "--engine", "plain", *outputs).code == 3
    return folder


def verbs(file: Path, folder: Path) -> list[tuple[str | Path, ...]]:
    rows, page = folder / "rows.parquet", folder / "page.html"
    return [
        ("show", file, "--by", "verdict"),
        ("diff", file, file),
        ("export", file, "-w", rows),
        ("report", file, "-w", page),
    ]


@pytest.mark.parametrize("name", ["out.pcapng", "log.parquet"])
def test_the_whole_file_of_a_run_that_ended_early_is_no_error(short: Path, tmp_path: Path, name: str) -> None:
    for words in verbs(short / name, tmp_path):
        done = emu_here(*words)
        assert done.code == 0, (words, done.err)
        assert "ends early: after frame 199" in done.err, words
    if name.endswith(".pcapng"):
        for form in ("drops", "net_dm"):
            assert emu_here("export", short / name, "--format", form, "-w", tmp_path / f"{form}.pcapng").code == 0


def test_a_damaged_file_is_read_as_far_as_it_goes_and_is_an_error(made: Made, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(made.capture.read_bytes()[:-5_000])
    for words in verbs(cut, tmp_path):
        done = emu_here(*words)
        assert (done.code, "ends early: byte" in done.err) == (3, True), (words, done.err)


def test_a_log_of_text_says_that_it_cannot_name_the_policy(made: Made, short: Path) -> None:
    said = emu_here("show", made.log, "--limit", "1")
    assert " under " not in said.out.splitlines()[0] and "does not name the policy" in said.err
    said = emu_here("show", short / "log.parquet", "--limit", "1")
    assert " under phillips-v5: " in said.out.splitlines()[0] and "does not name" not in said.err


def test_a_lost_frame_without_comments_is_no_survivor_anywhere(made: Made, tmp_path: Path) -> None:
    bare = made.capture.with_name("bare.pcapng")
    lost = [row["frame"] for row in made.dropped]
    story = emu_here("show", bare, "--frame", str(lost[0]))
    assert "lost, no comment: it stands on an interface of lost frames" in story.out and "survived;" not in story.out
    assert f"{len(lost)} lost, without comment" in emu_here("show", bare, "--limit", "1").out
    listed = emu_here("show", bare, "--drops", "--json")
    assert listed.out == "" and f"of {len(lost)} packets this file does not say whether they match" in listed.err
    survivors = emu_here("show", bare, "--verdict", "delivered", "--json")
    assert f"of {kit_frames(bare) - len(lost)} packets this file does not say" in survivors.err
    page = emu_here("report", bare, "-w", tmp_path / "page.html", "--json")
    packets = json.loads(page.out)["packets"]
    assert (packets["untold"], packets["dropped"]) == (len(lost), 0)


def test_a_lost_frame_without_comments_may_be_any_loss_but_no_delivery(made: Made) -> None:
    bare = made.capture.with_name("bare.pcapng")
    for other in (made.capture, made.log):
        done = emu_here("diff", bare, other, "--json")
        found = json.loads(done.out)
        assert (done.code, found["changed"]) == (0, 0), other
        assert {fates["a"] for fates in found["fates"]} == {"lost", "survived"}


def kit_frames(capture: Path) -> int:
    """How many frames a capture has, by its own figures."""
    found = json.loads(emu_here("show", capture, "--by", "device", "--json").out)
    return sum(int(group["packets"]) for group in found["shown"])
