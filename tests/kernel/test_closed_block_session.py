"""The initiator, PDU by PDU: login, writes with and without R2T, the command window, pings, reinstatement."""

from typing import Any

import pytest
from block_bench import MS, PAGE, SECOND, Bench, Target

from emu.kernel.block_io import block_due_ns
from emu.kernel.closed_loop import (
    CONN_CLOSED,
    CONN_ESTABLISHED,
    SESSION_CONNECTING,
    SESSION_DOWN,
    SESSION_FULL_FEATURE,
    SESSION_LOGIN_SECURITY,
    TASK_FREE,
    TASK_SENT,
    WAIT_MEMORY,
    WAIT_SNDBUF,
)
from emu.kernel.iscsi_pdu import (
    NO_TAG,
    OP_ASYNC,
    OP_DATA_OUT,
    OP_LOGIN,
    OP_NOP_OUT,
    OP_REJECT,
    OP_SCSI_COMMAND,
    first_word,
    word_of,
)
from emu.kernel.iscsi_tcp import data_word, data_word_two, iscsi_reads, session_gap_ns
from emu.kernel.machine import ZONE_NORMAL
from emu.wire.iscsi import DataOut, LoginRequest, NOPOut, SCSICommand

NO_BACKGROUND = {"dirty_background_ratio": 0}


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def logged_in(patch: pytest.MonkeyPatch, pages: int = 0, vm: Any = NO_BACKGROUND, **columns: int) -> Bench:
    """A session in full feature phase, with `pages` dirty pages that are to be written at once."""
    bench = Bench(patch, sessions=(columns,), vm=vm)
    bench.talk()
    assert bench.m.session[0].state == SESSION_FULL_FEATURE
    bench.target[0].seen.clear()
    bench.dirty(pages)
    return bench


def opcodes(target: Target) -> list[int]:
    return [one[0] for one in target.seen]


def test_login_takes_two_stages_from_the_first_page_of_a_session(patch: pytest.MonkeyPatch) -> None:
    bench = Bench(patch)
    bench.tasks_run()
    assert bench.m.session[0].state == SESSION_CONNECTING
    assert not iscsi_reads(bench.m, 0)
    bench.tasks_run()
    assert bench.m.session[0].state == SESSION_LOGIN_SECURITY
    assert iscsi_reads(bench.m, 0)
    first = LoginRequest(bench.target[0].last_bytes())
    assert (first.I, first.T, first.C, first.CSG, first.NSG) == (1, 1, 0, 0, 1)
    assert (first.ISID_T, first.TSIH, first.CmdSN, first.ExpStatSN, first.DataSegmentLength) == (2, 0, 100, 0, 12)
    bench.target[0].run()
    bench.tasks_run()
    second = LoginRequest(bench.target[0].last_bytes())
    assert (second.T, second.CSG, second.NSG, second.CmdSN, second.ExpStatSN) == (1, 1, 3, 100, 2)
    assert second.DataSegmentLength == 20
    bench.target[0].run()
    assert bench.m.session[0].state == SESSION_FULL_FEATURE


def test_a_page_is_clean_when_its_response_has_come_and_not_before(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=3)
    m, target = bench.m, bench.target[0]
    m.now_ns = 10 * MS
    bench.talk()
    assert opcodes(target) == [OP_SCSI_COMMAND] * 3
    assert (m.vm.dirty_pages, m.vm.writeback_pages, m.vm.clean_pages) == (0, 3, 0)
    m.now_ns = 12 * MS
    target.response(target.done.popleft())
    bench.check()
    assert (m.vm.writeback_pages, m.vm.clean_pages, m.vm.pages_cleaned) == (2, 1, 1)
    assert m.session[0].writes_completed == 1
    assert m.session[0].bytes_completed == PAGE
    assert m.latency_max_ns == 2 * MS
    assert m.vm.last_clean_ns == 0
    while target.done:
        target.response(target.done.popleft())
    assert m.vm.last_clean_ns == 12 * MS
    assert m.session[0].tasks == 0


