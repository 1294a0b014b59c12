"""The field table's third part: iSCSI connections of a capture, followed on the wire and in the machine.

Two views of one connection.  `FollowedWire` is what an observer beside the wire reads in capture order, whatever
becomes of the frames; what it finds is handed on as `News`.  `FollowedFlow` is what the machine knows of it: commands
under way and responses that have been sent to it.  Sequence numbers are 32 bits wide; `_bytes`, pages as in `machine`.
"""

from typing import Annotated

from emu.kernel.closed_loop import PduReader
from emu.kernel.record import record

MAX_FOLLOWED = 8  # connections at a time; the longest unused one gives way
MAX_FOLLOWED_TASKS = 256  # commands of one connection whose response has not been delivered
MAX_ANSWERS = 2_048  # responses of one connection that are on the wire or lost
MAX_LOST = 256  # of those lost
MAX_STRETCHES = 8  # of sequence numbers, of each kind
MAX_NEWS = 8_192  # PDUs of one part of a batch
FOLLOW_STORE_BYTES = 1 << 18  # of each direction that are remembered
PAGE_ZONES = 3

WAY_OUT, WAY_IN = range(2)  # from the host, to the host
NEWS_OPEN, NEWS_COMMAND, NEWS_RESPONSE = range(3)


@record
class Stretch:
    """A range of sequence numbers."""

    seq: int
    end_seq: int


@record
class FollowedWay:
    """One direction of a connection as the wire shows it."""

    known: int  # 1: `end_seq` means something
    synced: int  # 1: it is known where the next PDU begins
    end_seq: int  # behind the last byte without a gap before it
    acked: int  # the highest number that the other end has acknowledged, else -1
    pdu_seq: int  # where the PDU under way begins
    reader: PduReader
    aheads: int
    ahead: Annotated[list[Stretch], MAX_STRETCHES]  # segments behind a gap, sorted, apart
    blanks: int
    blank: Annotated[list[Stretch], MAX_STRETCHES]  # bytes that the capture lacks, not yet read past


@record
class FollowedWire:
    """A connection as the wire shows it; `local` is the host's end."""

    used: int  # when it last carried a frame, in frames; 0: a free row
    family: int
    local: int
    local_hi: int
    local_port: int
    remote: int
    remote_hi: int
    remote_port: int
    header_digest: int  # as the login has said so far; bytes
    data_digest: int
    way: Annotated[list[FollowedWay], 2]


@record
class FollowedTask:
    """A command of the initiator, until its response has been delivered; only a write has pages."""

    used: int  # which command of the connection it is, from 1; 0: a free row
    itt: int
    pages: Annotated[list[int], PAGE_ZONES]  # under write-back, by zone


@record
class FollowedAnswer:
    """A SCSI Response on its way: [seq, end_seq) of the connection; `lost` bounds what the machine dropped of it."""

    itt: int
    seq: int
    end_seq: int
    lost_seq: int
    lost_end: int  # equal to lost_seq: nothing is lost


@record
class FollowedFlow:
    """A connection as the machine has it."""

    used: int
    family: int
    local: int
    local_hi: int
    local_port: int
    remote: int
    remote_hi: int
    remote_port: int
    tasks: int  # rows of `task` that were ever used
    commands: int
    task: Annotated[list[FollowedTask], MAX_FOLLOWED_TASKS]
    answers: int
    answer: Annotated[list[FollowedAnswer], MAX_ANSWERS]  # by sequence number
    settled: int  # 1: none of them can be read, and none is too far, while settled_seq is what is read next
    settled_seq: int
    losses: int  # in all; the last MAX_STRETCHES of them are remembered
    loss: Annotated[list[Stretch], MAX_STRETCHES]


@record
class News:
    """A PDU that a frame completes, or a connection that it opens."""

    row: int  # the frame's sequence number
    what: int  # NEWS_*
    flow: int
    itt: int
    bytes: int  # that the command writes; -1: it writes nothing
    seq: int
    end_seq: int


@record
class Follow:
    """All connections that are followed, and what was counted."""

    by_rule: int  # 1: flows to other ports than iSCSI's are memalloc, so they may be iSCSI
    live: int  # flows of the machine's view that are in use
    wire: Annotated[list[FollowedWire], MAX_FOLLOWED]
    flow: Annotated[list[FollowedFlow], MAX_FOLLOWED]
    news_at: int  # the next that the machine has not come to
    news_len: int
    news: Annotated[list[News], MAX_NEWS]
    flows: int  # opened
    commands: int  # SCSI Commands
    writes: int  # those of them that write
    responses: int  # that the initiator has read: SCSI Responses, and Data-In with a command's status
    lost_forgotten: int  # responses that were lost, or are too many to be remembered
    pages_written: int  # put under write-back
    pages_short: int  # that a write names and nobody had left
    pages_freed: int
    pages_stuck: int  # under write-back for good: nobody remembers their write any more
    unmatched: int  # responses read that answer no command under way
    resyncs: int  # how often the beginning of the next PDU was lost
    skipped_bytes: int  # without PDU boundaries
    truncated: int  # segments of which the capture lacks bytes
