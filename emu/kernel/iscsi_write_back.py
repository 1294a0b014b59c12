"""Write-back in a replay: a write's pages are under write-back until its SCSI Response has been delivered.

The host's own frames say which writes it has commanded, in the capture's order; from then on as many pages as the write
names are under write-back, out of what others hold.  The machine's own verdicts say which responses the initiator gets:
one whose bytes are all delivered and in order (and read, where iSCSI's reader is not immediate) frees its write's
pages, one that was dropped frees nothing unless its bytes are delivered later.  Tasks that wait for memory then find it
when they run next: the softirq, which refills the ring, comes before them.
Source: RFC 7143 11.3, 11.4; Linux 2.6.12 mm/filemap.c end_page_writeback, mm/vmscan.c shrink_list.
Differs: a clean page is reclaimed at once (under pressure kswapd and the writers' own reclaim wait for it, and
rotate_reclaimable_page puts it first); page cache lies in the highest zone and is given back from the lowest; a
connection that begins anew leaves its unanswered writes' pages dirty, with the others; a write whose tag is used again
before its response was delivered never completes, nor does the
oldest of too many; of what was dropped before the rest of its PDU came, the last few
stretches are remembered.
"""

from emu.kernel.drop_reason import DELIVERED, DROPPED, TCP_OFOMERGE, TCP_OLD_DATA
from emu.kernel.iscsi_follow_state import (
    MAX_ANSWERS,
    MAX_FOLLOWED,
    MAX_FOLLOWED_TASKS,
    MAX_LOST,
    MAX_STRETCHES,
    NEWS_COMMAND,
    NEWS_OPEN,
    FollowedAnswer,
    FollowedFlow,
    FollowedTask,
    News,
)
from emu.kernel.machine import NONE, PACKET_OUTGOING, PAGE_SIZE, Machine, Packet
from emu.kernel.page_alloc import free_pages
from emu.kernel.sock import Ends, ends_received, ends_sent, sk_find
from emu.kernel.tcp_seq import after, before, is_far, seq_add


def pages_write_back(m: Machine, task: FollowedTask, pages: int) -> None:
    """Put so many of the others' pages under write-back, from the highest zone down, as far as they have any."""
    m.follow.pages_written += pages
    for zone in range(m.zones - 1, -1, -1):
        z = m.zone[zone]
        part = min(pages, z.other_pages)
        z.other_pages -= part
        z.writeback_pages += part
        task.pages[zone] = part
        pages -= part
    m.follow.pages_written -= pages
    m.follow.pages_short += pages


def pages_free(m: Machine, task: FollowedTask) -> int:
    """The write is done: its pages are free again; how many those are."""
    freed = 0
    for zone in range(m.zones):
        for _ in range(task.pages[zone]):
            m.zone[zone].writeback_pages -= 1
            free_pages(m, zone, 0)
        freed += task.pages[zone]
        task.pages[zone] = 0
    task.used = 0
    m.follow.pages_freed += freed
    if freed:
        m.quiet_rounds = 0
    return freed


def pages_redirty(m: Machine, task: FollowedTask) -> None:
    """Nobody will answer this write: its pages are dirty, with the others' again."""
    for zone in range(m.zones):
        m.zone[zone].writeback_pages -= task.pages[zone]
        m.zone[zone].other_pages += task.pages[zone]
        task.pages[zone] = 0
    task.used = 0


def task_find(flow: FollowedFlow, itt: int) -> int:
    """The command with this initiator task tag, or -1."""
    for t in range(flow.tasks):
        if flow.task[t].used and flow.task[t].itt == itt:
            return t
    return NONE


def task_row(flow: FollowedFlow, itt: int) -> int:
    """The row for a command: that of the one before it with this tag, else a free one, else the oldest's."""
    oldest = task_find(flow, itt)
    if oldest != NONE:
        return oldest
    oldest = 0
    for t in range(MAX_FOLLOWED_TASKS):
        if t == flow.tasks or flow.task[t].used == 0:
            return t
        if flow.task[t].used < flow.task[oldest].used:
            oldest = t
    return oldest