def test_a_command_is_what_scapy_reads(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=2)
    bench.talk()
    command = SCSICommand(bench.target[0].last_bytes())
    assert (command.F, command.R, command.W, command.ATTR) == (1, 0, 1, 1)
    assert (command.ITT, command.ExpectedDataTransferLength, command.CmdSN) == (1 * 128 + 1, PAGE, 101)
    assert command.ExpStatSN == 3, "two login responses took StatSN 1 and 2"
    assert command.DataSegmentLength == PAGE
    assert bytes(command.CDB)[:10] == bytes((0x2A, 0, 0, 0, 0, 8, 0, 0, 8, 0))


def test_a_block_address_of_more_than_32_bits_needs_write_16() -> None:
    block, blocks = 0x1_2345_6789, 0x2_0001
    octets = (data_word(block, blocks) & (1 << 64) - 1).to_bytes(8, "big")
    octets += (data_word_two(block, blocks) & (1 << 64) - 1).to_bytes(8, "big")
    assert octets == bytes.fromhex("8a00 00000001 23456789 00020001 0000")


def test_data_beyond_the_burst_wait_for_r2t(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, 16, write_bytes=16 * PAGE, immediate_bytes=8_192, initial_r2t=1, max_burst_bytes=32_768)
    bench.m.conn[0].sndbuf = 1 << 20
    bench.talk()
    target = bench.target[0]
    itt = target.done[0]
    # 64 KiB: 8 KiB with the command, two bursts of 32 KiB and of 24 KiB in Data-Outs of 8 KiB.
    # What stands last is the Data-Out's offset, of the command the end of its CDB: 128 blocks.
    expected = [(OP_SCSI_COMMAND, 0xA1, itt, 8_192, 0x8000_0000)]
    for offset in (8_192, 16_384, 24_576, 32_768, 40_960, 49_152, 57_344):
        final = 0x80 if offset in (32_768, 57_344) else 0
        expected.append((OP_DATA_OUT, final, itt, 8_192, offset))
    assert target.seen == expected
    last = DataOut(target.last_bytes())
    assert (last.TTT, last.DataSN, last.BufferOffset, last.F) == (77, 2, 57_344, 1)


def test_without_initial_r2t_the_first_burst_follows_its_command(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, 16, write_bytes=16 * PAGE, immediate_bytes=0, initial_r2t=0, first_burst_bytes=16_384)
    bench.m.conn[0].sndbuf = 1 << 20
    bench.tasks_run()
    bench.target[0].answers = True
    bench.target[0].run()
    flags = [(one[0], one[1], one[4]) for one in bench.target[0].seen]
    assert flags == [(OP_SCSI_COMMAND, 0x21, 0x8000_0000), (OP_DATA_OUT, 0, 0), (OP_DATA_OUT, 0x80, 8_192)]
    first = DataOut(bench.target[0].last_bytes())
    assert (first.TTT, first.DataSN) == (NO_TAG, 1)
    assert bench.m.session[0].r2t_head != -1, "and the R2T for the rest has come"


def test_the_queue_depth_and_the_command_window_hold_commands_back(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=20, queue_depth=8)
    bench.talk()
    assert opcodes(bench.target[0]) == [OP_SCSI_COMMAND] * 8
    assert bench.m.session[0].under_way == 8
    bench.target[0].response(bench.target[0].done.popleft())
    bench.talk()
    assert len(bench.target[0].seen) == 9

    bench = Bench(patch, sessions=({"queue_depth": 32},), vm=NO_BACKGROUND)
    bench.target[0].window = 4
    bench.talk()
    bench.dirty(20)
    bench.talk()
    session = bench.m.session[0]
    assert session.cmd_sn == 104
    bench.target[0].window = 6
    bench.target[0].nop_in(NO_TAG, NO_TAG)  # it only moves MaxCmdSN
    bench.talk()
    assert session.cmd_sn == 110


def test_the_send_buffer_holds_pdus_back(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=20)
    m = bench.m
    m.conn[0].sndbuf = 10_000
    bench.tasks_run()
    assert m.conn[0].wait == WAIT_SNDBUF
    assert m.session[0].under_way == 3
    assert m.session[0].pdu_left == 3 * (48 + PAGE) - 10_000
    m.conn[0].wmem_queued = 7_000
    bench.tasks_run()
    assert m.session[0].pdu_left > 0, "3 000 bytes of room are less than half of what is queued"
    m.conn[0].wmem_queued = 6_000
    bench.tasks_run()
    assert m.session[0].under_way == 4


