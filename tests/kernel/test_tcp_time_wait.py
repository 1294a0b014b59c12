"""The end of a connection: TIME_WAIT for the end that closes first, and what the patch's check does there."""

from typing import Any

import pytest
from machines import ACK, FIN, PEER, RST, SYN, Nic, Play, Setup, booted, paced, play, plenty, sent, tcp

from emu.kernel.bugs import BUG_TIME_WAIT
from emu.kernel.drop_reason import DELIVERED, POINTS
from emu.kernel.sock import SS_CLOSED, SS_ESTABLISHED, SS_TIME_WAIT
from emu.kernel.tcp_minisocks import TCP_TIMEWAIT_LEN_NS

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000

DATA = tcp(payload=10, tcp_seq=0)
HOST_FIN = sent(tcp(payload=0, flags=FIN | ACK)) | {"tcp_seq": 500, "tcp_ack": 10}
PEER_FIN = tcp(payload=0, flags=FIN | ACK, tcp_seq=10, tcp_ack=501)
LAST_ACK = tcp(payload=0, tcp_seq=11, tcp_ack=501)


def quiet(policy: str = "phillips-v5", **config: int) -> Setup:
    """A host with memory."""
    return Setup(policy, config=plenty(**config), nics=(Nic(ring=64, background=0),))


def ended(*frames: Any, setup: Setup | None = None) -> Play:
    """The frames, a millisecond apart."""
    return play(setup or quiet(), paced(frames, MILLISECOND_NS), until_ns=SECOND_NS)


def test_who_closes_first_stays_in_time_wait() -> None:
    """The host's FIN before the peer's: TIME_WAIT.  After it: closed, once the host's FIN is acknowledged."""
    assert ended(DATA, HOST_FIN, PEER_FIN).m.sk[0].state == SS_TIME_WAIT
    assert ended(DATA, PEER_FIN, HOST_FIN).m.sk[0].state == SS_ESTABLISHED
    assert ended(DATA, PEER_FIN, HOST_FIN, LAST_ACK).m.sk[0].state == SS_CLOSED


def test_time_wait_answers_what_is_old_and_ends_after_a_minute() -> None:
    """A retransmitted FIN is acknowledged and begins the minute anew; then nobody is there."""
    played = ended(DATA, HOST_FIN, PEER_FIN, PEER_FIN, DATA)
    assert played.column("verdict").count(DELIVERED) == 4
    assert [POINTS[point] for point in played.column("point")[3:]] == ["tcp_timewait_state_process"] * 2
    late = [*paced((DATA, HOST_FIN, PEER_FIN), MILLISECOND_NS), PEER_FIN | {"time_ns": TCP_TIMEWAIT_LEN_NS + SECOND_NS}]
    assert play(quiet(), late, until_ns=2 * TCP_TIMEWAIT_LEN_NS).reasons() == ["", "", "", "NO_SOCKET"]


def test_a_reset_kills_time_wait() -> None:
    """In sequence; what comes then finds nobody."""
    reset = tcp(payload=0, flags=RST, tcp_seq=11)
    assert ended(DATA, HOST_FIN, PEER_FIN, reset, PEER_FIN).reasons() == [""] * 4 + ["NO_SOCKET"]


@pytest.mark.parametrize(("seq", "point"), [(5000, "tcp_v4_rcv"), (5, "tcp_timewait_state_process")])
def test_a_syn_beyond_what_was_received_opens_the_connection_again(seq: int, point: str) -> None:
    """A SYN with a higher number goes on to the listener; an old one is answered with an ACK."""
    syn = tcp(payload=0, flags=SYN, tcp_seq=seq)
    played = ended(DATA, HOST_FIN, PEER_FIN, syn)
    assert (played.reasons(), POINTS[played.rows[3].point]) == ([""] * 4, point)
    further = ended(DATA, HOST_FIN, PEER_FIN, tcp(payload=0, flags=SYN, tcp_seq=5000), tcp(payload=10, tcp_seq=5001))
    assert POINTS[further.rows[4].point] == "tcp_data_queue"


def tight(as_posted: int) -> Play:
    """A device in reserve, then a segment for a connection in TIME_WAIT."""
    setup = quiet(as_posted=as_posted)
    m = booted(setup)
    play(setup, paced((DATA, HOST_FIN, PEER_FIN), MILLISECOND_NS), until_ns=10 * MILLISECOND_NS, machine=m)
    m.dev[0].rx_reserve_used = 3
    return play(setup, [PEER_FIN | {"time_ns": 20 * MILLISECOND_NS}], until_ns=SECOND_NS, machine=m)


def test_the_check_leaves_time_wait_alone_as_intended_and_drops_as_posted() -> None:
    """Bug 12: the check reads a flag of a socket that is none, and gives one back."""
    intended, posted = tight(0), tight(1 << BUG_TIME_WAIT)
    assert (intended.reasons(), intended.m.dev[0].rx_reserve_used) == ([""], 3)
    assert (posted.reasons(), posted.m.dev[0].rx_reserve_used) == (["PFMEMALLOC"], 2)


def test_a_connection_that_the_host_opens_again_begins_anew() -> None:
    """The host's own SYN, and its SYN-ACK, forget the old sequence numbers."""
    opened = sent(tcp(payload=0, flags=SYN, sport=40_000))
    answer = tcp(payload=0, flags=SYN | ACK, tcp_seq=70_000)
    played = ended(DATA, opened, answer, tcp(payload=10, tcp_seq=70_001), tcp(payload=10, tcp_seq=70_001))
    assert played.reasons() == [""] * 4 + ["TCP_OLD_DATA"]
    accepted = sent(tcp(payload=0, flags=SYN | ACK)) | {"tcp_ack": 90_001}
    again = ended(DATA, tcp(payload=0, flags=SYN, tcp_seq=90_000), accepted, tcp(payload=10, tcp_seq=90_001))
    assert (again.reasons(), again.m.total.tcp_resyncs) == ([""] * 4, 0)
    assert again.rows[0].saddr == PEER
