"""The experiment as data: machine, policy, devices, sockets, pressure, what to expect.

A scenario is a TOML file, checked against `Scenario` (schema 1): every problem is told with its line and key.  What
the file leaves out has the default written here, which is the default crunch of a replay.  Each key's meaning, unit
and bounds stand in its annotation: check, messages, `emu scenarios schema` and docs/scenario.md are made from them.
"""

import hashlib
import re
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from emu.kernel.closed_loop import MAX_SESSIONS, MAX_WRITERS
from emu.kernel.e1000 import E1000_RXBUFFER_256
from emu.kernel.machine import (
    MAX_DEVICES,
    MAX_LOCAL_ADDRS,
    MAX_ORDER,
    MAX_PACKET_SOCKS,
    MAX_PLAN,
    MAX_RING,
    MAX_RULES,
    MM_2_6_12,
    MM_6X,
    PAGE_SIZE,
)
from emu.kernel.netdevice import PS_PAGE_BUFFERS
from emu.kernel.policy import DEFAULT_POLICY
from emu.kernel.replace import CP_MAX_MTU, CP_RX_RING_SIZE, CP_WEIGHT, TG3_RX_RING_MAX, TG3_RX_RING_PENDING
from emu.kernel.tcp_mem import tcp_bind_hash_order
from emu.scenario_loop import (
    MAX_BLACKOUTS,
    MAX_DOWNLOADS,
    BlackoutTable,
    DownloadTable,
    RunTable,
    SessionTable,
    VmTable,
    WireTable,
    WriterTable,
)
from emu.scenario_parts import Count, Part, Rate, Rcvbuf, Reader, about
from emu.tables import Key, keys_of
from emu.traffic.arrivals import OFFLOADS
from emu.wire.headers import CHECKSUMS

SCHEMA = 1
RING_BUFFERS_LEFT = 32  # what the background leaves in the ring: the driver shows the NIC one step of 16 of them

SMALL_BIND_HASH_ORDER = 3

Expected = str | int | float | bool
LOOP_TABLES = ("run", "vm", "writer", "session", "download", "wire", "blackout")
FragBytes = Annotated[int, Meta(ge=0, le=64 << 20)]  # MAX_SKBS fragments are more
FragTime = Annotated[int, Meta(ge=1, le=3_600_000_000_000)]


class Geometry(Part, frozen=True):
    """Sizes that belong to a kernel build and its NIC, whatever the policy."""

    sk_buff_bytes: int
    l1_bytes: int
    mm: int  # kernel.machine MM_*: page allocator, slab, sizes of buffers
    driver: str  # of a device that does not say
    netdev_max_backlog: int
    netdev_budget: int  # 0: netdev_max_backlog
    udp_rcvbuf: int
    tcp_rcvbuf: int
    source: str


DEFAULT_GEOMETRY = "2.6.12-e1000"
GEOMETRIES = {
    "2.6.12-e1000": Geometry(
        sk_buff_bytes=168,
        l1_bytes=128,
        mm=MM_2_6_12,
        driver="e1000",
        netdev_max_backlog=300,
        netdev_budget=0,
        udp_rcvbuf=108_544,
        tcp_rcvbuf=87_380,
        source="Linux 2.6.12 i386, NETFILTER, P4: include/linux/skbuff.h, net/core/sock.c, net/ipv4/tcp.c",
    ),
    "6.x-e1000e": Geometry(
        sk_buff_bytes=232,
        l1_bytes=64,
        mm=MM_6X,
        driver="e1000e",
        netdev_max_backlog=1000,
        netdev_budget=300,
        udp_rcvbuf=212_992,
        tcp_rcvbuf=131_072,
        source="Linux 6.1 x86-64 as Debian builds it: include/linux/skbuff.h, net/core/sock.c, net/ipv4/tcp.c; SLUB",
    ),
}
assert all(each.l1_bytes.bit_count() == 1 for each in GEOMETRIES.values()), "skb_data_align masks bits"


