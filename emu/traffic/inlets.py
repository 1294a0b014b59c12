"""On which device the frames of a capture arrive: a table with a row for each of the capture's interfaces."""

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
