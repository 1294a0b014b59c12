"""Annotated captures read back: what was written stands in the rows, and whatever else comes does no harm."""

from pathlib import Path
from typing import Any

import pytest
from capture_kit import BIG, LITTLE, column, epb, idb, old_pb, pcap_header, shb, source_of, spb
from engine_pair import NAMES, engine_named, packets
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.capture import comments
from emu.capture.annotate import KEYS, AnnotatedWriter, number_of
from emu.capture.annotated import AnnotatedReader
from emu.capture.comments import EXTRA
from emu.capture.lexicon import MAX_POLICIES, TOLD_ALL, TOLD_LOST, TOLD_NOTHING, TOLD_SURVIVED, lexicon_words
from emu.capture.output import OutputFile
from emu.capture.reader import CaptureReader
from emu.errors import CaptureError
from emu.kernel import drop_reason as dr
from emu.kernel.machine import Packet
from emu.kernel.policy import POLICIES, RULES
from emu.kernel.record import fields_of
from emu.wire.headers import KINDS

FRAME = bytes.fromhex("020000000001 020000000002 0800 4500001c00010000401166cf0a0000010a000002 0035003500080000")
NAMED = ("verdict", "reason", "cause", "point", "rule", "kind")
NUMBERS = ("memalloc", "from_reserve", "pfmemalloc", "reserve_used_before", "reserve_used_after", "cap_skbs")
LEVELS = ("free_pages", "floor_pages", "ring_free", "backlog_len", "time_ns", "decided_ns", "culprit_id")
SET = (*NAMED, *NUMBERS, *LEVELS)
ALL = tuple(field.name for field in fields_of(comments.Verdict))
POLICY = next(iter(POLICIES))


def read(data: bytes, engine: str = "plain", window: int = 1 << 16) -> tuple[list[dict[str, int]], AnnotatedReader]:
    """All rows of a capture, every field of them."""
    chosen = engine_named(engine)
    rows, found = None, []
    with AnnotatedReader(CaptureReader(source_of(data), "test", chosen, window), chosen) as reader:
        rows = reader.rows(16)
        while count := reader.read(rows, 0, 16):
            found += [{name: column(rows, at, name) for name in ALL} for at in range(count)]
            reader.discard(reader.position)
    for row in found:
        row["offset"] = 0  # where a frame stood depends on when the window moved
    return found, reader


def write(path: Path, rows: list[dict[str, int]], policy: str = POLICY, annotate: str = "all") -> bytes:
    engine = engine_named("plain")
    window = bytearray(FRAME)
    given = [{"caplen": len(FRAME), "length": len(FRAME), "linktype": 1, "packet_id": 1} | row for row in rows]
    path.unlink(missing_ok=True)
    with OutputFile(path) as output:
        devices = ["eth0", "eth1"]
        options: dict[str, Any] = {"annotate": annotate, "policy": policy, "rules": RULES, "devices": devices}
        writer = AnnotatedWriter(output, engine, comments=[], **options)
        writer.write(packets(engine, given), 0, len(given), engine.view(window), oops_bug=11)
        writer.close()
    return path.read_bytes()


def section(*blocks: bytes, order: str = LITTLE) -> bytes:
    return shb(order) + idb(order, name=b"eth0") + idb(order, name=b"eth0-drop") + b"".join(blocks)


def lost(*texts: bytes, order: str = LITTLE, iface: int = 1) -> bytes:
    return epb(FRAME, iface=iface, order=order, pairs=[(1, text) for text in texts])


COUNT = st.integers(0, 1 << 40)
FLAG = st.integers(0, 1)
TIME = st.integers(0, 1 << 61)
WRITTEN = st.fixed_dictionaries(
    {
        "verdict": st.integers(dr.DELIVERED, dr.NOT_PLAYED),
        "reason": st.integers(1, len(dr.REASONS) - 1),
        "cause": st.integers(0, len(dr.CAUSES) - 1),
        "point": st.integers(0, len(dr.POINTS) - 1),
        "rule": st.integers(0, len(RULES) - 1),
        "kind": st.integers(0, len(KINDS) - 1),
        "sk": st.sampled_from([-1, 0, 7]),
        "dev": st.integers(0, 1),
        "pkt_type": st.just(0),
        "file_time_ns": TIME,
        **dict.fromkeys(NUMBERS, FLAG),
        **dict.fromkeys(LEVELS, COUNT),
        "reserve_used_before": st.integers(-(1 << 63), (1 << 63) - 1),
        "culprit_id": st.integers(-(1 << 63), (1 << 63) - 1),
        "time_ns": TIME,
    }
)