class MachineTable(Part, frozen=True):
    """The emulated host."""

    geometry: Annotated[str, about("Sizes of a kernel build and its NIC: a row of the table of geometries.")] = (
        "2.6.12-e1000"
    )
    memory: Annotated[
        str | int, about("Memory: a size such as '128MiB' or '32768 pages'; a bare number is pages.", "pages")
    ] = "128MiB"
    cpu_ns_per_packet: Annotated[
        int, Meta(ge=0, le=1_000_000_000), about("What the softirq costs for each packet: an assumption.", "ns")
    ] = 2_000
    cpu_ps_per_byte: Annotated[
        int, Meta(ge=0, le=1_000_000), about("What it costs for each byte of a packet: an assumption.", "ps")
    ] = 1_000
    thp: Annotated[
        Literal["on", "off"], about("Transparent huge pages, which raise min_free_kbytes (geometry 6.x only).")
    ] = "off"
    netdev_max_backlog: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        about("Packets of the input queue, in 2.6.12 of a softirq round too; left out: the geometry's.", "packets"),
    ] = None


class ZoneTable(Part, frozen=True):
    """What is known of a zone of a real machine; what is left out is computed as the kernel does.

    With the geometry 6.x `Normal` is what the kernel calls DMA32 and Normal, together.
    """

    name: Annotated[Literal["DMA", "Normal"], about("Which zone.")]
    present_pages: Annotated[Annotated[int, Meta(ge=256, le=1 << 24)] | None, about("Pages that it has.", "pages")] = (
        None
    )
    free_pages: Annotated[Count | None, about("Free pages when play starts.", "pages")] = None
    min_pages: Annotated[Count | None, about("Its watermark min.", "pages")] = None
    low_pages: Annotated[Count | None, about("Its watermark low.", "pages")] = None
    high_pages: Annotated[Count | None, about("Its watermark high.", "pages")] = None
    lowmem_reserve_pages: Annotated[
        Count | None, about("What it keeps from callers that a higher zone could serve.", "pages")
    ] = None


class PolicyTable(Part, frozen=True):
    """The kernel's rules: a row of the policy table, bugs that its revision was posted with, single rules changed.

    `as_posted`: "" for none, "all", or numbers of the bug table such as "1,8,11".
    """

    name: Annotated[str, about("A row of `emu policies`.")] = DEFAULT_POLICY
    as_posted: Annotated[
        str, about("Bugs that its revision was posted with: nothing, 'all', or numbers of `emu bugs` such as '1,8,11'.")
    ] = ""
    rules: Annotated[dict[str, int], about("Rules of that row changed, by name, each to the number of an answer.")] = {}


class DriverRing(NamedTuple):
    """A driver's receive ring: its usual size, its bounds and steps, and how many packets one poll takes at most."""

    usual: int
    least: int
    most: int
    step: int
    weight: int
    most_mtu: int


DRIVER_RINGS = {
    "e1000": DriverRing(256, 80, MAX_RING, 16, 64, 16_110),
    "e1000-ps": DriverRing(256, 80, MAX_RING, 16, 64, PS_PAGE_BUFFERS * PAGE_SIZE + E1000_RXBUFFER_256 - 1),
    "8139cp": DriverRing(CP_RX_RING_SIZE, CP_RX_RING_SIZE, CP_RX_RING_SIZE, 1, CP_WEIGHT, CP_MAX_MTU),
    "tg3": DriverRing(TG3_RX_RING_PENDING, 1, TG3_RX_RING_MAX, 1, 64, 1500),
    "e1000e": DriverRing(256, 80, MAX_RING, 16, 64, 16_110),
}