def test_a_task_that_waits_for_memory_sleeps_its_time(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=1)
    m = bench.m
    send = bench.pipe.sendpage

    def refuse(m: Any, c: int, length: int) -> int:
        m.conn[c].wait = WAIT_MEMORY
        m.conn[c].wait_until_ns = m.now_ns + 102 * MS
        return 0

    from emu.kernel import iscsi_tcp

    patch.setattr(iscsi_tcp, "tcp_sendpage", refuse)
    bench.tasks_run()
    left = m.session[0].pdu_left
    assert left == 48 + PAGE
    assert block_due_ns(m) == 102 * MS
    patch.setattr(iscsi_tcp, "tcp_sendpage", send)
    m.now_ns = 101 * MS
    bench.tasks_run()
    assert m.session[0].pdu_left == left
    m.now_ns = 102 * MS
    bench.tasks_run()
    assert m.session[0].pdu_left == 0
    assert block_due_ns(m) > m.now_ns


def test_a_ping_goes_out_every_interval_and_its_answer_starts_the_next(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch)
    m, target = bench.m, bench.target[0]
    assert block_due_ns(m) == 5 * SECOND
    for time_ns in (5 * SECOND, 10 * SECOND):
        bench.at(time_ns)
        target.run()
    pings = [one for one in target.seen if one[0] == OP_NOP_OUT]
    assert len(pings) == 2
    ping = NOPOut(target.last_bytes())
    assert (ping.I, ping.F, ping.TTT, ping.ITT != NO_TAG) == (1, 1, NO_TAG, True)
    assert m.session[0].reinstatements == 0


def test_the_targets_ping_is_answered_with_its_tag(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch)
    bench.target[0].nop_in(NO_TAG, 4_711)
    bench.tasks_run()
    answer = NOPOut(bench.target[0].last_bytes())
    assert (answer.ITT, answer.TTT) == (NO_TAG, 4_711)


def test_a_ping_without_an_answer_ends_the_session_which_comes_back_and_writes_again(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=40, queue_depth=8)
    m, target = bench.m, bench.target[0]
    session = m.session[0]
    bench.talk()
    blocks = [session.task[i].block for i in range(40)]
    target.response(target.done[3])
    finished = [b for i, b in enumerate(blocks) if session.task[i].state == TASK_FREE]
    target.answers = False
    bench.at(5 * SECOND)  # the ping
    bench.at(10 * SECOND - 1)
    assert session.state == SESSION_FULL_FEATURE
    bench.at(10 * SECOND)
    assert (session.state, bench.pipe.aborts, session.reinstatements) == (SESSION_DOWN, 1, 1)
    assert m.vm.writeback_pages == 39, "their pages are still not clean"
    assert block_due_ns(m) == 11 * SECOND
    bench.at(11 * SECOND)
    assert bench.pipe.connects == [50_000, 50_001], "from another port"
    target.answers = True
    bench.talk()
    assert session.state == SESSION_FULL_FEATURE
    for _ in range(100):
        while target.done:
            target.response(target.done.popleft())
        bench.talk()
    assert (session.writes_completed, session.tasks, m.vm.writeback_pages) == (40, 0, 0)
    order = [one[4] for one in target.seen if one[0] == OP_SCSI_COMMAND]
    assert len(order) == 39
    assert len(finished) == 1
    assert session.writes_issued == 40


def test_commands_are_sent_again_in_the_order_of_their_blocks(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=10, queue_depth=4)
    session = bench.m.session[0]
    bench.talk()
    for _ in range(2):
        bench.target[0].response(bench.target[0].done.pop())
    bench.talk()
    bench.m.conn[0].state = CONN_CLOSED  # a RST
    bench.tasks_run()
    order = []
    i = session.queued_head
    while i >= 0:
        order.append(session.task[i].block)
        i = session.task[i].next
    assert order == sorted(order)
    assert len(order) == session.tasks == 8


