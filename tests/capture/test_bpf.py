"""The filter interpreter against libpcap's own, against tcpdump, and compiled against plain."""

import ctypes
import struct
from pathlib import Path
from typing import Any

import pytest
from engine_pair import NAMES, engine_named
from external_tools import run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emu.capture import bpf
from emu.capture.bpf import Filter, Program, bpf_run, compile_filter
from emu.capture.linktype import linktype_index
from emu.engine.plain import PlainEngine
from emu.errors import UsageError

PCAPS = sorted((Path(__file__).parents[2] / "pcaps").glob("*.pcap"))

EXPRESSIONS = (
    "",
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp port 53",
    "tcp port 3260",
    "not tcp port 3260",
    "src port 3260 and dst portrange 1024-65535",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] == 18",
    "host 10.0.0.1 or net 192.168.0.0/16",
    "ether host 02:00:00:00:00:01",
    "ether broadcast or ether multicast",
    "len > 100 and len < 1000",
    "greater 512",
    "less 60",
    "ip[6:2] & 0x1fff != 0",
    "ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) > 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x43000000",
    "ip[8] * 3 + 7 > 200 or ip[9] / 2 = 3",
    "ip[4:2] % 7 = 3 and ip[5] ^ 0x55 > 0x20",
    "ip[8] << ip[1] > 10 or ip[9] >> 1 = 3",
    "ip[3] / ip[1] = 2",
    "(-ip[8]) > 0xffffff00",
    "vlan",
    "vlan 7 and tcp",
    "vlan and vlan and ip",
    "ip protochain 6",
    "ip6 protochain 17",
    "icmp[icmptype] = icmp-echo or icmp6",
    "ip6[40] = 128 or udp[6:2] = 0",
    "ether[0:4] + ether[6:4] < 0x80000000 and len - 14 > ip[2:2]",
)


class Header(ctypes.Structure):
    """Struct pcap_pkthdr."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("micros", ctypes.c_long),
        ("caplen", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


def libpcap_says(program: Program, frame: bytes, length: int) -> int:
    """What libpcap's interpreter makes of the same program."""
    pcap = bpf._libpcap()
    insns = (bpf._Insn * len(program.instructions))(*(bpf._Insn(*step) for step in program.instructions))
    compiled = bpf._Program(len(insns), insns)
    header = Header(0, 0, len(frame), length)
    pcap.pcap_offline_filter.restype = ctypes.c_int
    said = pcap.pcap_offline_filter(ctypes.byref(compiled), ctypes.byref(header), frame)
    return int(said) & bpf.MASK


def emu_says(name: str, program: Program, frame: bytes, length: int) -> int:
    # Bytes around the frame that must never be looked at: they would match what zeros do not.
    margin = b"\xff\x08\x00\x45" * 4
    octets = bytearray(margin + frame + margin)
    run_filter, loaded = engine_named(name).function(bpf_run), loaded_program(name, program)
    return run_filter(loaded, 0, engine_named(name).view(octets), len(margin), len(frame), length)


LOADED: dict[tuple[str, Program], Any] = {}


def loaded_program(name: str, program: Program) -> Any:
    if (name, program) not in LOADED:
        LOADED[name, program] = program.load(engine_named(name))
    return LOADED[name, program]


PROGRAMS = [compile_filter(expression) for expression in EXPRESSIONS]


def records(pcap: Path) -> list[tuple[bytes, int]]:
    """(frame, length) of a little-endian classic pcap."""
    octets, at, found = pcap.read_bytes(), 24, []
    while at < len(octets):
        caplen, length = struct.unpack_from("<II", octets, at + 8)
        found.append((octets[at + 16 : at + 16 + caplen], length))
        at += 16 + caplen
    return found


def ethernet(tags: list[int], ethertype: int, body: bytes) -> bytes:
    vlan = b"".join(struct.pack(">HH", 0x8100, tag) for tag in tags)
    return bytes.fromhex("020000000001020000000002") + vlan + struct.pack(">H", ethertype) + body