class DeviceTable(Part, frozen=True):
    """A network device."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z][A-Za-z0-9._]{0,14}$"),
        about("Its name; --device and the interfaces of a capture refer to it."),
    ] = "eth0"
    mtu: Annotated[int, Meta(ge=68, le=16_110), about("The largest packet without Ethernet's header.", "B")] = 1500
    driver: Annotated[
        Literal["e1000", "e1000-ps", "8139cp", "tg3", "e1000e"] | None,
        about("Its driver: e1000-ps splits packets, 8139cp and tg3 replace buffers; left out: the geometry's."),
    ] = None
    napi: Annotated[bool, about("Polled in the softirq; false: netif_rx from the interrupt (e1000 only).")] = True
    promisc: Annotated[bool, about("Takes frames for other hosts.")] = False
    ring: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_RING)] | None,
        about("Descriptors of its receive ring; left out: the driver's.", "descriptors"),
    ] = None
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=4096)] | None, about("Packets of one poll; left out: the driver's.", "packets")
    ] = None
    rx_reserve: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_RING)] | None,
        about("Cap on its buffers from the reserve; left out: the policy's.", "skbs"),
    ] = None


class UpperTable(Part, frozen=True):
    """A device over devices that stand before it; only a VLAN has an id."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9._]{0,14}$"), about("Its name.")]
    kind: Annotated[Literal["vlan", "bond", "bridge"], about("What it is.")]
    lower: Annotated[
        list[str], Meta(min_length=1, max_length=MAX_DEVICES), about("The devices below it, which stand before it.")
    ]
    vlan_id: Annotated[Annotated[int, Meta(ge=0, le=4094)] | None, about("The VLAN id of a VLAN.")] = None
    vlan_protocol: Annotated[Literal["802.1q", "802.1ad"], about("The kind of tag of a VLAN.")] = "802.1q"
    promisc: Annotated[bool, about("A bridge takes frames for other hosts up.")] = False


class AtTable(Part, frozen=True):
    """Something that happens at a time after the first frame: an interface down, up or with another MTU, a sysctl, or
    pages of the normal zone that others take (negative: give back)."""

    time: Annotated[
        str | Annotated[int, Meta(ge=0, le=1 << 60)],
        about("After the first frame: such as '1.5s'; a number is ns.", "ns"),
    ]
    action: Annotated[
        Literal["down", "up", "mtu", "min_free_kbytes", "pages"],
        about("An interface goes down, up, or gets an MTU; the sysctl is written; others take pages."),
    ]
    device: Annotated[str | None, about("The interface, for down, up and mtu.")] = None
    value: Annotated[
        Annotated[int, Meta(ge=-(1 << 24), le=1 << 24)] | None,
        about("The MTU, the kB of the sysctl, or pages of the normal zone (negative: given back)."),
    ] = None


class PressureTable(Part, frozen=True):
    """Who else wants memory when play starts."""

    start: Annotated[
        Literal["crunch", "quiet"],
        about(
            "Crunch: every zone stands at its GFP_ATOMIC floor when play starts; quiet: all memory is free, which is "
            "the default of `emu run`."
        ),
    ] = "crunch"
    free_pages_above_floor: Annotated[
        Count, about("Of a crunch: free pages of each zone above its floor.", "pages")
    ] = 0
    free_blocks: Annotated[
        Annotated[list[Annotated[int, Meta(ge=0, le=1 << 24)]], Meta(max_length=MAX_ORDER)] | None,
        about("Of a crunch: free blocks of each order of the normal zone; left out: all at order 0.", "blocks"),
    ] = None
    background_skbs: Annotated[
        Count | None,
        about("Buffers of each ring that sockets outside the capture hold; left out: all but 32 of the ring.", "skbs"),
    ] = None
    writers: Annotated[
        Literal["blocked", "none"] | None,
        about("Blocked writers take every page above pages_min; left out: blocked in a crunch, none in a quiet."),
    ] = None
    memalloc_socket: Annotated[
        bool, about("A SOCK_MEMALLOC socket that the capture does not show is open already (mainline's static key).")
    ] = False


class ReadersTable(Part, frozen=True):
    """Who reads what the sockets hold."""

    ordinary: Annotated[Reader, about("How ordinary sockets are read; needs-memory: only when a page is free.")] = (
        "needs-memory"
    )
    memalloc: Annotated[
        Reader, about("How sockets are read that block I/O depends on; a [[session]]: always at once.")
    ] = "immediate"
    rate: Annotated[Rate, about("How fast the reader `rate` reads.", "packets/s")] = 1_000
    udp_rcvbuf: Annotated[Rcvbuf | None, about("Receive buffer of UDP sockets; left out: the geometry's.", "B")] = None
    tcp_rcvbuf: Annotated[Rcvbuf | None, about("Receive buffer of TCP sockets; left out: the geometry's.", "B")] = None


