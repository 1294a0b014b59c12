"""A flood's frames: right in every checksum and length, as drawn, the same in both engines and in any batches."""

import hashlib
from collections import Counter
from typing import Any

import pytest
from engine_pair import NAMES, engine_named
from flood_kit import (
    ANY_BYTE,
    COUNTED_ID,
    FLOW_PORT,
    RANDOM_SOURCE,
    SEQ,
    even_plan,
    frames_of,
    ipv4_template,
    ipv6_template,
    mixed_plan,
    plan_of,
    recomputed,
    text_of,
    variables,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.capture.merge import merged
from emu.engine.plain import PlainEngine
from emu.errors import UsageError
from emu.kernel.machine import DIR_INBOUND, Packet
from emu.traffic.crafted import START_NS
from emu.traffic.flood import emit
from emu.traffic.flood.plan import (
    GAPS_POISSON,
    VARY_COUNT,
    VARY_RANDOM,
    Change,
    Checksum,
    Plan,
    Rate,
    Sizes,
    Template,
    Train,
    Variable,
)
from emu.traffic.flood.reader import LAST_START_NS, FloodReader
from emu.wire.headers import LINKTYPE_ETHERNET

PLAIN = PlainEngine()
GOLDEN = "36837c6d3b8dadc0acc06989cb4496bb64cb52a17ece675a5a8baef3d2680d69"


def octets_of(plan: Plan, most: int = 1 << 62) -> list[bytes]:
    return [frame.octets for frame in frames_of(FloodReader(plan, PLAIN), PLAIN, most=most)]


def digest_of(reader: FloodReader, engine: Any, batch: int) -> str:
    digest = hashlib.sha256()
    for frame in frames_of(reader, engine, batch):
        digest.update(frame.time_ns.to_bytes(8) + len(frame.octets).to_bytes(2) + frame.octets)
    return digest.hexdigest()


EVERYTHING = Rate(over=5000, gaps=GAPS_POISSON, on_ns=10**7, off_ns=10**7, ramp_ns=10**8, ramp_over=50_000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_same_seed_gives_the_same_bytes(name: str, batch: int) -> None:
    """On any machine, in both engines, read in batches of any size: one hash for ever."""
    plan = mixed_plan(frames=1500, rate=EVERYTHING)
    assert digest_of(FloodReader(plan, engine_named(name)), engine_named(name), batch) == GOLDEN


def test_another_seed_gives_other_bytes() -> None:
    one, two = (octets_of(mixed_plan(frames=20, seed=seed)) for seed in (1, 2))
    assert one != two


def test_scapy_computes_the_same_checksums_and_lengths() -> None:
    """Over IPv4 and IPv6, UDP and TCP, odd sizes and even ones, padded ones, odd fields: as if Scapy had built each."""
    frames = octets_of(mixed_plan(frames=600))
    assert {len(octets) % 2 for octets in frames} == {0, 1}
    assert [octets for octets in frames if octets != recomputed(octets)] == []


TEMPLATES = st.lists(
    st.one_of(
        st.builds(
            lambda largest, least: ipv4_template("udp", largest, least), st.integers(80, 200), st.sampled_from([0, 42])
        ),
        st.builds(
            lambda largest, least: ipv4_template("tcp", largest, least), st.integers(80, 200), st.sampled_from([0, 55])
        ),
        st.builds(ipv6_template, st.integers(80, 200), st.sampled_from([0, 62])),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=40)
@given(
    templates=TEMPLATES,
    least=st.integers(62, 80),
    weights=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    flows=st.integers(1, 50),
    seed=st.integers(0, (1 << 62) - 1),
    batch=st.integers(1, 40),
    window=st.integers(1, 2000),
)
def test_any_plan_gives_valid_frames(
    templates: list[Template], least: int, weights: list[int], flows: int, seed: int, batch: int, window: int
) -> None:
    """Trains of several frames, any weights, flows, batches and windows: counted right and valid for Scapy."""
    trains = tuple(
        Train(tuple(templates[: at + 1]), weight)
        for at, (_, weight) in enumerate(zip(templates, weights, strict=False))
    )
    sizes = (Sizes(least, 80, 2), Sizes(70, 80)) if any(template.smallest for template in templates) else ()
    plan = Plan(trains, variables(), sizes, flows, frames=30, seed=seed)
    reader = FloodReader(plan, PLAIN, window_bytes=window)
    frames = [frame.octets for frame in frames_of(reader, PLAIN, batch)]
    assert 30 <= len(frames) < 30 + len(templates)
    assert reader.bytes_read == sum(map(len, frames))
    assert frames == octets_of(plan)
    assert [octets for octets in frames if octets != recomputed(octets)] == []


def test_a_cut_payload_is_the_beginning_of_the_whole_one() -> None:
    """A frame below 60 bytes ends with zeros, whatever was in the window before."""
    plan = plan_of(ipv4_template("udp", 200, 42), sizes=(Sizes(42, 200),), frames=400)
    for octets in octets_of(plan):
        payload = int.from_bytes(octets[38:40]) - 8
        assert octets[42 : 42 + payload] == text_of(payload)
        assert octets[42 + payload :] == bytes(max(60 - 42 - payload, 0))


def test_a_row_says_what_a_capture_would() -> None:
    reader = FloodReader(even_plan(Rate(over=1000)), PLAIN, device=3)
    rows = PLAIN.rows(Packet, 5)
    assert reader.read(rows, 1, 4) == 4
    row = rows[2]
    assert (row.frame, row.packet_id, row.own_id, row.iface) == (2, 2, 0, 0)
    assert (row.caplen, row.length, row.offset, row.fcs_bytes, row.fcs_caplen) == (64, 64, 64, 0, 0)
    assert (row.direction, row.linktype, row.file_time_ns) == (DIR_INBOUND, LINKTYPE_ETHERNET, START_NS + 1_000_000)
    assert (reader.interfaces[0].name, reader.interfaces[0].device, reader.interfaces[0].tsresol) == ("eth0", 3, 9)
    assert (reader.format, reader.size, reader.damage, reader.section_comments) == ("crafted", None, None, [])


# --- what is drawn


def test_sizes_are_as_asked() -> None:
    """IMIX 7:4:1, and a range that is even: within four deviations."""
    plan = plan_of(
        ipv4_template("udp", 1500, 42), frames=6000, sizes=(Sizes(64, 64, 7), Sizes(576, 576, 4), Sizes(1500, 1500))
    )
    counts = Counter(map(len, octets_of(plan)))
    assert sorted(counts) == [64, 576, 1500]
    assert (
        sum((counts[size] - 500 * weight) ** 2 / (500 * weight) for size, weight in ((64, 7), (576, 4), (1500, 1))) < 14
    )
    even = Counter(map(len, octets_of(plan_of(ipv4_template("udp", 163, 42), frames=6400, sizes=(Sizes(100, 163),)))))
    assert sorted(even) == list(range(100, 164))
    assert abs(sum((count - 100) ** 2 / 100 for count in even.values()) - 63) < 4 * 126**0.5


def test_trains_are_chosen_by_weight() -> None:
    short, long = ipv4_template("udp", 64), ipv4_template("udp", 100)
    plan = Plan((Train((short,), 3), Train((long,), 1)), variables(), frames=4000)
    counts = Counter(map(len, octets_of(plan)))
    assert abs(counts[64] - 3000) < 4 * (4000 * 3 / 16) ** 0.5 and counts.total() == 4000


def test_a_train_shares_its_values_and_is_completed() -> None:
    one, two = ipv4_template("udp", 64), ipv4_template("udp", 65)
    frames = octets_of(Plan((Train((one, two)),), variables(), flows=7, frames=99))
    assert len(frames) == 100
    for first, second in zip(frames[::2], frames[1::2], strict=True):
        assert (len(first), len(second)) == (64, 65)
        assert (first[18:20], first[26:30], first[36:38]) == (second[18:20], second[26:30], second[36:38])


def test_variables_count_flow_and_spread() -> None:
    """An id counts up and around; ports come in turn, each as often; sources are all over their network."""
    frames = octets_of(plan_of(ipv4_template("udp", 64), frames=1400))
    assert [int.from_bytes(octets[18:20]) for octets in frames] == [(65_000 + at) & 0xFFFF for at in range(1400)]
    assert [int.from_bytes(octets[36:38]) for octets in frames] == [9000 + at % 7 for at in range(1400)]
    sources = {octets[26:30] for octets in frames}
    assert len(sources) > 1390 and {octets[27] >> 6 for octets in frames} == {0, 1, 2, 3}


def test_sequence_numbers_follow_each_flows_payload() -> None:
    """Through 2**32, whatever the sizes; a byte more for each frame where the template says so."""
    template = ipv4_template("tcp", 300, 54)._replace(seq_bytes=1)
    plan = plan_of(template, sizes=(Sizes(54, 300),), frames=700)
    following: dict[int, int] = {}
    for octets in octets_of(plan):
        port, seq = int.from_bytes(octets[36:38]), int.from_bytes(octets[38:42])
        assert seq == following.get(port, 0xFFFFF000)
        following[port] = (seq + int.from_bytes(octets[16:18]) - 40 + 1) & 0xFFFFFFFF
    assert len(following) == 7 and min(following.values()) < 0xFFFFF000


# --- one's complement has two zeros


@pytest.mark.parametrize("zero_is_none", [False, True])
def test_a_sum_of_zero_is_sent_as_its_protocol_wants(zero_is_none: bool) -> None:
    """Of the values of a field one makes the checksum 0x0000: UDP sends 0xffff instead."""
    sent = set()
    first = 0xFFFF - 0x1235 - 30
    template = Template(
        bytes.fromhex("1234edca00010000"), 8, (Change(0, 6, 2, (0,)),), (Checksum(2, zero_is_none=zero_is_none),)
    )
    plan = Plan((Train((template,)),), (Variable(VARY_COUNT, first, 60),), frames=60)
    for at, octets in enumerate(octets_of(plan)):
        value = int.from_bytes(octets[2:4])
        expected = 0xFFFF - ((0x1235 + first + at) % 0xFFFF or 0xFFFF)
        assert value == (expected or (0xFFFF if zero_is_none else 0))
        sent.add(value)
    assert (0 in sent) != zero_is_none


def test_all_zeros_have_the_other_zeros_checksum() -> None:
    """Data without a bit set sums to 0, whose complement is 0xffff; with one set it is as ever."""
    template = Template(bytes.fromhex("0000ffff00000000"), 8, (Change(0, 6, 2, (0,)),), (Checksum(2),))
    frames = octets_of(Plan((Train((template,)),), (Variable(VARY_COUNT, 0, 3),), frames=3))
    assert [octets[2:4].hex() for octets in frames] == ["ffff", "fffe", "fffd"]


@given(st.binary(min_size=20, max_size=40), st.integers(4, 12), st.integers(1, 8), st.integers(0, (1 << 64) - 1))
def test_a_field_of_any_width_at_any_place_is_summed(head: bytes, offset: int, width: int, first: int) -> None:
    """Odd widths at odd offsets, and eight bytes with the highest bit set, against RFC 1071 word by word."""
    body = bytearray(b"\1\2\0\0" + head[:17])  # an odd end
    body[2:4] = checksum_of(body).to_bytes(2)
    template = Template(bytes(body), 20, (Change(0, offset, width, (0,)),), (Checksum(2),))
    plan = Plan((Train((template,)),), (Variable(VARY_COUNT, first, 7, 0x0123456789ABCDEF),), frames=5)
    for at, octets in enumerate(octets_of(plan)):
        assert octets[offset : offset + width] == ((first + at * 0x0123456789ABCDEF) % (1 << 8 * width)).to_bytes(width)
        bare = bytearray(octets[:21])
        bare[2:4] = b"\0\0"
        assert int.from_bytes(octets[2:4]) == checksum_of(bare)


def checksum_of(octets: bytes | bytearray) -> int:
    total = sum(octets[at] << 8 | (octets[at + 1] if at + 1 < len(octets) else 0) for at in range(0, len(octets), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


# --- the reader


def test_several_floods_merge_in_a_stable_order() -> None:
    """Equal times come in the order of the sources, each source in its own; and again the same."""
    rates = (Rate(over=1000), Rate(over=500), Rate(over=1000), Rate(over=3000, gaps=GAPS_POISSON))
    plans = [plan_of(ipv4_template("udp", 64 + at), frames=60, rate=rate, seed=at) for at, rate in enumerate(rates)]
    orders = []
    for batch in (1, 50):
        whole = merged([FloodReader(plan, PLAIN) for plan in plans], PLAIN)
        orders.append(frames_of(whole, PLAIN, batch))
    assert orders[0] == orders[1]
    alone = [
        (frame.time_ns, at, number, frame.octets)
        for at, plan in enumerate(plans)
        for number, frame in enumerate(frames_of(FloodReader(plan, PLAIN), PLAIN))
    ]
    assert [(time, octets) for time, _, _, octets in sorted(alone)] == [(f.time_ns, f.octets) for f in orders[0]]
    assert len({frame.time_ns for frame in orders[0]}) < len(orders[0])


def test_the_window_does_not_grow_where_frames_are_discarded() -> None:
    reader = FloodReader(even_plan(Rate(), frames=2000), PLAIN, window_bytes=4096)
    frames_of(reader, PLAIN, 1000)
    assert len(reader.octets) == 4096 and reader.ended and reader.frames == 2000


def test_what_is_kept_stays_where_it_is() -> None:
    """Without a discard the window grows, and all offsets stay true."""
    reader = FloodReader(even_plan(Rate(), frames=100), PLAIN, window_bytes=100)
    rows = PLAIN.rows(Packet, 100)
    count = 0
    while got := reader.read(rows, count, 9):
        count += got
    kept = [bytes(reader.octets[rows[at].offset : rows[at].offset + rows[at].caplen]) for at in range(count)]
    assert kept == octets_of(even_plan(Rate(), frames=100))


def test_a_flood_starts_when_it_is_told() -> None:
    reader = FloodReader(even_plan(Rate()), PLAIN, start_ns=77)
    assert [frame.time_ns for frame in frames_of(reader, PLAIN, most=2)] == [77, 100_077]
    for start_ns in (-1, LAST_START_NS + 1):
        with pytest.raises(UsageError, match="start at"):
            FloodReader(even_plan(Rate()), PLAIN, start_ns=start_ns)


def too_many() -> list[tuple[Plan, str]]:
    template = ipv4_template("udp", 64)
    tcp = ipv4_template("tcp", 64)
    sized = ipv4_template("udp", 200, 42)
    return [
        (plan_of(*[template] * (emit.MAX_TRAINS + 1)), "4097 trains; expected at most 4096"),
        (plan_of(template)._replace(variables=variables() * 20), "100 variables; expected at most 64"),
        (plan_of(template, seed=1 << 62), "seed; expected"),
        (plan_of(template, seed=-1), "-1 seed"),
        (plan_of(tcp, flows=emit.MAX_SEQ_FLOWS + 1), "65537 flows; expected at most 65536"),
        (plan_of(template)._replace(variables=(Variable(VARY_RANDOM, 0, 1 << 33),) * 5), "expected 1 to 4294967296"),
        (plan_of(sized, sizes=(Sizes(41, 41),)), "size 41: expected 42..200"),
        (plan_of(sized, sizes=(Sizes(64, 201),)), "size 64..201: expected 42..200"),
        (plan_of(sized, sizes=(Sizes(64, 64, 1 << 32),)), "weights of sizes"),
    ]


@pytest.mark.parametrize("case", range(9))
def test_a_plan_beyond_the_maxima_is_refused_in_one_line(case: int) -> None:
    plan, message = too_many()[case]
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        FloodReader(plan, PLAIN)
    assert message in str(caught.value)


def test_the_kit_varies_what_it_says() -> None:
    """The numbers that templates name are the variables' places."""
    assert [variables()[at].vary for at in (COUNTED_ID, RANDOM_SOURCE, FLOW_PORT, SEQ, ANY_BYTE)] == [0, 1, 2, 3, 1]