@pytest.mark.parametrize("what", ["reject", "logout asked for", "unknown tag", "response to nothing", "r2t too long"])
def test_what_a_target_may_not_say_ends_the_session(patch: pytest.MonkeyPatch, what: str) -> None:
    bench = logged_in(patch, pages=1, immediate_bytes=0)
    bench.target[0].answers = False
    bench.tasks_run()
    target = bench.target[0]
    if what == "reject":
        target.tell(first_word(OP_REJECT, 0x80, 0), 0, 0, 0, 0, 0)
    elif what == "logout asked for":
        target.tell(first_word(OP_ASYNC, 0x80, 0), 0, 0, word_of(3, 101), word_of(163, 1 << 24), 0)
    elif what == "unknown tag":
        target.r2t(99, 0, 512)
    elif what == "response to nothing":
        target.response(99)
    else:
        target.r2t(0, 512, PAGE)
    assert bench.m.session[0].failed
    assert not iscsi_reads(bench.m, 0)
    bench.tasks_run()
    assert bench.m.session[0].state == SESSION_DOWN


def test_a_scsi_event_leaves_the_session_as_it_is(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch)
    bench.target[0].tell(first_word(OP_ASYNC, 0x80, 0), 0, 0, word_of(3, 101), word_of(163, 0), 0)
    assert (bench.m.session[0].failed, bench.m.session[0].exp_stat_sn) == (0, 4)


def test_a_write_that_fails_is_made_again(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, pages=1)
    bench.talk()
    bench.target[0].response(bench.target[0].done.popleft(), status=2)
    bench.check()
    m = bench.m
    assert (m.vm.writeback_pages, m.session[0].write_errors, m.session[0].writes_completed) == (1, 1, 0)
    bench.talk()
    bench.target[0].response(bench.target[0].done.popleft())
    assert (m.vm.clean_pages, m.session[0].writes_completed) == (1, 1)


@pytest.mark.parametrize("where", ["connect", "login", "refused"])
def test_a_login_that_does_not_come_about_is_tried_again(patch: pytest.MonkeyPatch, where: str) -> None:
    bench = Bench(patch)
    m, target = bench.m, bench.target[0]
    if where == "connect":
        bench.pipe.comes_up = False
    bench.at(MS)
    if where == "refused":
        target.login_response(0x81, status_class=2)
        bench.at(2 * MS)
        again = MS + SECOND
    else:
        bench.at(15 * SECOND)
        again = 16 * SECOND
    assert m.session[0].state == SESSION_DOWN
    assert m.session[0].reinstatements == 0
    assert block_due_ns(m) == again
    bench.pipe.comes_up = True
    bench.at(again)
    bench.talk()
    assert m.session[0].state == SESSION_FULL_FEATURE
    assert m.conn[0].state == CONN_ESTABLISHED


def test_a_daemon_that_needs_memory_neither_pings_nor_recovers_without(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, iscsid_needs_memory=1)
    m = bench.m
    z = m.zone[ZONE_NORMAL]
    bench.free(z.pages_min)
    bench.target[0].nop_in(NO_TAG, 4_711)
    m.conn[0].state = CONN_CLOSED
    bench.at(60 * SECOND)
    assert m.session[0].state == SESSION_FULL_FEATURE
    assert bench.target[0].seen == []
    bench.free(z.pages_min + 1)
    assert block_due_ns(m) == m.now_ns
    bench.at(62 * SECOND)
    assert bench.pipe.connects == [50_000, 50_001]


def test_the_longest_gap_counts_only_while_writes_wait(patch: pytest.MonkeyPatch) -> None:
    bench = logged_in(patch, nop_interval_ns=0)
    m, target = bench.m, bench.target[0]
    m.now_ns = 50 * SECOND
    bench.dirty(2)
    bench.talk()
    m.now_ns += 3 * MS
    target.response(target.done.popleft())
    assert session_gap_ns(m.session[0], m.now_ns) == 3 * MS
    m.now_ns += 7 * MS
    assert session_gap_ns(m.session[0], m.now_ns) == 7 * MS, "the one that waits now counts, too"
    target.response(target.done.popleft())
    m.now_ns += SECOND
    assert session_gap_ns(m.session[0], m.now_ns) == 7 * MS
    assert all(m.session[0].task[i].state != TASK_SENT for i in range(4))
    assert OP_LOGIN == 3
