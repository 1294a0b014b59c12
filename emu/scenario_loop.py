"""The tables of a closed loop: how long it runs, who writes, block devices behind the network, downloads, wires.

A scenario with `[run]` or `[[session]]` is played by `emu run`; one without them is a replay's and has none of these.
"""

from typing import Annotated, Literal

from msgspec import Meta, field

from emu.kernel.closed_loop import MAX_CONNS, MAX_SESSIONS, MAX_TASKS
from emu.scenario_parts import Part, Rate, Rcvbuf, Reader, about

SESSION_PORT = 3260
DOWNLOAD_PORT = 19  # chargen sends as long as somebody is connected, and whatever (RFC 864)
HOST_ADDRESS = "10.0.0.2"
MAX_DOWNLOADS = MAX_CONNS - MAX_SESSIONS
MAX_BLACKOUTS = 64

Time = str | Annotated[int, Meta(ge=0, le=1 << 60)]
Size = str | Annotated[int, Meta(ge=0, le=1 << 40)]
LoopRate = str | Annotated[int, Meta(ge=1, le=1 << 40)]
Percent = Annotated[int, Meta(ge=0, le=100)]
OnDevice = Annotated[str, about("On which device; left out: on the first.")]
OverDevice = Annotated[str, about("Over which device, or 802.1Q VLAN of one; left out: the first device.")]


class RunTable(Part, frozen=True):
    """A run of the closed loop, in virtual time."""

    duration: Annotated[Time, about("How long it runs, such as '30s'; a number is ns.", "ns")] = field(
        default="30s", name="for"
    )
    sample: Annotated[Time, about("How often its timeline is looked at.", "ns")] = "10ms"
    seed: Annotated[
        int, Meta(ge=0, le=1 << 62), about("Varies sequence numbers, tags, data, service times and floods.")
    ] = 1
    flood: Annotated[
        list[str],
        about("Crafted traffic at the host, each KIND:KEY=VALUE,... as --flood takes it; it obeys no window."),
    ] = []
    stop_at_lockup: Annotated[bool, about("The run ends when it has locked up; false: it goes on to its end.")] = True


class VmTable(Part, frozen=True):
    """Dirty memory, as in /proc/sys/vm, and what page cache and processes hold when play starts."""

    dirty_ratio: Annotated[Percent, about("Writers wait when so much of memory is dirty (vm.dirty_ratio).", "%")] = 40
    dirty_background_ratio: Annotated[
        Percent, about("From so much on the flusher writes (vm.dirty_background_ratio).", "%")
    ] = 10
    dirty_expire: Annotated[
        Time, about("Pages that have been dirty for so long are written (vm.dirty_expire_centisecs).", "ns")
    ] = "30s"
    dirty_writeback: Annotated[
        Time, about("How often the flusher looks for them; 0: never (vm.dirty_writeback_centisecs).", "ns")
    ] = "5s"
    anonymous: Annotated[Size, about("Memory of processes, which nobody can reclaim: there is no swap.", "B")] = "0MiB"
    clean: Annotated[Size, about("Clean page cache when play starts, which can be reclaimed.", "B")] = "0MiB"


class WriterTable(Part, frozen=True):
    """A process that writes to files on the block devices."""

    rate: Annotated[LoopRate, about("How fast it writes, such as '20MB/s', or 'unlimited'.", "B/s")] = "unlimited"
    start: Annotated[Time, about("When it begins.", "ns")] = "0s"
    stop: Annotated[Time, about("When it ends; nothing: with the run.", "ns")] = ""


class SessionTable(Part, frozen=True):
    """An iSCSI session: a block device behind the network, and what the two ends have negotiated (RFC 7143 13)."""

    device: OverDevice = ""
    target: Annotated[str, about("The target's IPv4 address; its port is 3260.")] = "10.0.0.1"
    queue_depth: Annotated[
        int, Meta(ge=1, le=MAX_TASKS), about("How many commands are outstanding at most.", "commands")
    ] = 32
    write_size: Annotated[Size, about("Bytes of one write at most, whole pages.", "B")] = "4KiB"
    immediate_data: Annotated[bool, about("Data travels with the command, as far as it may (ImmediateData).")] = True
    initial_r2t: Annotated[bool, about("Other data waits for an R2T (InitialR2T).")] = True
    first_burst: Annotated[Size, about("What a write sends unasked at most (FirstBurstLength).", "B")] = "64KiB"
    max_burst: Annotated[Size, about("What one R2T asks for at most (MaxBurstLength).", "B")] = "256KiB"
    max_recv: Annotated[
        Size, about("The data of one PDU to the target at most (its MaxRecvDataSegmentLength).", "B")
    ] = "8KiB"
    service: Annotated[Time, about("How long the target takes for a command, give or take a quarter.", "ns")] = "200us"
    nop_interval: Annotated[Time, about("How often the initiator pings (NOP-Out); 0: never.", "ns")] = "5s"
    nop_timeout: Annotated[
        Time, about("Without an answer for so long the session is given up and opened anew.", "ns")
    ] = "15s"
    sndbuf: Annotated[
        int, Meta(ge=2048, le=1 << 30), about("Send buffer of its socket, truesize and all (SO_SNDBUF).", "B")
    ] = 65_536
    memalloc: Annotated[bool, about("Its socket is marked SOCK_MEMALLOC, where the policy knows the mark.")] = True
    iscsid: Annotated[
        Literal["needs-memory", "locked"],
        about("Login and pings are a daemon's, which waits for memory like any task, or has all that it needs locked."),
    ] = "needs-memory"
    share: Annotated[
        int, Meta(ge=1, le=1000), about("Its share of the flusher's writes, against the other sessions'.")
    ] = 1


class DownloadTable(Part, frozen=True):
    """A TCP connection over which a server sends to the host; it obeys the window."""

    device: OverDevice = ""
    server: Annotated[str, about("The server's IPv4 address; its port is 19 (chargen).")] = "10.0.0.3"
    reader: Annotated[Reader, about("How the host reads it; needs-memory: only when a page is free.")] = "needs-memory"
    rate: Annotated[Rate | None, about("How fast the reader `rate` reads.", "packets/s")] = None
    rcvbuf: Annotated[Rcvbuf | None, about("Its receive buffer; left out: as readers.tcp_rcvbuf.", "B")] = None
    start: Annotated[Time, about("When it begins.", "ns")] = "0s"
    bytes: Annotated[Size, about("How much the server sends; 0: without end.", "B")] = 0


class WireTable(Part, frozen=True):
    """The wire of a device, in each direction."""

    device: OnDevice = ""
    latency: Annotated[Time, about("How long a frame travels one way, behind its last bit.", "ns")] = "50us"
    rate: Annotated[LoopRate, about("How fast bits travel.", "bit/s")] = "1Gbit/s"


class BlackoutTable(Part, frozen=True):
    """A time in which a wire loses every frame."""

    start: Annotated[Time, about("When it begins.", "ns")]
    duration: Annotated[Time, about("How long it lasts.", "ns")] = field(name="for")
    device: OnDevice = ""
    direction: Annotated[Literal["to-host", "from-host", "both"], about("Which frames are lost.")] = "both"
