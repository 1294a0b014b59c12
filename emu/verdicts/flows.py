"""Flows in words: an address, a port, both, or two ends, as an expression over the log's column `flow`.

Both directions match, unless the text is a flow just as the log writes it, `tcp 10.0.0.1:80 > 10.0.0.2:90`.
"""

import ipaddress
import re
from typing import TYPE_CHECKING

from emu.errors import UsageError
from emu.verdicts.address import address_text

if TYPE_CHECKING:
    import polars

MAX_PORT = 65_535
FORMS = "ADDRESS, PORT, ADDRESS:PORT, [IPV6]:PORT or END > END"
WHOLE = re.compile(r"[a-z][\w-]* \S+ > \S+")
END = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<bare>[^\[\]]*?))(?::(?P<port>\d+))?")
ANY_ADDRESS = r"(?:[0-9.]+|\[[0-9a-f:.]+\])"


def flow_expression(text: str) -> "polars.Expr":
    """The expression that is true of packets of such a flow.  Errors: UsageError when the text has another form."""
    import polars

    column = polars.col("flow")
    if WHOLE.fullmatch(text.strip()):
        return column == text.strip()
    return column.str.contains(flow_pattern(text))


def flow_pattern(text: str) -> str:
    """The regular expression of such a flow.  Errors: UsageError when the text has another form."""
    ends = [_end(part.strip(), text) for part in text.split(">")]
    if len(ends) == 1:
        return rf"^\S+ (?:{ends[0]} > \S+|\S+ > {ends[0]})$"
    if len(ends) == 2:
        return rf"^\S+ (?:{ends[0]} > {ends[1]}|{ends[1]} > {ends[0]})$"
    raise _unlike(text)


def _end(part: str, whole: str) -> str:
    """The pattern of one end."""
    if part.isdecimal():
        return f"{ANY_ADDRESS}:{_port(part, whole)}"
    if _is_ipv6(part):  # without brackets there is no port behind it
        return _address(part, None, whole)
    found = END.fullmatch(part)
    if not found:
        raise _unlike(whole)
    port = None if found["port"] is None else _port(found["port"], whole)
    address = found["bracketed"] or found["bare"]
    if not address:
        if port is None or found["bracketed"] is not None:
            raise _unlike(whole)
        return f"{ANY_ADDRESS}:{port}"
    return _address(address, port, whole)


def _address(text: str, port: str | None, whole: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise _unlike(whole, f"'{text}' is not an IP address") from None
    number = int(address)
    shown = re.escape(address_text(address.version, number >> 64, number & (1 << 64) - 1))
    if address.version == 4:
        return rf"{shown}(?::\d+)?" if port is None else f"{shown}:{port}"
    return rf"(?:{shown}|\[{shown}\]:\d+)" if port is None else rf"\[{shown}\]:{port}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str, whole: str) -> str:
    if int(text) > MAX_PORT:
        raise _unlike(whole, f"a port is at most {MAX_PORT}")
    return str(int(text))


def _unlike(text: str, why: str = "") -> UsageError:
    return UsageError(f"--flow '{text}': {why + '; ' if why else ''}expected {FORMS}, such as 10.66.0.1:3260")
