"""What a user asks of a crafted iSCSI conversation, checked, and in numbers."""

import ipaddress
import re
from fractions import Fraction
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, to_builtins

from emu.errors import UsageError
from emu.scenario_parts import Part, about, time_ns_of
from emu.tables import ANY_COUNT, convert_tables, dotted, shown
from emu.traffic.crafted import Crafted, CraftedSocket
from emu.traffic.flood.values import RATE, UNITS
from emu.wire import ethernet, ipv4, ipv6

KIND = "iscsi-acks"

INITIATOR = {4: "10.0.0.2", 6: "fd00::2"}
TARGET = {4: "10.0.0.1", 6: "fd00::1"}
BLOCK_BYTES = 512
MOST_WRITE_BYTES = 16 << 20  # WRITE(10) names its length in 16 bits of blocks
MOST_DATA_SEGMENT_BYTES = 262_144  # Wireshark takes more for damage (iscsi.bogus_pdu_max_data_len)
MOST_LENGTH_BYTES = (1 << 24) - 1  # of what RFC 7143 13.13 and 13.14 negotiate
MAX_QUEUE = 1024
ENDLESS = 1 << 60  # writes, where `count` ends the conversation
USUAL_WRITES = 1000
TIMESTAMP_BYTES = 12  # of TCP options in each segment
LEAST_MSS = 536  # RFC 9293 3.7.1; the login's text fits in one segment then
MOST_MSS = 16_070  # of the largest MTU that emu's drivers take

SIZE_UNITS = {"": 1, "B": 1, "kB": 1000, "KiB": 1 << 10, "MB": 10**6, "MiB": 1 << 20}
MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
LONGEST_WAIT_NS = 3600 * 10**9

Port = Annotated[int, Meta(ge=1, le=65535)]
Many = Annotated[int, Meta(ge=1, le=ANY_COUNT)]


class IscsiAcks(Part, frozen=True):
    """A target's acknowledgements of an initiator's writes: login, writes, logout."""

    initiator: Annotated[
        str | None, about("The host: the initiator's IPv4 or IPv6 address; left out: 10.0.0.2 or fd00::2.")
    ] = None
    target: Annotated[str | None, about("The target's address; left out: 10.0.0.1 or fd00::1.")] = None
    initiator_mac: Annotated[str, about("The host's MAC address.")] = "02:00:00:00:00:02"
    target_mac: Annotated[str, about("The peer's MAC address.")] = "02:00:00:00:00:01"
    port: Annotated[Port, about("The target's TCP port.")] = 3260
    from_port: Annotated[Port | None, about("The initiator's TCP port; left out: by the seed.")] = None
    writes: Annotated[
        Many | None, about("How many writes; left out: 1000, or as many as `count` frames take.", "writes")
    ] = None
    write_size: Annotated[str | int, about("Bytes of a write, a multiple of 512, such as '4KiB'.", "B")] = "4KiB"
    queue_depth: Annotated[
        int, Meta(ge=1, le=MAX_QUEUE), about("How many writes are outstanding at most.", "writes")
    ] = 8
    direction: Annotated[
        Literal["to-initiator", "both"], about("Frames that the initiator receives, or also those that it sends.")
    ] = "to-initiator"
    immediate_data: Annotated[bool, about("Data travels with the command, as far as it may (ImmediateData).")] = True
    first_burst: Annotated[str | int, about("What a write sends unasked at most (FirstBurstLength).", "B")] = "64KiB"
    max_burst: Annotated[str | int, about("What one R2T asks for at most (MaxBurstLength).", "B")] = "256KiB"
    max_recv: Annotated[
        str | int, about("The data of one PDU to the target at most (its MaxRecvDataSegmentLength).", "B")
    ] = "8KiB"
    mss: Annotated[
        Annotated[int, Meta(ge=LEAST_MSS, le=MOST_MSS)] | None,
        about("TCP's maximum segment size; left out: of an MTU of 1500.", "B"),
    ] = None
    lun: Annotated[int, Meta(ge=0, le=16_383), about("The logical unit.")] = 1
    digests: Annotated[
        Literal["none", "header", "data", "both"],
        about("Which CRC32C digests PDUs carry (Wireshark 4.0 loses its way behind a data digest of a PDU in pieces)."),
    ] = "none"
    service: Annotated[str | int, about("How long the target takes for a write, give or take a quarter.", "ns")] = (
        "200us"
    )
    rtt: Annotated[str | int, about("The round trip between the two ends.", "ns")] = "100us"
    pps: Annotated[
        str | int | None, about("Writes per second at most, such as 500 or '2k'; left out: no limit.", "writes/s")
    ] = None
    nop_interval: Annotated[str | int | None, about("The target pings that often (NOP-In); left out: never.", "ns")] = (
        None
    )
    seed: Annotated[
        int, Meta(ge=0), about("Varies sequence numbers, tags, the port, the data and the service time.")
    ] = 1
    count: Annotated[Many | None, about("Stop after so many frames.", "frames")] = None


class Terms(NamedTuple):
    """The options in numbers: addresses decided, sizes in bytes, times in ns, rates as fractions."""

    family: int
    initiator: str
    target: str
    writes: int
    write_bytes: int
    immediate_bytes: int
    first_burst_bytes: int
    max_burst_bytes: int
    max_recv_bytes: int
    mss: int
    header_digest: bool
    data_digest: bool
    service_ns: int
    rtt_ns: int
    pps: Fraction  # 0: no limit
    nop_ns: int  # 0: never

    @property
    def tcp_at(self) -> int:
        """Where the TCP header begins in each frame."""
        return ethernet.HEADER_LEN + (ipv4.HEADER_LEN if self.family == 4 else ipv6.HEADER_LEN)