@settings(max_examples=30)
@given(rows=st.lists(WRITTEN, min_size=1, max_size=5), policy=st.sampled_from([POLICY, "my own", "größer"]))
def test_what_the_writer_says_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, int]], policy: str
) -> None:
    for row in rows:
        row["decided_ns"] = row["time_ns"] + row["backlog_len"]
    data = write(tmp_path_factory.getbasetemp() / "written.pcapng", rows, policy)
    found, reader = read(data)
    for given_row, row in zip(rows, found, strict=True):
        assert {name: row[name] for name in SET} == {name: given_row[name] for name in SET}
        assert (row["sk"] >= 0) == (given_row["sk"] >= 0) and row["dev"] == given_row["dev"]
        assert (row["told"], row["said"], row["unknown"]) == (TOLD_ALL, (1 << len(KEYS)) - 1, 0)
        assert row["oops_bug"] == (11 if row["verdict"] == dr.OOPS else 0)
    assert reader.policies_met == ["_".join(policy.split())]
    assert read(data, "compiled")[0] == found


def test_every_key_is_read_as_it_is_written() -> None:
    for key, name in enumerate(KEYS):
        text = f"emu verdict=dropped reason=PFMEMALLOC time_ns=0 {name}=1".replace("time_ns=0 time_ns=1", "time_ns=1")
        (row,), _ = read(section(lost(text.encode())))
        assert number_of(packets(engine_named("plain"), [{n: row[n] for n in PACKET}])[0], key) == 1, name
        assert row["said"] >> key & 1 and not row["unknown"]


@pytest.mark.parametrize("engine", NAMES)
def test_the_longest_numbers(engine: str) -> None:
    """A packet id has 64 bits and no sign, a level a sign; a time and what was waited have a sum."""
    texts = [
        b"emu verdict=dropped culprit=9223372036854775808 cap=-9223372036854775808",
        b"emu verdict=dropped culprit=18446744073709551615 cap=9223372036854775807",
        b"emu verdict=dropped culprit=18446744073709551616 cap=9223372036854775808",
        b"emu verdict=dropped culprit=-1 cap=-9223372036854775809",
        b"emu verdict=dropped time_ns=4611686018427387903 waited_ns=4611686018427387903",
        b"emu verdict=dropped time_ns=4611686018427387904 waited_ns=4611686018427387904",
    ]
    found, _ = read(section(*map(lost, texts)), engine)
    assert [(row["culprit_id"], row["cap_skbs"], row["unknown"]) for row in found[:4]] == [
        (-(1 << 63), -(1 << 63), 0),
        (-1, (1 << 63) - 1, 0),
        (0, 0, 2),
        (0, 0, 2),
    ]
    assert (found[4]["decided_ns"], found[4]["unknown"]) == ((1 << 63) - 2, 0)
    assert found[5]["unknown"] == 2


def test_the_name_of_a_policy_cannot_command_a_terminal() -> None:
    _, reader = read(section(lost(b"emu verdict=dropped policy=\x1b]0;mine\x07\xff")))
    assert reader.policies_met == ["?]0;mine?\N{REPLACEMENT CHARACTER}"]


PACKET = tuple(field.name for field in fields_of(Packet))


def test_without_the_long_comments_each_frame_tells_what_it_can(tmp_path: Path) -> None:
    rows = [
        {"verdict": dr.DELIVERED, "pkt_type": 0},
        {"verdict": dr.DROPPED, "reason": dr.PFMEMALLOC},
        {"verdict": dr.NOT_PLAYED},
        {"verdict": dr.OOPS},
    ]
    found, reader = read(write(tmp_path / "x", rows, annotate="drops"))
    assert [row["told"] for row in found] == [TOLD_SURVIVED, TOLD_ALL, TOLD_LOST, TOLD_ALL]
    assert [row["verdict"] for row in found] == [dr.PENDING, dr.DROPPED, dr.NOT_PLAYED, dr.OOPS]
    assert reader.devices == ["eth0", "eth1"]


