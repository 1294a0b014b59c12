"""On which device the frames of a capture arrive, and who the host is there: a row for each interface of the capture.

Every device has a MAC of its own, so the host is known by another one on each of them.
"""

from collections.abc import Sequence

from emu.capture.annotate import pair_of
from emu.capture.linktype import suffix_of
from emu.capture.pcap import Interface
from emu.kernel.machine import NONE
from emu.kernel.record import record


@record
class Inlet:
    """Where the frames of one interface of the capture arrive."""

    dev: int
    mtu: int
    host_known: int  # 0: the device's first unicast frame will tell
    host_mac: int
    host_family: int  # 4 or 6 where frames have no MAC, else 0
    host_addr: int  # IPv6: the low half (signed)
    host_addr_hi: int
    by_direction: int  # 1: the link layer says who sent a frame


def device_table(interfaces: Sequence[Interface], device_names: Sequence[str]) -> list[int]:
    """The device of each interface: the one that the user named for the capture, else that of its name, else the first.

    Annotated captures have names of their own for a device (`eth0-drop`, `eth0.sll`): they are that device.
    """
    return [_device_of(interface, device_names) for interface in interfaces]


def _device_of(interface: Interface, device_names: Sequence[str]) -> int:
    if interface.device != NONE:
        return interface.device
    name, _ = pair_of(interface.name)
    for known in (name, name.removesuffix(f".{suffix_of(interface.linktype)}")):
        if known in device_names:
            return device_names.index(known)
    return 0
