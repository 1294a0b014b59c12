"""The iSCSI connections of a namespace as its TCP sees them."""

from msgspec import Struct

ISCSI_PORT = 3260


class Connection(Struct, frozen=True, kw_only=True):
    """A TCP connection as `ss -tni` tells it, seen from its local end."""

    namespace: str  # "": that of the run
    state: str  # ss's word: `ESTAB`
    local: str
    peer: str
    rto_ms: float = 0.0  # until the next retransmission: doubles with each one that is not answered
    backoff: int = 0  # how often it has doubled
    cwnd: int = 0
    unacked: int = 0
    lost: int = 0
    retransmitted: int = 0  # segments, since it began
    to_send_bytes: int = 0  # sent and not acknowledged, or not sent yet