@pytest.mark.parametrize("engine", NAMES)
def test_the_short_comment_of_a_survivor_counts_where_survivors_stand(engine: str) -> None:
    data = shb() + idb(name=b"eth0") + idb(name=b"eth0-drop") + idb(name=b"wlan0")
    groups = (b"DELIVERED", b"IN FLIGHT", b"NOT RECEIVED", b"DELIVERED in the end")
    data += b"".join(lost(group, iface=iface) for iface in (0, 1, 2) for group in groups)
    found, reader = read(data, engine)
    named = [dr.DELIVERED, dr.IN_FLIGHT, dr.NOT_RECEIVED]
    assert [row["verdict"] for row in found] == named + [dr.PENDING] * 9
    assert [row["told"] for row in found] == [TOLD_SURVIVED] * 4 + [TOLD_LOST] * 4 + [TOLD_NOTHING] * 4
    assert (reader.count("survived_short"), reader.count("lost_untold"), reader.count("unknown")) == (3, 4, 0)


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("order", [LITTLE, BIG])
def test_byte_orders_and_blocks(order: str, engine: str) -> None:
    story = (
        b"emu verdict=dropped reason=RX_MISSED cause=NOMEM class=udp policy=phillips-v5 cap=50 time_ns=5 waited_ns=7"
    )
    data = section(
        lost(b"DROP RX_MISSED", story, order=order),
        spb(FRAME, order=order),
        old_pb(FRAME, iface=1, order=order),
        lost(b"DROP PFMEMALLOC", order=order),
        lost(order=order, iface=0),
        order=order,
    )
    found, reader = read(data, engine)
    assert [row["told"] for row in found] == [TOLD_ALL, TOLD_SURVIVED, TOLD_LOST, TOLD_LOST, TOLD_SURVIVED]
    first, _, old, short, _ = found
    assert (first["reason"], first["cause"], first["cap_skbs"], first["decided_ns"]) == (dr.RX_MISSED, dr.NOMEM, 50, 12)
    assert (short["verdict"], short["reason"]) == (dr.DROPPED, dr.PFMEMALLOC)
    assert old["verdict"] == dr.PENDING and reader.count("lost_untold") == 1


@pytest.mark.parametrize(
    ("texts", "verdict", "unknown"),
    [
        # The first of a kind counts, in whatever order the kinds come.
        ([b"emu verdict=oops", b"emu verdict=dropped reason=PFMEMALLOC"], "oops", 0),
        ([b"emu verdict=delivered cap=1", b"DROP PFMEMALLOC"], "delivered", 0),
        ([b"DELIVERED", b"emu verdict=delivered cap=1"], "delivered", 0),
        ([b"NOT RECEIVED", b"emu verdict=in_flight"], "in_flight", 0),
        ([b"my own words", b"DROP PFMEMALLOC", b"NOT PLAYED"], "dropped", 0),
        ([b"OOPS bug 11"], "oops", 0),
        ([b"NOT PLAYED"], "not_played", 0),
        # A person may begin a comment so, too.
        ([b"DROP me a line"], "pending", 0),
        ([b"DROP "], "pending", 0),
        ([b"NOT PLAYED yet"], "pending", 0),
        ([b"OOPS bug one"], "pending", 0),
        ([b"emu verdicts are fine"], "pending", 0),
        # What is not known is counted; the rest is read.
        ([b"emu verdict=flown reason=PFMEMALLOC"], "pending", 1),
        ([b"DROP PFMEMALLOC", b"emu verdict=flown"], "dropped", 1),
        ([b"emu verdict=pending"], "pending", 1),
        ([b"emu verdict=filtered"], "pending", 1),
        ([b"emu verdict=event"], "pending", 1),
        ([b"emu verdict=dropped rule=new_one mood=3 cap=x cap=-  =  cap"], "dropped", 6),
        ([b"emu verdict=dropped memalloc=2 waited_ns=-1 time_ns=9223372036854775807"], "dropped", 3),
        ([b"emu verdict=dropped cap=5 cap=6 verdict=oops"], "dropped", 2),
        ([b"emu verdict=dropped cap=" + b"9" * 400], "dropped", 1),
        ([b"emu verdict=dropped reason="], "dropped", 0),
    ],
)
@pytest.mark.parametrize("engine", NAMES)
def test_other_comments(texts: list[bytes], verdict: str, unknown: int, engine: str) -> None:
    (row,), _ = read(section(lost(*texts)), engine)
    assert (dr.VERDICTS[row["verdict"]], row["unknown"]) == (verdict, unknown)