@st.composite
def ip_frames(draw: st.DrawFn) -> bytes:
    """Something with an IPv4 or IPv6 header that filters get past the first test of."""
    transport = draw(st.binary(max_size=60))
    protocol = draw(st.sampled_from([1, 6, 17, 51, 58, draw(st.integers(0, 255))]))
    tags = draw(st.lists(st.integers(0, 0xFFFF), max_size=2))
    if draw(st.booleans()):
        words = draw(st.integers(5, 15))
        fragment = draw(st.sampled_from([0, 0, 0x2000, 5]))
        head = struct.pack(">BBHHHBBH", 0x40 | words, draw(st.integers(0, 3)), 60, 7, fragment, 64, protocol, 0)
        head += bytes([10, 0, 0, 1, 192, 168, 0, 2]) + bytes(4 * (words - 5))
        return ethernet(tags, 0x0800, head + transport)
    head = struct.pack(">IHBB", 6 << 28, len(transport), protocol, 64) + bytes(32)
    return ethernet(tags, 0x86DD, head + transport)


FRAMES = st.one_of(st.binary(max_size=120), ip_frames(), ip_frames())


@pytest.mark.parametrize("name", ["plain", "compiled"])
@given(program=st.sampled_from(PROGRAMS), frame=FRAMES, cut=st.integers(0, 130), data=st.data())
@settings(max_examples=400, deadline=None)
def test_interpreter_agrees_with_libpcap_on_any_frame(
    name: str, program: Program, frame: bytes, cut: int, data: st.DataObject
) -> None:
    kept = frame[:cut]
    length = data.draw(st.sampled_from([len(kept), len(frame), 1514]))
    assert emu_says(name, program, kept, length) == libpcap_says(program, kept, length)


OPERATIONS = st.sampled_from(range(0x00, 0xB0, 0x10))
WORDS = st.one_of(st.integers(0, 40), st.integers(0, 0xFFFF_FFFF), st.sampled_from([0x8000_0000, 0xFFFF_FFFF]))


@given(operation=OPERATIONS, left=WORDS, right=WORDS, by_index=st.booleans(), memory=st.integers(0, 15))
@settings(max_examples=300, deadline=None)
@example(operation=bpf.OP_MUL, left=0xFFFF_FFFF, right=0xFFFF_FFFF, by_index=True, memory=0)
@example(operation=bpf.OP_DIV, left=7, right=0, by_index=True, memory=0)
@example(operation=bpf.OP_LSH, left=0x8000_0001, right=31, by_index=False, memory=15)
@pytest.mark.parametrize("name", ["plain", "compiled"])
def test_arithmetic_agrees_with_libpcap(
    name: str, operation: int, left: int, right: int, by_index: bool, memory: int
) -> None:
    by_index = by_index and operation != bpf.OP_NEG  # libpcap knows no other form and aborts
    if not by_index:
        # What libpcap's compiler never makes: a constant shift by more than 31, undefined in its interpreter.
        right = right & 31 if operation in (bpf.OP_LSH, bpf.OP_RSH) else right or 1
    steps = (
        (bpf.LDX | bpf.MODE_IMM, 0, 0, right),
        (bpf.STX, 0, 0, memory),
        (bpf.LD | bpf.MODE_IMM, 0, 0, left),
        (bpf.LDX | bpf.MODE_MEM, 0, 0, memory),
        (bpf.ALU | operation | (bpf.FROM_INDEX if by_index else 0), 0, 0, right),
        (bpf.ST, 0, 0, memory),
        (bpf.MISC, 0, 0, 0),
        (bpf.MISC | bpf.TXA, 0, 0, 0),
        (bpf.LD | bpf.MODE_MEM, 0, 0, memory),
        (bpf.JMP | bpf.JUMP_GE | bpf.FROM_INDEX, 0, 1, 0),
        (bpf.RET | bpf.RETURN_ACCUMULATOR, 0, 0, 0),
        (bpf.RET, 0, 0, 0),
    )
    program = Program("arithmetic", steps)
    run_filter = engine_named(name).function(bpf_run)
    octets = engine_named(name).view(bytearray(8))
    assert run_filter(program.load(engine_named(name)), 0, octets, 0, 8, 8) == libpcap_says(program, bytes(8), 8)


