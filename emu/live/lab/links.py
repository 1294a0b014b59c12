"""Interfaces that emu makes: names, addresses, veth pairs, routes."""

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Any

from emu.errors import UsageError
from emu.live.lab.namespaces import netlink, open_in_namespace

NAME = re.compile(r"[^\s/:%]{1,15}")  # IFNAMSIZ is 16, with the final zero
MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
# Names of net/ethtool/common.c.  The old requests, one per group, leave out the segmentations that came later.
OFFLOADS = ("rx-checksum", "tx-checksum-*", "tx-scatter-gather*", "tx-*segmentation*", "rx-gro*", "rx-lro")


def checked_name(name: str) -> str:
    """An interface's name.  Errors: UsageError when no interface can have it."""
    if not NAME.fullmatch(name) or len(name.encode()) > 15 or name in (".", "..", "all", "default"):
        raise UsageError(f"interface {name!r}: a name of 1 to 15 octets is expected, without space, '/', ':' and '%'")
    return name


def index_of(socket: Any, name: str) -> int:
    """An interface's index.  Errors: UsageError."""
    found = socket.link_lookup(ifname=name)
    if not found:
        raise UsageError(f"interface {name}: there is none; `ip link` shows all")
    return int(found[0])


def mac_of(socket: Any, index: int) -> str:
    """An interface's MAC, lower case with colons."""
    return str(socket.get_links(index)[0].get("address"))


def configure(socket: Any, index: int, *, address: str = "", mac: str = "", **more: Any) -> None:
    """Set what is given, and bring the interface up; `address` is like "10.77.0.2/24".  Errors: UsageError."""
    if mac:
        if not MAC.fullmatch(mac):
            raise UsageError(f"MAC {mac!r}: expected six octets like 02:00:00:00:00:01")
        socket.link("set", index=index, address=mac)
    if more:
        socket.link("set", index=index, **more)
    if address:
        _add_address(socket, index, address)
    socket.link("set", index=index, state="up")


def _add_address(socket: Any, index: int, address: str) -> None:
    try:
        parsed = ipaddress.ip_interface(address)
    except ValueError as error:
        raise UsageError(f"address {address!r}: expected one with its network's length, like 10.77.0.2/24") from error
    more = {"broadcast": str(parsed.network.broadcast_address)} if parsed.version == 4 else {}
    socket.addr("add", index=index, address=str(parsed.ip), prefixlen=parsed.network.prefixlen, **more)


def make_veth(
    names: tuple[str, str], namespaces: tuple[str, str], addresses: tuple[str, str], *, nursery: str, mark: str
) -> None:
    """Make a pair whose ends hand each other plain frames: no offload is on.  Errors: UsageError.

    `nursery` is a namespace of the run where both ends are made and get `mark`, their alias: so there is no moment when
    one stands in a namespace that stays and cannot be told from somebody else's.
    """
    first, second = (checked_name(name) for name in names)
    what = f"veth {first}-{second}"
    with netlink(nursery, what) as socket:
        socket.link("add", ifname=first, kind="veth", peer={"ifname": second})
        for name, namespace in zip((first, second), namespaces, strict=True):
            index = index_of(socket, name)
            socket.link("set", index=index, ifalias=mark)
            open_in_namespace(nursery, lambda name=name: _offloads_off(name))  # type: ignore[misc]
            socket.link("set", index=index, net_ns_fd=namespace or "/proc/thread-self/ns/net")
    for name, namespace, address in zip((first, second), namespaces, addresses, strict=True):
        with netlink(namespace, what) as socket:
            configure(socket, index_of(socket, name), address=address)


def _offloads_off(name: str) -> None:
    from pyroute2.ethtool.ioctl import IoctlEthtool

    tool = IoctlEthtool(name)
    try:
        features = tool.get_features()
        for feature in features.keys():  # noqa: SIM118 - it is no mapping
            changeable = features.is_available(feature) and not features.is_never_changed(feature)
            if changeable and any(fnmatchcase(feature, offload) for offload in OFFLOADS):
                features[feature] = False
        tool.set_features(features)
    finally:
        tool.close()


def remove_link(namespace: str, name: str, alias: str) -> bool:
    """Remove an interface that bears our mark.  False: there is none, or it is not ours.  Errors: UsageError."""
    with netlink(namespace, f"interface {name}") as socket:
        for index in socket.link_lookup(ifname=name):
            if socket.get_links(index)[0].get("ifalias") == alias:
                socket.link("del", index=index)
                return True
    return False


def set_route_congestion(namespace: str, network: str, device: str, algorithm: str) -> None:
    """TCP of a namespace uses this congestion control towards a network that is on `device`.  Errors: UsageError.

    The default is the machine's, and a namespace may only choose among those that the machine allows to all; a route
    may name any that the kernel has.
    """
    try:
        parsed = str(ipaddress.ip_network(network))
    except ValueError as error:
        raise UsageError(f"network {network!r}: expected one like 10.77.0.0/24") from error
    with netlink(namespace, f"congestion control {algorithm} for {network}") as socket:
        index = index_of(socket, device)
        socket.route("replace", dst=parsed, oif=index, scope="link", metrics={"cc_algo": algorithm})
