"""Bulk servers: once asked, they send as fast as the windows allow, `bytes` or without end; the connection stays open.

Source: what a request says is not read: whatever comes first asks for the transfer (cf. RFC 864, which asks nothing).
"""

from emu.kernel.tcp_seq import SEQ_MASK, seq_add
from emu.traffic.peer.state import World
from emu.traffic.peer.tcp_peer import peer_push

# An endless transfer has that much ready: more than a window, far less than half a sequence space.
AHEAD_BYTES = 1 << 24


def server_supplies(w: World, c: int) -> None:
    """Bytes that are ready to be sent on, and are sent as the windows allow."""
    peer = w.peer[c]
    if peer.bytes_received == 0:
        return
    ready = AHEAD_BYTES
    if w.download_bytes[c] > 0:
        ready = min(ready, w.download_bytes[c] - (peer.bytes_acked - 1))  # the SYN counted one
    end_seq = seq_add(peer.snd_una, ready)
    if (end_seq - peer.write_seq) & SEQ_MASK < 1 << 31:
        peer.write_seq = end_seq
    peer_push(w, c)


def server_open(w: World, c: int) -> None:
    """A new connection begins its transfer anew."""
    w.peer[c].bytes_received = 0
    w.peer[c].bytes_acked = 0