class TcpTable(Part, frozen=True):
    """TCP's limits; `readers.tcp_rcvbuf` overrides the default of `rmem`."""

    mem: Annotated[
        Annotated[list[Annotated[int, Meta(ge=1, le=1 << 40)]], Meta(min_length=3, max_length=3)] | None,
        about("What all sockets together may hold: low, pressure, high (sysctl); left out: by memory.", "pages"),
    ] = None
    rmem: Annotated[
        Annotated[list[Annotated[int, Meta(ge=256, le=1 << 30)]], Meta(min_length=3, max_length=3)] | None,
        about("A receive buffer: least, default, most (sysctl); left out: by memory and geometry.", "B"),
    ] = None


class SocketTable(Part, frozen=True):
    """What is special about some sockets."""

    match: Annotated[str, about("Which, by their remote end: tcp|udp [host A] [port N] [or ...].")]
    local_port: Annotated[int, Meta(ge=0, le=65535), about("Only those of this port of the host; 0: any.")] = 0
    memalloc: Annotated[bool | None, about("Whether block I/O depends on them; left out: as replay.memalloc says.")] = (
        None
    )
    closed: Annotated[bool, about("Nothing listens there.")] = False
    reader: Annotated[Reader | None, about("How they are read; left out: as `readers` says.")] = None
    rate: Annotated[Rate | None, about("How fast the reader `rate` reads them.", "packets/s")] = None
    rcvbuf: Annotated[Rcvbuf | None, about("Their receive buffer.", "B")] = None
    members: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        about("How many UDP sockets share the port: each gets a multicast or broadcast.", "sockets"),
    ] = None


class IpTable(Part, frozen=True):
    """The IP layers: addresses, forwarding, reassembly."""

    local_addrs: Annotated[
        list[str],
        Meta(max_length=MAX_LOCAL_ADDRS),
        about("The host's own addresses; none: whatever reaches its MAC is its own."),
    ] = []
    forward: Annotated[bool, about("The host forwards what is for others.")] = False
    ipfrag_high_thresh_bytes: Annotated[
        FragBytes, about("IPv4 fragments may hold so much; above it the oldest go (sysctl).", "B")
    ] = 262_144
    ipfrag_low_thresh_bytes: Annotated[FragBytes, about("So much stays when they go (sysctl).", "B")] = 196_608
    ipfrag_time_ns: Annotated[FragTime, about("How long a datagram's fragments are waited for (sysctl).", "ns")] = (
        30_000_000_000
    )
    ip6frag_high_thresh_bytes: Annotated[FragBytes, about("The same for IPv6.", "B")] = 262_144
    ip6frag_low_thresh_bytes: Annotated[FragBytes, about("The same for IPv6.", "B")] = 196_608
    ip6frag_time_ns: Annotated[FragTime, about("The same for IPv6.", "ns")] = 60_000_000_000


class TapTable(Part, frozen=True):
    """A packet tap (AF_PACKET)."""

    device: Annotated[str, about("On which device; left out: on all.")] = ""
    reader: Annotated[Reader | None, about("How it is read; left out: as `readers.ordinary` says.")] = None
    rate: Annotated[Rate | None, about("How fast the reader `rate` reads it.", "packets/s")] = None
    rcvbuf: Annotated[Rcvbuf | None, about("Its receive buffer.", "B")] = None


class RawTable(Part, frozen=True):
    """A raw socket of an IP protocol."""

    protocol: Annotated[int, Meta(ge=0, le=255), about("The IP protocol.")]
    family: Annotated[Literal[4, 6], about("IPv4 or IPv6.")] = 4
    reader: Annotated[Reader | None, about("How it is read; left out: as `readers.ordinary` says.")] = None
    rate: Annotated[Rate | None, about("How fast the reader `rate` reads it.", "packets/s")] = None
    rcvbuf: Annotated[Rcvbuf | None, about("Its receive buffer.", "B")] = None


DEFAULT_MEMALLOC = "iscsi"