@pytest.mark.parametrize("pcap", PCAPS, ids=lambda pcap: pcap.name)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_as_many_frames_as_tcpdump_prints(expression: str, pcap: Path) -> None:
    printed = run("tcpdump", "-nn", "-t", "-q", "-r", pcap, *([expression] if expression else []))
    program, frames = compile_filter(expression), records(pcap)
    loaded, octets = program.load(PlainEngine()), pcap.read_bytes()
    accepted, at = 0, 24
    for frame, length in frames:
        accepted += bpf_run(loaded, 0, octets, at + 16, len(frame), length) != 0
        at += 16 + len(frame)
    assert accepted == sum(not line.startswith(("\t", " ")) for line in printed.splitlines())


HEADERS = {
    1: bytes(12) + b"\x08\x00",
    0: (2).to_bytes(4, "little"),
    108: (2).to_bytes(4, "big"),
    101: b"",
    12: b"",
    14: b"",
    228: b"",
    113: bytes(14) + b"\x08\x00",
    276: b"\x08\x00" + bytes(18),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_has_a_program_for_every_link_type_that_is_met(name: str) -> None:
    engine, packet = engine_named(name), bytes.fromhex("4500001c 00010000 40110000 0a000001 0a000002 00350035 00080000")
    for expression, expected in (("udp port 53", True), ("tcp", False), ("host 10.0.0.2", True)):
        chosen = Filter(expression)
        assert chosen.meet([1, 113, 9999])
        assert chosen.meet(HEADERS)
        assert not chosen.meet(HEADERS)
        program = chosen.load(engine)
        for linktype, header in HEADERS.items():
            frame = header + packet
            start = chosen.starts[linktype_index(linktype)]
            found = engine.function(bpf_run)(program, start, engine.view(bytearray(frame)), 0, len(frame), len(frame))
            assert (found != 0) == expected, (expression, linktype)


def test_a_filter_that_a_link_type_cannot_have_names_it() -> None:
    with pytest.raises(UsageError, match=r"^--filter 'ether host 1:2:3:4:5:6': .* \(for frames of LINKTYPE_RAW\)$"):
        Filter("ether host 1:2:3:4:5:6").meet([101])


@pytest.mark.parametrize("pcap", PCAPS, ids=lambda pcap: pcap.name)
def test_compiled_and_libpcap_agree_on_every_frame_of_our_captures(pcap: Path) -> None:
    compiled = engine_named("compiled")
    run_filter, octets, at = compiled.function(bpf_run), compiled.view(bytearray(pcap.read_bytes())), 24
    for number, (frame, length) in enumerate(records(pcap)):
        program = PROGRAMS[number % len(PROGRAMS)]
        loaded = loaded_program("compiled", program)
        assert run_filter(loaded, 0, octets, at + 16, len(frame), length) == libpcap_says(program, frame, length)
        at += 16 + len(frame)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("tcp port", "syntax error"),
        ("nonsense!", "syntax error"),
        ("host 999.1.2.3", "999"),
        ("port 70000", "70000"),
        ("ip broadcast", "netmask"),
        ("tcp\0 or udp", "NUL"),
        ("gateway somewhere", "gateway"),
    ],
)
def test_bad_expression_is_told_in_one_line_with_libpcaps_words(expression: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        compile_filter(expression)
    message = str(raised.value)
    assert message.startswith(f"--filter {expression!r}: ")
    assert words in message
    assert "\n" not in message


def test_missing_libpcap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "_load_first", lambda names: None)
    with pytest.raises(UsageError, match=r"^--filter needs libpcap \(Debian: apt install libpcap0\.8\)$"):
        compile_filter("tcp")


def test_library_that_does_not_load_counts_as_missing() -> None:
    assert bpf._load_first((None, "libpcap-that-nobody-has.so")) is None


def test_accepted_is_the_snap_length() -> None:
    program = compile_filter("", snaplen=96)
    assert program.instructions == ((bpf.RET, 0, 0, 96),)


def test_vlan_filters_look_at_the_frame_alone() -> None:
    # Linux's ancillary data, where a live capture finds the tag, are loads from SKF_AD_OFF, -0x1000, on.
    program = compile_filter("vlan 7 and tcp")
    loads = [k for code, _, _, k in program.instructions if code & 0x07 == bpf.LD]
    assert max(loads) < 1514
