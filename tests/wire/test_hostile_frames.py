"""Random, mutated and cut frames: dissection never fails, reads nothing outside, keeps its columns in range."""

import random

import pytest
from corpus import frames_of
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_kit import columns, read

from emu.kernel.machine import Packet
from emu.kernel.record import fields_of
from emu.wire.headers import (
    CHECKSUMS_AUTO,
    CHECKSUMS_TRUST,
    CHECKSUMS_VERIFY,
    CSUM_UNKNOWN,
    DISSECTED_LINKTYPES,
    KIND_IP_FRAGMENT,
    KIND_IP_OTHER,
    KIND_OTHER,
    KINDS,
    NO_ERROR,
    TOO_SHORT,
    Headers,
)
from emu.wire.vlan import TPIDS

LINKTYPES = st.sampled_from(DISSECTED_LINKTYPES)
HOW = st.sampled_from([CHECKSUMS_AUTO, CHECKSUMS_TRUST, CHECKSUMS_VERIFY])
CORPUS = {linktype: list(frames_of(linktype).values()) for linktype in DISSECTED_LINKTYPES}
WRITTEN = set(Headers.__annotations__) - {"offset", "caplen", "length", "linktype"}


def sane(octets: bytes, linktype: int, caplen: int, how: int) -> None:
    """The row is whole and every column is in its range."""
    row = columns(read(octets, linktype=linktype, caplen=caplen, length=len(octets), how=how))
    assert set(row) == WRITTEN
    assert 0 <= row["kind"] < len(KINDS) and NO_ERROR <= row["header_error"] <= TOO_SHORT
    assert 0 <= row["vlan_tags"] <= 8 and row["ethertype"] in range(1 << 16) and row["ip_protocol"] in range(256)
    assert all(-(1 << 63) <= row[name] < 1 << 63 for name in row)
    assert 0 <= row["payload_length"] <= max(row["l4_length"], 0) <= len(octets)
    assert row["frag_offset"] % 8 == 0 and 0 <= row["frag_length"] <= len(octets)
    assert -1 <= row["frag_sum"] < 65535


@given(octets=st.binary(max_size=200), cut=st.integers(0, 200), linktype=LINKTYPES, how=HOW)
@settings(max_examples=400)
def test_random_bytes_are_read_within_bounds(octets: bytes, cut: int, linktype: int, how: int) -> None:
    """Noise as a frame of every link type."""
    sane(octets, linktype, min(cut, len(octets)), how)


@given(seed=st.integers(0, 1 << 32), linktype=LINKTYPES, how=HOW)
@settings(max_examples=1500)
def test_mutated_frames_are_read_within_bounds(seed: int, linktype: int, how: int) -> None:
    """Real headers with bytes overwritten, the frame or its capture cut anywhere."""
    dice = random.Random(seed)
    octets = bytearray(dice.choice(CORPUS[linktype]))
    head = min(len(octets), 160)
    for _ in range(dice.randrange(5)):
        octets[dice.randrange(head)] = dice.choice((0, 1, 0xFF, 43, 44, 60, 0x81, dice.randrange(256)))
    whole = bytes(octets[: dice.choice((len(octets), dice.randrange(head + 1)))])
    sane(whole, linktype, dice.choice((len(whole), dice.randrange(len(whole) + 1))), how)


@pytest.mark.parametrize("linktype", [1, 0, 101, 276])
def test_a_capture_cut_at_any_byte_says_nothing_that_the_whole_frame_denies(linktype: int) -> None:
    """Every field is the whole frame's or unknown, and a cut is no malformation."""
    names = [name for name in WRITTEN if name.startswith(("saddr", "daddr", "vlan_", "tcp_"))]
    names += ["ip_protocol", "sport", "dport", "frag_id", "frag_offset", "frag_more", "frag_length"]
    for octets in CORPUS[linktype]:
        full = columns(read(octets, linktype=linktype))
        for caplen in range(min(len(octets) - 1, 170)):
            cut = columns(read(octets, linktype=linktype, caplen=caplen, length=len(octets)))
            assert cut["header_error"] == NO_ERROR
            # In the middle of tags, and behind an Ethernet header or none, the type seen so far is what is known.
            assert cut["ethertype"] in (0, full["ethertype"], *TPIDS)
            assert cut["kind"] in (full["kind"], KIND_OTHER, KIND_IP_OTHER)
            assert cut["l4_csum"] in (full["l4_csum"], CSUM_UNKNOWN, 0)
            assert cut["icmp_type"] in (-1, full["icmp_type"]) and cut["quoted_port"] in (-1, full["quoted_port"])
            for name in names:
                known = range(full[name] + 1) if name == "vlan_tags" else (0, full[name])
                assert cut[name] in known, (name, caplen)
            if cut["kind"] == KIND_IP_FRAGMENT:
                assert cut["frag_sum"] in (-1, full["frag_sum"])


def test_every_column_of_the_protocol_is_a_field_of_the_row() -> None:
    """What dissection writes exists in the row, and nothing else is touched."""
    assert {field.name for field in fields_of(Packet)} > WRITTEN
