"""Wireshark's display filters for a packet and for its flow: Wireshark's own fields, which need no plugin."""

import re
from collections.abc import Mapping
from typing import Any

from emu.verdicts.fates import DROPPED_NAME

FLOW = re.compile(r"(\S+) (?:\[(\S+)\]|([^\s\[\]:]+)):(\d+) > (?:\[(\S+)\]|([^\s\[\]:]+)):(\d+)")
ADDRESSES = re.compile(r"(\S+) (\S+) > (\S+)")


def filters_of(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Wireshark's display filters, each with what it shows."""
    filters = [("the packet", f"frame.number == {row['frame']}")]
    if row["packet_id"] is not None and row["packet_id"] != row["frame"]:
        filters = [("the packet", f"frame.packet_id == {row['packet_id']}")]
    if row["culprit_frame"]:
        filters.append(("it and the culprit", f"frame.number in {{{row['culprit_frame']}, {row['frame']}}}"))
    if row["verdict"] == DROPPED_NAME and row["reason"]:
        filters.append(("others like it", f'frame.comment contains "DROP {row["reason"]}"'))
    flow = flow_filter(row["flow"] or "")
    if flow:
        filters.append(("its flow, both ways", flow))
    return tuple(filters)


def flow_filter(flow: str) -> str:
    """Wireshark's display filter for a flow as the log writes it, both ways; empty when it has no addresses."""
    found = FLOW.fullmatch(flow)
    if found:
        protocol = found[1]
        source, destination = found[2] or found[3], found[5] or found[6]
        ports = "".join(f" && {protocol}.port == {port}" for port in (found[4], found[7]))
        return f"{_addresses(source, destination)}{ports}"
    found = ADDRESSES.fullmatch(flow)
    if not found:
        return ""
    protocol, source, destination = found.groups()
    if protocol == "arp":
        either = f"{{{source}, {destination}}}"
        return f"arp.src.proto_ipv4 in {either} && arp.dst.proto_ipv4 in {either}"
    ours = "" if protocol.startswith("ip-proto-") else f" && {protocol}"
    return f"{_addresses(source, destination)}{ours}"


def _addresses(source: str, destination: str) -> str:
    field = "ipv6.addr" if ":" in source else "ip.addr"
    return f"{field} == {source} && {field} == {destination}"