def refuse(key: str, value: object, expected: str) -> UsageError:
    """One line: the key, what was expected, what it was given."""
    return UsageError(f"{KIND}: {key}: expected {expected}, found {shown(value)}")


def check(options: IscsiAcks) -> Terms:
    """The options in numbers.

    Errors: UsageError for what cannot be, naming the key.
    """
    for path, sentence in convert_tables(to_builtins(options), IscsiAcks)[1]:
        raise UsageError(f"{KIND}: {dotted(path)}: {sentence}")
    family, initiator, target = _ends(options)
    write_bytes = _size(options, "write_size", MOST_WRITE_BYTES)
    first, most = (_size(options, key, MOST_LENGTH_BYTES) for key in ("first_burst", "max_burst"))
    max_recv = _size(options, "max_recv", MOST_DATA_SEGMENT_BYTES)
    if first > most:
        raise refuse("first_burst", options.first_burst, f"at most max_burst, {most} (RFC 7143 13.14)")
    usual_mss = 1460 if family == 4 else 1440
    unlimited = USUAL_WRITES if options.count is None else ENDLESS
    return Terms(
        family=family,
        initiator=initiator,
        target=target,
        writes=unlimited if options.writes is None else options.writes,
        write_bytes=write_bytes,
        immediate_bytes=min(write_bytes, first, max_recv) if options.immediate_data else 0,
        first_burst_bytes=first,
        max_burst_bytes=most,
        max_recv_bytes=max_recv,
        mss=options.mss or usual_mss,
        header_digest=options.digests in ("header", "both"),
        data_digest=options.digests in ("data", "both"),
        service_ns=_time(options, "service", 0),
        rtt_ns=_time(options, "rtt", 0),
        pps=_rate(options),
        nop_ns=0 if options.nop_interval is None else _time(options, "nop_interval", 1000),
    )


def _ends(options: IscsiAcks) -> tuple[int, str, str]:
    """The family and both addresses; the one that is left out follows the other."""
    given = {}
    for key in ("initiator", "target"):
        text = getattr(options, key)
        if text is not None:
            try:
                given[key] = ipaddress.ip_address(text)
            except ValueError:
                raise refuse(key, text, "an IPv4 or IPv6 address") from None
            address = given[key]
            if address.is_multicast or address.is_unspecified or getattr(address, "scope_id", None) is not None:
                raise refuse(key, text, "the address of one host, without a zone")
    families = [address.version for address in given.values()]
    if len(set(families)) > 1:
        raise refuse("target", options.target, f"an IPv{families[0]} address, as initiator {options.initiator} is one")
    family = families[0] if families else 4
    initiator = str(given.get("initiator", INITIATOR[family]))
    target = str(given.get("target", TARGET[family]))
    if initiator == target:
        raise refuse("target", target, "another address than the initiator's")
    for key in ("initiator_mac", "target_mac"):
        text = getattr(options, key)
        if not MAC.fullmatch(text) or int(text[:2], 16) & 1:
            raise refuse(key, text, "the MAC address of one station, such as 02:00:00:00:00:02")
    return family, initiator, target


def _size(options: IscsiAcks, key: str, most: int) -> int:
    """Bytes, in whole blocks: so nothing is ever padded, and a burst ends where a block does."""
    value = getattr(options, key)
    found = re.fullmatch(r"(\d{1,9})\s*([kKM]?i?B?)", str(value))
    size = int(found[1]) * SIZE_UNITS[found[2]] if found and found[2] in SIZE_UNITS else 0
    if not BLOCK_BYTES <= size <= most or size % BLOCK_BYTES:
        raise refuse(key, value, f"a multiple of {BLOCK_BYTES} up to {most} bytes, such as 4KiB")
    return size


def _time(options: IscsiAcks, key: str, least_ns: int) -> int:
    value = getattr(options, key)
    try:
        time_ns = time_ns_of(value)
    except ValueError:
        time_ns = -1
    if not least_ns <= time_ns <= LONGEST_WAIT_NS:
        raise refuse(key, value, f"a time from {least_ns} ns to 1h, such as 200us")
    return time_ns


def _rate(options: IscsiAcks) -> Fraction:
    if options.pps is None:
        return Fraction(0)
    found = RATE.fullmatch(str(options.pps))
    rate = Fraction(found[1]) * UNITS[found[2]] if found else Fraction(0)
    if not 0 < rate <= 10**9:
        raise refuse("pps", options.pps, "writes per second above 0, such as 500 or 2k")
    return rate


def recipe_of(options: IscsiAcks) -> str:
    """The options as `--flood` takes them; those with their default are left out."""
    words = []
    for key in options.__struct_fields__:
        value = getattr(options, key)
        if value != getattr(IscsiAcks(), key):
            words.append(f"{key.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}")
    return f"{KIND}:{','.join(words)}" if words else KIND


def crafted_of_session(options: IscsiAcks, terms: Terms) -> Crafted:
    """What the file says of itself: the host is the initiator, and its one socket is what block I/O waits for."""
    socket = CraftedSocket(match=f"tcp host {terms.target} port {options.port}", memalloc=True)
    return Crafted(
        recipe=recipe_of(options),
        host_mac=options.initiator_mac.lower(),
        host_addresses=[terms.initiator],
        sockets=[socket],
    )
