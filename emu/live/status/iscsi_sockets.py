"""The iSCSI connections of a namespace as its TCP sees them."""

import re
import shutil
import subprocess  # ss is the system's own window into its sockets; what it is given is not a user's

from msgspec import Struct

ISCSI_PORT = 3260
TIMEOUT_S = 1.0  # a machine under a flood answers late; the screen goes on without it
FIELDS = 5  # of a line of ss, before what it tells of TCP: state, two queues, two addresses


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


def worst_first(connections: list[Connection]) -> list[Connection]:
    """Those that have waited longest for an acknowledgment come first."""
    return sorted(connections, key=lambda one: (-one.backoff, -one.rto_ms))


def ask_ss(port: int = ISCSI_PORT) -> str:
    """What ss tells of connections from or to a port, in the namespace of the calling thread.

    Errors: OSError, its text for a user: ss is missing, slow, or fails.
    """
    ss = shutil.which("ss")
    if ss is None:
        raise OSError("ss is not installed (package iproute2)")
    command = [ss, "-tnioHO", f"( sport = :{port} or dport = :{port} )"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise OSError(f"ss has not answered within {TIMEOUT_S:g} s") from None
    except subprocess.CalledProcessError as error:
        told = " ".join(error.stderr.split())
        raise OSError(f"ss ended with {error.returncode}: {told}") from None
    return ended.stdout


def connections_in(told: str, namespace: str) -> list[Connection]:
    """The connections in what ss has told, in an order that does not change: by local and peer address."""
    lines = (line.split(maxsplit=FIELDS) for line in told.splitlines())
    found = [_connection(parts, namespace) for parts in lines if len(parts) >= FIELDS]
    return sorted(found, key=lambda connection: (connection.local, connection.peer))


def _connection(parts: list[str], namespace: str) -> Connection:
    state, _, to_send, local, peer = parts[:FIELDS]
    told = parts[FIELDS] if len(parts) > FIELDS else ""
    return Connection(
        namespace=namespace,
        state=state,
        local=local,
        peer=peer,
        rto_ms=float(_after("rto:", told)),
        backoff=int(_after("backoff:", told)),
        cwnd=int(_after("cwnd:", told)),
        unacked=int(_after("unacked:", told)),
        lost=int(_after("lost:", told)),
        retransmitted=int(_after(r"retrans:\d+/", told)),
        to_send_bytes=int(to_send),
    )


def _after(word: str, told: str) -> str:
    """The number behind a word; "0" where ss leaves it out, which it does with zeros."""
    found = re.search(rf"(?<!\S){word}(\d+(?:\.\d+)?)", told)
    return found[1] if found else "0"
