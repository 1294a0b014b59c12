"""The two interfaces of a live run: TAPs that are made, or interfaces that exist."""

from contextlib import ExitStack
from typing import Any, NamedTuple

from emu.engine.plain import Engine
from emu.errors import UsageError
from emu.live.lab.lab import Lab, Tap
from emu.live.lab.links import MAC
from emu.live.packet_ring import PacketPort, answers_for_others, interface_exists, open_packet
from emu.live.ring import SCRATCH_BYTES
from emu.traffic.host import Host, mac_number

Port = Tap | PacketPort


class Asked(NamedTuple):
    """An interface as the command line asks for it."""

    option: str
    name: str
    namespace: str
    address: str


def open_ports(lab: Lab, stack: ExitStack, host: Asked, towards: Asked, longest: int) -> tuple[Port, Port]:
    """Open the host's interface and the wire's; `longest` are the bytes of a frame that needs no cutting.

    Errors: UsageError.
    """

    def opened(asked: Asked) -> Port:
        if not interface_exists(asked.name, asked.namespace):
            return lab.tap(asked.name, namespace=asked.namespace, address=asked.address)
        if asked.address:
            said = f"--{asked.option}-address {asked.address}: interface {asked.name} exists"
            raise UsageError(f"{said}, and emu changes nothing of it")
        port = open_packet(asked.name, asked.namespace, longest)
        stack.callback(port.close)
        return port

    return opened(host), opened(towards)


def warnings(host: Port, towards: Port) -> list[str]:
    """What speaks beside or past emu, in sentences."""
    told = []
    for port in (host, towards):
        if isinstance(port, PacketPort) and port.addresses:
            both = "the kernel answers there as well as the host behind emu"
            end = f"`ip addr flush dev {port.name}` ends that"
            told.append(f"interface {port.name} has {', '.join(port.addresses)}: {both}; {end}")
    together = isinstance(towards, PacketPort) and isinstance(host, Tap) and host.namespace == towards.namespace
    if together and answers_for_others(towards.name, towards.namespace):
        past = f"the kernel answers ARP on {towards.name} for addresses of {host.name}, and frames go past emu"
        aside = f"give the host a --host-namespace, or `sysctl net.ipv4.conf.{towards.name}.arp_ignore=1`"
        told.append(f"{towards.name} and {host.name} are in one namespace: {past}; {aside}")
    return told


def tell_rings(engine: Engine, wire: Any, host: Port, towards: Port) -> list[Any]:
    """Tell the wire of rings; their memory, the host's first, for interfaces that have none a byte."""
    memories = []
    for place, (port, ring) in enumerate(((host, wire.host_ring), (towards, wire.wire_ring))):
        if isinstance(port, PacketPort):
            engine.fill(ring, port.ring | {"scratch": place * SCRATCH_BYTES})
        memories.append(engine.view(port.memory if isinstance(port, PacketPort) else bytearray(1)))
    return memories


def host_behind(host: Port, mac: str) -> Host:
    """Who the host is; `mac` is what the user says.  Errors: UsageError when nobody says what its MAC is."""
    if isinstance(host, Tap):
        if mac:
            raise UsageError(f"--host-mac {mac}: {host.name} is a TAP, whose own MAC is the host's")
        return Host(mac_number(host.mac), True, "the interface that faces it")
    if not MAC.fullmatch(mac):
        expected = "expected the MAC of the host behind it, like --host-mac 02:00:00:00:00:01"
        raise UsageError(f"--host-if {host.name}: the interface exists; {expected}")
    return Host(mac_number(mac), True, "--host-mac")


def put_together(wire: Any, host: Port, towards: Port) -> list[str]:
    """What an existing interface gave in another form than a wire would, in sentences."""
    sentences = []
    for port, ring in ((host, wire.host_ring), (towards, wire.wire_ring)):
        if int(ring.aggregated):
            here = f"`ethtool -K {port.name} gro off lro off`"
            there = "`ethtool -K ... tso off gso off` on a veth's other end"
            what = f"{int(ring.aggregated)} frames of {port.name} came aggregated and were cut as the wire carries them"
            sentences.append(f"{what}, each at one time; {here}, and {there}, keeps them apart")
    return sentences