class ReplayTable(Part, frozen=True):
    """How a capture is played."""

    memalloc: Annotated[
        str, about("Flows that block I/O depends on, by their remote end, or iscsi, nbd, nvme-tcp, nfs, none.")
    ] = DEFAULT_MEMALLOC
    closed: Annotated[str, about("Ports of the host where nothing listens; the same grammar.")] = ""
    vlans: Annotated[
        Literal["infer", "listed"],
        about("Infer: a VLAN device exists for every tag met; listed: only those of `upper`."),
    ] = "infer"
    offload: Annotated[
        Literal["split", "drop", "jumbo"],
        about("Frames longer than the MTU: split into the segments they stand for, dropped, or received whole."),
    ] = "split"
    checksums: Annotated[
        Literal["auto", "verify", "trust"],
        about("Auto: believe checksums that a NIC would have finished; verify: believe none unseen; trust: all."),
    ] = "auto"
    flood: Annotated[
        list[str],
        about("Crafted traffic beside the captures, each KIND:KEY=VALUE,... as --flood takes it (emu flood --list)."),
    ] = []
    write_back: Annotated[
        Literal["followed", "ignored"],
        about(
            "Followed: iSCSI is followed, and a delivered SCSI Response frees its write's pages; ignored: it is not."
        ),
    ] = "followed"
    retransmit: Annotated[
        bool,
        about(
            "Segments of memalloc flows that were dropped come again after the sender's timer (200 ms, doubling); "
            "false: what was dropped counts as received."
        ),
    ] = False
    peers: Annotated[
        Literal["captured", "real"],
        about(
            "Captured: what was dropped counts as received, for the capture goes on as if it had been; real: it is "
            "lost, and whoever sent it sends it again (emu live, and replays of its recordings)."
        ),
    ] = "captured"
    drain_ns: Annotated[
        int, Meta(ge=0, le=3_600_000_000_000), about("For how long the machine runs on behind the last frame.", "ns")
    ] = 1_000_000_000


assert ReplayTable.__annotations__["offload"].__args__[0].__args__ == OFFLOADS
assert ReplayTable.__annotations__["checksums"].__args__[0].__args__ == CHECKSUMS


