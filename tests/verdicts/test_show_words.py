"""The words of `emu show`: conditions and flows mean what a slow reading by hand says; every reason has its need."""

import ipaddress
from typing import Any

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.errors import UsageError
from emu.kernel.machine import ZONES
from emu.kernel.policy import RULES
from emu.verdicts.chunks import polars_schema
from emu.verdicts.expect import OPERATORS
from emu.verdicts.fates import LOST_NAMES
from emu.verdicts.flows import flow_expression
from emu.verdicts.names import CAUSE_NAMES, CLASS_NAMES, REASON_NAMES, VERDICT_NAMES, name_of, rules_of
from emu.verdicts.schema import COLUMNS
from emu.verdicts.show.display_filters import flow_filter
from emu.verdicts.show.where import MAX_DEPTH, where_expression

ROW = {column.name: "" if column.type in ("text", "enum") else 0 for column in COLUMNS}
ROW |= {"class": "udp", "verdict": "dropped", "zone": ZONES[0]}


def table_of(*rows: dict[str, Any]) -> polars.DataFrame:
    return polars.DataFrame([ROW | row for row in rows], schema=polars_schema())


ROWS = table_of(
    {"frame": 1, "free_pages": 90, "floor_pages": 100, "class": "tcp", "flow": "tcp 10.0.0.1:80 > 10.0.0.2:9"},
    {"frame": 2, "free_pages": 100, "floor_pages": 100, "reason": "PFMEMALLOC", "flow": "udp 10.0.0.1:80 > 10.0.0.2:9"},
    {
        "frame": 3,
        "free_pages": 120,
        "floor_pages": 100,
        "reason": "NOMEM",
        "class": "ip-fragment",
        "verdict": "delivered",
    },
    {"frame": 4, "free_pages": 5, "floor_pages": 0, "cap_skbs": 50, "device": "eth0.5", "packet_id": (1 << 64) - 1},
)
NUMBERS = ("frame", "free_pages", "floor_pages", "cap_skbs")
# A condition with its meaning: a text and a function of a row.
SUMS = st.recursive(
    st.sampled_from(NUMBERS).map(lambda name: (name, lambda row: row[name]))
    | st.integers(-5, 130).map(lambda number: (str(number), lambda _row: number)),
    lambda inner: st.tuples(inner, st.sampled_from("+-"), inner.filter(lambda one: " " not in one[0])).map(
        lambda made: (
            f"{made[0][0]} {made[1]} {made[2][0]}",
            lambda row: made[0][1](row) + made[2][1](row) if made[1] == "+" else made[0][1](row) - made[2][1](row),
        )
    ),
    max_leaves=4,
)
WORDS = st.tuples(
    st.sampled_from(["class", "reason", "verdict"]), st.sampled_from(["==", "!="]), st.sampled_from(["udp", "TCP"])
).filter(lambda made: made[0] == "class")
COMPARISONS = st.tuples(SUMS, st.sampled_from(sorted(OPERATORS)), SUMS).map(
    lambda made: (
        f"{made[0][0]} {made[1]} {made[2][0]}",
        lambda row: OPERATORS[made[1]](made[0][1](row), made[2][1](row)),
    )
) | WORDS.map(
    lambda made: (f"{made[0]}{made[1]}{made[2]}", lambda row: OPERATORS[made[1]](row[made[0]], made[2].lower()))
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda made: (
                f"({made[0][0]}) {made[1]} ({made[2][0]})",
                lambda row: (
                    made[0][1](row) and made[2][1](row) if made[1] == "and" else made[0][1](row) or made[2][1](row)
                ),
            )
        )
        | inner.map(lambda made: (f"not ({made[0]})", lambda row: not made[1](row)))
    ),
    max_leaves=5,
)


def frames(condition: str) -> list[int]:
    return ROWS.filter(where_expression(condition))["frame"].to_list()


