"""What a namespace counts: packets of its interfaces, and events of its TCP and UDP."""

from collections.abc import Iterable

from msgspec import Struct

# nstat's names, as the kernel spells them in /proc/net/snmp and /proc/net/netstat, and what they are to a reader.
COUNTERS = {
    "TcpRetransSegs": "TCP segments sent again",
    "TcpExtTCPTimeouts": "TCP timeouts",
    "TcpExtTCPLossProbes": "TCP loss probes",
    "UdpRcvbufErrors": "datagrams for a full UDP socket",
    "TcpExtPFMemallocDrop": "pfmemalloc drops of the real kernel",
}
HEADER_LINES = 2  # of /proc/net/dev
# Its columns, counted behind the interface's name.
BYTES_IN, PACKETS_IN, DROPS_IN, BYTES_OUT, PACKETS_OUT, DROPS_OUT = 0, 1, 3, 8, 9, 11


class Interface(Struct, frozen=True, kw_only=True):
    """An interface as its namespace counts it: in is what the stack above it receives."""

    name: str
    namespace: str  # "": that of the run
    packets_in: int
    bytes_in: int
    drops_in: int
    packets_out: int
    bytes_out: int
    drops_out: int


def interface_in(dev: str, name: str, namespace: str) -> Interface | None:
    """An interface in the text of /proc/net/dev; None when it is not there."""
    for line in dev.splitlines()[HEADER_LINES:]:
        found, _, rest = line.partition(":")
        if found.strip() == name:
            counts = [int(count) for count in rest.split()]
            return Interface(
                name=name,
                namespace=namespace,
                packets_in=counts[PACKETS_IN],
                bytes_in=counts[BYTES_IN],
                drops_in=counts[DROPS_IN],
                packets_out=counts[PACKETS_OUT],
                bytes_out=counts[BYTES_OUT],
                drops_out=counts[DROPS_OUT],
            )
    return None


def counters_in(*texts: str) -> dict[str, int]:
    """COUNTERS in the texts of /proc/net/snmp and /proc/net/netstat; one that the kernel lacks is left out."""
    found = {name: count for text in texts for name, count in _pairs(text.splitlines())}
    return {name: found[name] for name in COUNTERS if name in found}


def _pairs(lines: list[str]) -> Iterable[tuple[str, int]]:
    """Names and counts: a line of names, then a line of counts, both behind the protocol's name."""
    for names, counts in zip(lines[::2], lines[1::2], strict=False):
        protocol = names.partition(":")[0]
        for name, count in zip(names.split()[1:], counts.split()[1:], strict=False):
            yield protocol + name, int(count)