WORD = st.sampled_from(
    [word.encode() for group in lexicon_words() for word in group] + [b"", b"9" * 25, b"-1", b"\xff"]
)
PAIR = st.tuples(WORD, WORD).map(b"=".join)
TEXT = (
    st.binary(max_size=60)
    | st.lists(PAIR | WORD, max_size=12).map(lambda parts: b"emu " + b" ".join(parts))
    | st.lists(PAIR, max_size=12).map(lambda parts: b"emu verdict=dropped " + b" ".join(parts))
    | WORD.map(b"DROP ".__add__)
    | WORD.map(b"OOPS bug ".__add__)
)
OPTION = st.tuples(st.sampled_from([1, 1, 1, 2, 5, 2988, 0]), TEXT)


@settings(max_examples=60)
@given(
    blocks=st.lists(st.tuples(st.integers(0, 2), st.lists(OPTION, max_size=4), st.binary(max_size=40)), max_size=5),
    order=st.sampled_from([LITTLE, BIG]),
    cut=st.integers(0, 400),
    noise=st.binary(max_size=30),
)
def test_any_comments_do_no_harm(
    blocks: list[tuple[int, list[tuple[int, bytes]], bytes]], order: str, cut: int, noise: bytes
) -> None:
    head = section(idb(order, name=b"lo"), order=order)
    body = b"".join(epb(data, iface=iface, order=order, pairs=pairs) for iface, pairs, data in blocks)
    for data in (head + body, head + body[: max(len(body) - cut, 0)], head + body[:cut] + noise + body[cut:]):
        found, reader = read(data, window=256)
        again, other = read(data, "compiled", window=256)
        assert found == again and reader.policies == other.policies
        assert [int(value) for value in (*reader._lexicon.told, reader._lexicon.unknown)] == [
            int(value) for value in (*other._lexicon.told, other._lexicon.unknown)
        ]
        for row in found:
            assert dr.PENDING <= row["verdict"] <= dr.NOT_PLAYED and row["told"] <= TOLD_ALL
            assert 0 <= row["memalloc"] <= 1 and row["reason"] < len(dr.REASONS)


def test_interfaces_without_the_lost_tell_nothing() -> None:
    (row,), reader = read(shb() + idb(name=b"wlan0") + epb(FRAME))
    assert row["told"] == TOLD_NOTHING and not reader.is_annotated


def test_a_device_whose_frames_are_of_two_link_types_is_one() -> None:
    data = shb() + b"".join(
        idb(name=name, linktype=link)
        for name, link in ((b"eth0", 1), (b"eth0-drop", 1), (b"eth0.sll", 113), (b"eth0.sll-drop", 113))
    )
    found, reader = read(data + epb(FRAME, iface=1) + epb(bytes(2) + FRAME, iface=3))
    assert reader.devices == ["eth0"] and [row["dev"] for row in found] == [0, 0]


def test_more_policies_than_are_learned_are_counted() -> None:
    texts = [f"emu verdict=dropped policy=mine-{number}".encode() for number in range(MAX_POLICIES)]
    found, reader = read(section(*(lost(text) for text in texts)))
    learned = MAX_POLICIES - len(POLICIES)
    assert reader.policies_met == [f"mine-{number}" for number in range(learned)]
    assert sum(row["unknown"] for row in found) == len(POLICIES)


def test_a_pcap_has_no_verdicts() -> None:
    engine = engine_named("plain")
    with pytest.raises(CaptureError, match="test: no frame of it has a verdict"):
        AnnotatedReader(CaptureReader(source_of(pcap_header()), "test", engine), engine)


def test_a_row_is_a_packet_and_more() -> None:
    assert (*(field.name for field in fields_of(Packet)), *EXTRA) == ALL