@given(CONDITIONS)
def test_condition_means_what_it_says(condition: tuple[str, Any]) -> None:
    text, holds = condition
    assert frames(text) == [row["frame"] for row in ROWS.to_dicts() if holds(row)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("free_pages < floor_pages - 5 or free_pages > floor_pages + 15", [1, 3]),
        ("frame == 1 or frame == 2 and class == udp", [1, 2]),  # `and` binds more closely
        ("not frame == 1 and frame < 4", [2, 3]),  # `not` yet more
        ("reason == pfmemalloc", [2]),
        ("reason == SKB_DROP_REASON_NOMEM", [3]),
        ("reason == ''", [1, 4]),
        ("udp == class", [2, 4]),
        ("class != ip_fragment", [1, 2, 4]),
        ("flow contains '10.0.0.1:80'", [1, 2]),
        ("flow contains '.*'", []),
        ('device == "eth0.5"', [4]),
        ("packet_id == 18446744073709551615", None),  # beyond 63 bits
        ("packet_id == 0", [1, 2, 3]),
        ("free_pages-5 == 0", [4]),
        ("frame > -1 and frame >= 1 - -2", [3, 4]),
    ],
)
def test_condition_by_hand(text: str, expected: list[int] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="expected a column, an integer"):
            frames(text)
    else:
        assert frames(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at character 1: expected a column"),
        ("free_page > 3", "no column 'free_page'; did you mean free_pages"),
        ("frame", "at character 6: expected one of =="),
        ("frame = 1", "at character 7: '=' means nothing here"),
        ("frame == 1 frame == 2", "at character 12: 'frame' is too much"),
        ("(frame == 1", "at character 12: expected )"),
        ("frame == 'x'", "at character 7: a number and a text"),
        ("flow < 'x'", "at character 6: texts can be compared with"),
        ("class == sctp", "class 'sctp': did you mean"),
        ("frame contains 1", "contains is for texts"),
        ("flow + 1 == 'x'", "only numbers can be added"),
        ("frame == __import__('os')", "no column '__import__'"),
        ("(" * (MAX_DEPTH + 1) + "frame", "more than"),
        ("not " * 5000 + "frame == 1", "more than"),
        ("frame == 1 and", "expected a column"),
    ],
)
def test_condition_that_means_nothing(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        where_expression(text)
    assert said in str(refused.value) and str(refused.value).startswith("--where") and "\n" not in str(refused.value)


@given(st.text("frame()<>=!'\"+- andortclwus15", max_size=40))
def test_condition_never_fails_otherwise(text: str) -> None:
    try:
        expression = where_expression(text)
    except UsageError:
        return
    ROWS.filter(expression)


ENDS = ("10.0.0.1", "10.0.0.11", "2001:db8::1", "::1")
PORTS = (80, 8080, 1)


def end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def flows_of(version: int) -> list[tuple[str, str, int, str, int]]:
    hosts = [host for host in ENDS if ipaddress.ip_address(host).version == version]
    return [(f"tcp {end(a, p)} > {end(b, q)}", a, p, b, q) for a in hosts for b in hosts for p in PORTS for q in PORTS]


FLOWS = flows_of(4) + flows_of(6)
FLOW_TABLE = polars.DataFrame(
    {"flow": [flow[0] for flow in FLOWS] + ["", "arp 10.0.0.1 > 10.0.0.2", "icmpv6 ::1 > ::80"]}
)


def matching(text: str) -> set[str]:
    return set(FLOW_TABLE.filter(flow_expression(text))["flow"])


@given(st.sampled_from(ENDS), st.sampled_from(PORTS))
def test_flow_of_one_end(address: str, port: int) -> None:
    both = {text for text, a, p, b, q in FLOWS if (address, port) in ((a, p), (b, q))}
    assert matching(end(address, port)) == both
    assert matching(str(port)) == matching(f":{port}") == {text for text, _, p, _, q in FLOWS if port in (p, q)}
    of_address = {text for text, a, _, b, _ in FLOWS if address in (a, b)}
    of_address |= {text for text in FLOW_TABLE["flow"][-2:] if address in text.split()}
    assert matching(address) == of_address


@given(st.sampled_from(FLOWS))
def test_flow_of_two_ends_both_ways(flow: tuple[str, str, int, str, int]) -> None:
    text, a, p, b, q = flow
    back = f"tcp {end(b, q)} > {end(a, p)}"
    assert matching(f"{end(a, p)} > {end(b, q)}") == matching(f"{end(b, q)}>{end(a, p)}") == {text, back}
    assert matching(text) == {text}  # as the log writes it: this way only


def test_ipv6_in_any_writing() -> None:
    assert matching("[2001:0db8:0:0::1]:80") == matching("[2001:db8::1]:80") != set()


@pytest.mark.parametrize(
    "text", ["", "x", "10.0.0", "10.0.0.1:99999", "a > b > c", "[::1", "[]:80", ":", "10.0.0.1:x", ">"]
)
def test_flow_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="--flow"):
        flow_expression(text)


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (
            "tcp 10.0.0.1:80 > 10.0.0.2:9",
            "ip.addr == 10.0.0.1 && ip.addr == 10.0.0.2 && tcp.port == 80 && tcp.port == 9",
        ),
        ("udp [::1]:80 > [::2]:9", "ipv6.addr == ::1 && ipv6.addr == ::2 && udp.port == 80 && udp.port == 9"),
        ("icmpv6 ::1 > ::2", "ipv6.addr == ::1 && ipv6.addr == ::2 && icmpv6"),
        ("ip-proto-47 10.0.0.1 > 10.0.0.2", "ip.addr == 10.0.0.1 && ip.addr == 10.0.0.2"),
        ("arp 10.0.0.1 > 10.0.0.2", None),
        ("ethertype 0x88cc", ""),
        ("", ""),
    ],
)
def test_wireshark_filter_of_a_flow(flow: str, expected: str | None) -> None:
    if expected is None:
        ends = "{10.0.0.1, 10.0.0.2}"
        expected = f"arp.src.proto_ipv4 in {ends} && arp.dst.proto_ipv4 in {ends}"
    assert flow_filter(flow) == expected


def test_names_are_found_in_any_form() -> None:
    for known in (REASON_NAMES, CAUSE_NAMES, CLASS_NAMES, VERDICT_NAMES):
        for name in known:
            for form in (name, name.lower(), name.upper(), name.replace("_", "-"), name.replace("-", "_")):
                assert name_of("--x", form, known) == name
    assert set(LOST_NAMES) <= set(VERDICT_NAMES)
    for rule in RULES[1:]:
        assert rules_of("--x", [rule]) == rules_of("--x", [rule.split(":")[0]]) == (rule,)
    with pytest.raises(UsageError, match="did you mean PFMEMALLOC"):
        name_of("--reason", "pf_memaloc", REASON_NAMES)