class Scenario(Part, frozen=True):
    """A whole experiment."""

    schema: Annotated[Literal[1], about("Version of this schema.")] = 1
    why: Annotated[str, about("What the experiment is for, in words.")] = ""
    machine: MachineTable = MachineTable()
    zone: Annotated[list[ZoneTable], Meta(max_length=2)] = []
    policy: PolicyTable = PolicyTable()
    device: Annotated[list[DeviceTable], Meta(min_length=1, max_length=MAX_DEVICES)] = msgspec.field(
        default_factory=lambda: [DeviceTable()]
    )
    upper: Annotated[list[UpperTable], Meta(max_length=MAX_DEVICES - 1)] = []
    at: Annotated[list[AtTable], Meta(max_length=MAX_PLAN)] = []
    pressure: PressureTable = PressureTable()
    readers: ReadersTable = ReadersTable()
    tcp: TcpTable = TcpTable()
    socket: Annotated[list[SocketTable], Meta(max_length=MAX_RULES // 2)] = []
    ip: IpTable = IpTable()
    tap: Annotated[list[TapTable], Meta(max_length=MAX_PACKET_SOCKS)] = []
    raw: Annotated[list[RawTable], Meta(max_length=MAX_PACKET_SOCKS)] = []
    replay: ReplayTable = ReplayTable()
    run: RunTable | None = None
    vm: VmTable | None = None
    writer: Annotated[list[WriterTable], Meta(max_length=MAX_WRITERS)] = []
    session: Annotated[list[SessionTable], Meta(max_length=MAX_SESSIONS)] = []
    download: Annotated[list[DownloadTable], Meta(max_length=MAX_DOWNLOADS)] = []
    wire: Annotated[list[WireTable], Meta(max_length=MAX_DEVICES)] = []
    blackout: Annotated[list[BlackoutTable], Meta(max_length=MAX_BLACKOUTS)] = []
    expect: Annotated[
        list[str] | dict[str, dict[str, Expected]],
        about(
            "What must hold of the summary: a list of PATH OP VALUE, such as 'memalloc.dropped == 0'; or tables "
            '[expect."POLICY"], `*` for all, in which each PATH has its value, or OP VALUE.'
        ),
    ] = []

    @property
    def is_run(self) -> bool:
        """Whether it is played by `emu run`: the loop is closed."""
        return self.run is not None

    def digest(self) -> str:
        """SHA-256 of the complete scenario, defaults included; of a replay, without the tables of the closed loop."""
        whole = msgspec.json.encode(self, order="deterministic")
        if not self.is_run:  # as before there were such tables
            tables = msgspec.json.decode(whole)
            whole = msgspec.json.encode({key: table for key, table in tables.items() if key not in LOOP_TABLES})
        return hashlib.sha256(whole).hexdigest()


def readers_of(scenario: Scenario) -> dict[str, str]:
    """How sockets are read, by the key that says so."""
    said = {"readers.ordinary": scenario.readers.ordinary, "readers.memalloc": scenario.readers.memalloc}
    named = {f"socket.{number}.reader": each.reader for number, each in enumerate(scenario.socket)}
    return said | {key: reader for key, reader in named.items() if reader is not None}


def memory_pages(scenario: Scenario) -> int:
    """The machine's memory in pages of 4096 bytes; a bare number in the scenario is pages.

    Errors: ValueError, which the scenario's check turns into a problem.
    """
    memory = scenario.machine.memory
    if isinstance(memory, int):
        return memory
    found = re.fullmatch(r"(\d{1,9})\s*(KiB|MiB|GiB|pages)", memory)
    if not found:
        raise ValueError(f"'{memory}': expected a size such as '128MiB', or a number of pages")
    unit = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "pages": PAGE_SIZE}[found[2]]
    return int(found[1]) * unit // PAGE_SIZE


def geometry_of(scenario: Scenario) -> Geometry:
    """The machine's geometry; the default one where the scenario names none that there is, which its check tells."""
    return GEOMETRIES.get(scenario.machine.geometry, GEOMETRIES[DEFAULT_GEOMETRY])


def driver_of(scenario: Scenario, device: DeviceTable) -> str:
    """A device's driver: as said, else that of the geometry's time."""
    return device.driver or geometry_of(scenario).driver


def ring_of(scenario: Scenario, device: DeviceTable) -> int:
    """How many receive descriptors a device has: as said, else its driver's default."""
    return DRIVER_RINGS[driver_of(scenario, device)].usual if device.ring is None else device.ring


def weight_of(scenario: Scenario, device: DeviceTable) -> int:
    """How many packets one poll of a device takes at most: as said, else its driver's default."""
    return DRIVER_RINGS[driver_of(scenario, device)].weight if device.weight is None else device.weight


def max_backlog(scenario: Scenario) -> int:
    """Packets of the input queue: as said, else the geometry's default."""
    return scenario.machine.netdev_max_backlog or geometry_of(scenario).netdev_max_backlog


def vlans_of(scenario: Scenario) -> dict[str, UpperTable]:
    """The 802.1Q VLANs that lie right over a NIC, by name: connections may be over them."""
    nics = [device.name for device in scenario.device]
    return {
        upper.name: upper
        for upper in scenario.upper
        if upper.kind == "vlan" and upper.vlan_protocol == "802.1q" and upper.lower[0] in nics and upper.vlan_id
    }


def background_skbs(scenario: Scenario, device: DeviceTable) -> int:
    """How many of a device's ring buffers sockets outside the capture hold when play starts."""
    asked = scenario.pressure.background_skbs
    return ring_of(scenario, device) - RING_BUFFERS_LEFT if asked is None else asked


def writers(scenario: Scenario) -> str:
    """Whether blocked writers take what appears above pages_min."""
    return scenario.pressure.writers or ("blocked" if scenario.pressure.start == "crunch" else "none")


def tcp_rmem(scenario: Scenario) -> list[int]:
    """TCP's receive buffers: least, default, most; smaller on a machine whose bind hash is (2.6.12 tcp_init)."""
    if scenario.tcp.rmem is not None:
        return scenario.tcp.rmem
    if tcp_bind_hash_order(memory_pages(scenario)) < SMALL_BIND_HASH_ORDER:
        return [4096, 43_689, 2 * 43_689]
    default = geometry_of(scenario).tcp_rcvbuf
    return [4096, default, 2 * default]


def schema_keys() -> list[Key]:
    """Every key of the scenario (`tables.Key`)."""
    return keys_of(Scenario)


def notes_on_geometry(scenario: Scenario) -> list[str]:
    """What the reader must know of a policy on the geometry of another kernel."""
    if scenario.policy.name == "mainline" and geometry_of(scenario).mm != MM_6X:
        note = (
            f"policy mainline runs on the geometry {scenario.machine.geometry}, so that policies differ in one thing; "
            "machine.geometry='6.x-e1000e' gives it the allocators and the driver of its own time"
        )
        return [note]
    return []
