"""A crafted iSCSI conversation as a source of frames."""

from typing import Any

from emu.capture.made import CraftedFrames
from emu.engine.plain import Engine
from emu.kernel.machine import NONE
from emu.traffic.crafted import START_NS
from emu.traffic.iscsi.conversation import CLOSED, NO_ROOM, begin_session, craft_frames
from emu.traffic.iscsi.options import TIMESTAMP_BYTES, IscsiAcks, Terms, check, crafted_of_session
from emu.traffic.iscsi.segments import DIGEST_BYTES, STEP_BYTES
from emu.traffic.iscsi.state import Session
from emu.wire import ethernet

WINDOW_BYTES = 1 << 20
POOL_STEPS = 4096
OTHERS = 8  # a ping, a logout and a login may wait beside the writes
MOST_HEAD_BYTES = 140  # headers of a frame at most: Ethernet, IPv6, TCP with options


def longest_bytes(terms: Terms) -> int:
    """How long a frame of the session may get."""
    return terms.mss - TIMESTAMP_BYTES + MOST_HEAD_BYTES


class SessionReader(CraftedFrames):
    """Reads the frames of a session that is crafted as it is read; a FrameSource.

    The memory is bounded whatever the number of writes.  Same options, same frames, on either engine.
    """

    def __init__(
        self,
        options: IscsiAcks,
        engine: Engine,
        *,
        start_ns: int = START_NS,
        device: int = NONE,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """Build the templates; `device` is what the user named for the traffic.

        Errors: UsageError for options that cannot be.
        """
        terms = check(options)
        comments = [crafted_of_session(options, terms).comment()]
        super().__init__(engine, max(window_bytes, 2 * longest_bytes(terms)), comments, device)
        # Scapy takes a while to load: whoever only replays captures does without.
        from emu.traffic.iscsi.templates import build_templates, choose, crc32c_table, octets_of_seed

        self.terms = terms
        self._count = options.count
        chosen = choose(options)
        moulds, shapes = build_templates(options, terms, chosen)
        both = options.direction == "both"
        pool = octets_of_seed(options.seed, "data", POOL_STEPS * STEP_BYTES + terms.max_recv_bytes if both else 1)
        self._moulds: Any = engine.view(moulds)
        self._pool: Any = engine.view(bytearray(pool))
        self._session = engine.new(Session)
        self._fill(options, chosen._asdict(), start_ns)
        for at, shape in enumerate(shapes):
            engine.fill(self._session.shapes[at], shape)
        for at, crc in enumerate(crc32c_table()):
            self._session.crc[at] = crc
        begin_session(self._session)
        self._craft = engine.function(craft_frames)

    def _fill(self, options: IscsiAcks, chosen: dict[str, int], start_ns: int) -> None:
        """What both ends agree on, and what they begin with."""
        terms = self.terms
        segment = terms.mss - TIMESTAMP_BYTES
        over, under = terms.pps.numerator, terms.pps.denominator
        gap_ns, gap_over = divmod(10**9 * under, over) if over else (0, 0)
        agreed = {
            "both": options.direction == "both",
            "writes": terms.writes,
            "depth": options.queue_depth,
            "room": 1 << (options.queue_depth + OTHERS).bit_length(),
            "write_bytes": terms.write_bytes,
            "immediate_bytes": terms.immediate_bytes,
            "max_burst_bytes": terms.max_burst_bytes,
            "max_recv_bytes": terms.max_recv_bytes,
            "segment_bytes": segment,
            "header_digest": DIGEST_BYTES * terms.header_digest,
            "data_digest": DIGEST_BYTES * terms.data_digest,
            "service_ns": terms.service_ns,
            "rtt_ns": terms.rtt_ns,
            "write_gap_ns": gap_ns,
            "write_gap_over": gap_over,
            "rate_over": over,
            "nop_ns": terms.nop_ns,
            "seed": chosen["jitter"],
            "pool_steps": POOL_STEPS,
            "ip_at": ethernet.HEADER_LEN,
            "tcp_at": terms.tcp_at,
            "ipv6": terms.family == 6,
            "longest": longest_bytes(terms),
        }
        begun = {
            "h_seq": chosen["host_seq"],
            "h_id": chosen["host_id"],
            "h_stamp0": chosen["host_stamp"],
            "cmd_sn": chosen["cmd_sn"],
            "itt": chosen["itt"],
            "t_seq": chosen["target_seq"],
            "t_id": chosen["target_id"],
            "t_stamp0": chosen["target_stamp"],
            "t_stat_sn": chosen["stat_sn"],
            "exp_cmd_sn": chosen["cmd_sn"],
            "max_cmd_sn": (chosen["cmd_sn"] + options.queue_depth - 1) & 0xFFFFFFFF,
            "ttt": chosen["ttt"],
            "start_ns": start_ns,
        }
        self._engine.fill(self._session, agreed | begun)

    def read(self, rows: Any, first: int, limit: int) -> int:
        """Craft up to `limit` further frames into `rows[first:first + limit]`; returns how many, 0 at the end."""
        if self._count is not None:
            limit = min(limit, self._count - self.frames)
        count = 0
        while limit > 0 and not (count or self.ended):
            begun = self._at
            count, self._at, why = self._craft(
                self._session,
                self._moulds,
                self._pool,
                rows,
                first,
                limit,
                self.octets,
                self._at,
                self.frames + 1,
            )
            self.bytes_read += self._at - begun
            self._cramped = why == NO_ROOM
            if self._cramped and not count:
                self._grow()
            self.ended = self._session.ended == CLOSED
        self.frames += count
        self.ended = self.ended or self.frames == self._count
        return int(count)