def task_begin(m: Machine, flow: FollowedFlow, itt: int, bytes_: int) -> None:
    """A command is on the wire; a write that had its row never completes: its pages stay under write-back."""
    m.follow.commands += 1
    m.follow.writes += bytes_ >= 0
    t = task_row(flow, itt)
    flow.tasks = max(flow.tasks, t + 1)
    flow.commands += 1
    task = flow.task[t]
    task.used = flow.commands
    task.itt = itt
    for zone in range(m.zones):
        m.follow.pages_stuck += task.pages[zone]
        task.pages[zone] = 0
    pages_write_back(m, task, (max(bytes_, 0) + PAGE_SIZE - 1) // PAGE_SIZE)


def flow_begin(m: Machine, k: int, ends: Ends) -> None:
    """Row `k` is a connection that begins, or comes into sight; what it was before is over."""
    flow = m.follow.flow[k]
    if flow.used == 0:
        m.follow.live += 1
    for t in range(flow.tasks):
        pages_redirty(m, flow.task[t])
    for a in range(flow.answers):
        m.follow.lost_forgotten += is_lost(flow.answer[a])
    flow.used = 1
    flow.family = ends.family
    flow.local = ends.local
    flow.local_hi = ends.local_hi
    flow.local_port = ends.local_port
    flow.remote = ends.remote
    flow.remote_hi = ends.remote_hi
    flow.remote_port = ends.remote_port
    flow.tasks = 0
    flow.commands = 0
    flow.answers = 0
    flow.losses = 0


def flow_ends(flow: FollowedFlow) -> Ends:
    """The addresses of a flow, as its socket is looked up by."""
    return Ends(
        flow.family,
        6,
        flow.local_hi,
        flow.local,
        flow.local_port,
        flow.remote_hi,
        flow.remote,
        flow.remote_port,
    )


def flow_find(m: Machine, ends: Ends) -> int:
    """The row of the connection that a packet belongs to, or -1."""
    for k in range(MAX_FOLLOWED):
        flow = m.follow.flow[k]
        if flow.used and flow.local_port == ends.local_port and flow.remote_port == ends.remote_port:
            if flow.local == ends.local and flow.remote == ends.remote and flow.family == ends.family:
                if flow.local_hi == ends.local_hi and flow.remote_hi == ends.remote_hi:
                    return k
    return NONE


def follow_news(m: Machine, p: Packet, row: int) -> None:
    """The frame in row number `row` is on the wire: what it completes."""
    f = m.follow
    while f.news_at < f.news_len and f.news[f.news_at].row == row:
        news = f.news[f.news_at]
        f.news_at += 1
        if news.what == NEWS_OPEN:
            flow_begin(m, news.flow, ends_sent(p) if p.pkt_type == PACKET_OUTGOING else ends_received(p))
        elif news.what == NEWS_COMMAND:
            task_begin(m, f.flow[news.flow], news.itt, news.bytes)
        else:
            answer_begin(m, f.flow[news.flow], news)


# --- responses -------------------------------------------------------------------------------------------------------


def answer_begin(m: Machine, flow: FollowedFlow, news: News) -> None:
    """A response is whole on the wire; parts of it may be lost already.  Without room the oldest is forgotten."""
    if flow.answers == MAX_ANSWERS or (flow.answers >= MAX_LOST and is_lost(flow.answer[0])):
        m.follow.lost_forgotten += 1
        answer_forget(flow, 0)
    flow.settled = 0
    answer = flow.answer[flow.answers]
    flow.answers += 1
    answer.itt = news.itt
    answer.seq = news.seq
    answer.end_seq = news.end_seq
    answer.lost_seq = news.seq
    answer.lost_end = news.seq
    for row in range(min(flow.losses, MAX_STRETCHES)):
        answer_lose(answer, flow.loss[row].seq, flow.loss[row].end_seq)


def is_lost(answer: FollowedAnswer) -> bool:
    """Whether the machine dropped a part of a response."""
    return answer.lost_seq != answer.lost_end


def answer_forget(flow: FollowedFlow, at: int) -> None:
    """Take a response off the list."""
    for row in range(at + 1, flow.answers):
        answer_copy(flow.answer[row - 1], flow.answer[row])
    flow.answers -= 1


def answer_copy(answer: FollowedAnswer, other: FollowedAnswer) -> None:
    """Make one row like another."""
    answer.itt = other.itt
    answer.seq = other.seq
    answer.end_seq = other.end_seq
    answer.lost_seq = other.lost_seq
    answer.lost_end = other.lost_end


def answer_lose(answer: FollowedAnswer, seq: int, end_seq: int) -> None:
    """These bytes were dropped; what of them is the response's is lost."""
    seq = answer.seq if before(seq, answer.seq) else seq
    end_seq = answer.end_seq if after(end_seq, answer.end_seq) else end_seq
    if not before(seq, end_seq):
        return
    if answer.lost_seq == answer.lost_end:
        answer.lost_seq = seq
        answer.lost_end = end_seq
        return
    if before(seq, answer.lost_seq):
        answer.lost_seq = seq
    if after(end_seq, answer.lost_end):
        answer.lost_end = end_seq


def answer_regain(answer: FollowedAnswer, seq: int, end_seq: int) -> None:
    """These bytes are delivered after all: a hole that they leave within what is lost keeps all of it lost."""
    if answer.lost_seq == answer.lost_end:
        return
    if not after(seq, answer.lost_seq) and after(end_seq, answer.lost_seq):
        answer.lost_seq = answer.lost_end if after(end_seq, answer.lost_end) else end_seq
    elif before(seq, answer.lost_end) and not before(end_seq, answer.lost_end):
        answer.lost_end = seq


def loss_add(flow: FollowedFlow, seq: int, end_seq: int) -> None:
    """Remember a stretch that was dropped, in place of the oldest; one that goes on from the last one stretches it."""
    last = (flow.losses - 1) % MAX_STRETCHES
    if flow.losses and flow.loss[last].end_seq == seq:
        flow.loss[last].end_seq = end_seq
        return
    row = flow.losses % MAX_STRETCHES
    flow.losses += 1
    flow.loss[row].seq = seq
    flow.loss[row].end_seq = end_seq


def loss_remove(flow: FollowedFlow, seq: int, end_seq: int) -> None:
    """What was dropped and is delivered now is lost no more, as far as one stretch can say so."""
    for row in range(min(flow.losses, MAX_STRETCHES)):
        loss = flow.loss[row]
        if not after(seq, loss.seq) and after(end_seq, loss.seq):
            loss.seq = loss.end_seq if after(end_seq, loss.end_seq) else end_seq
        elif before(seq, loss.end_seq) and not before(end_seq, loss.end_seq):
            loss.end_seq = seq


def follow_lost(m: Machine, ends: Ends, seq: int, end_seq: int) -> None:
    """The machine threw bytes of a connection away."""
    k = flow_find(m, ends)
    if k == NONE:
        return
    flow = m.follow.flow[k]
    loss_add(flow, seq, end_seq)
    for a in range(flow.answers):
        answer_lose(flow.answer[a], seq, end_seq)


def follow_verdict(m: Machine, p: Packet) -> None:
    """A TCP packet has its verdict: its bytes are lost, or there; what can be read now is read."""
    ends = ends_received(p)
    k = flow_find(m, ends)
    if k == NONE:
        return
    flow = m.follow.flow[k]
    end_seq = seq_add(p.tcp_seq, p.payload_length)
    if p.verdict == DELIVERED:
        loss_remove(flow, p.tcp_seq, end_seq)
        flow.settled = 0
        for a in range(flow.answers):
            answer_regain(flow.answer[a], p.tcp_seq, end_seq)
    elif p.verdict == DROPPED and p.reason not in (TCP_OLD_DATA, TCP_OFOMERGE) and p.payload_length > 0:
        follow_lost(m, ends, p.tcp_seq, end_seq)
    flow_read(m, k)


def flow_read(m: Machine, k: int) -> int:
    """The initiator takes in the responses that have been read off its socket; how many pages they free."""
    flow = m.follow.flow[k]
    i = sk_find(m, flow_ends(flow)) if flow.answers else NONE
    if i == NONE or m.sk[i].rcv_nxt == NONE:
        return 0
    sk = m.sk[i]
    read_seq = m.skb[sk.queue_head].seq if sk.queue_len else sk.rcv_nxt
    if flow.settled and flow.settled_seq == read_seq:
        return 0
    freed = 0
    kept = 0
    for a in range(flow.answers):
        answer = flow.answer[a]
        if is_far(answer.end_seq, read_seq):
            m.follow.lost_forgotten += 1
            continue
        if is_lost(answer) or after(answer.end_seq, read_seq):
            if kept < a:
                answer_copy(flow.answer[kept], answer)
            kept += 1
            continue
        freed += answer_read(m, flow, answer.itt)
    flow.answers = kept
    flow.settled = 1
    flow.settled_seq = read_seq
    return freed


def answer_read(m: Machine, flow: FollowedFlow, itt: int) -> int:
    """The initiator has a SCSI Response; how many pages its command frees."""
    m.follow.responses += 1
    t = task_find(flow, itt)
    if t == NONE:
        m.follow.unmatched += 1
        return 0
    return pages_free(m, flow.task[t])


def follow_read(m: Machine) -> int:
    """Readers have read: what they found of responses; how many pages those free."""
    freed = 0
    for k in range(MAX_FOLLOWED):
        if m.follow.flow[k].used:
            freed += flow_read(m, k)
    return freed


def is_balanced(m: Machine) -> bool:
    """Whether the pages under write-back in a replay are those of the writes under way, and those that are stuck."""
    pages = m.follow.pages_stuck
    for k in range(MAX_FOLLOWED):
        flow = m.follow.flow[k]
        for t in range(flow.tasks):
            for zone in range(m.zones):
                pages += flow.task[t].pages[zone]
    for zone in range(m.zones):
        pages -= m.zone[zone].writeback_pages
    return pages == 0


def responses_lost(m: Machine) -> int:
    """Responses of which the machine dropped a part that has not come again."""
    lost = m.follow.lost_forgotten
    for k in range(MAX_FOLLOWED):
        flow = m.follow.flow[k]
        for a in range(flow.answers):
            lost += is_lost(flow.answer[a])
    return lost
