"""The bugs of the patch of August 2005, as posted: the one table behind `--as-posted`, `emu bugs`, docs and tests.

Source: Phillips' mails to linux-mm, 3 to 12 August 2005, read against Linux 2.6.12.
A policy row plays its revision as intended; `Config.as_posted` switches bugs back on, bit n for bug n.
"""

from emu.kernel.machine import Machine

(
    BUG_NONE,
    BUG_GFP_LEVEL_MASK,
    BUG_OFF_SLAB,
    BUG_MARK,
    BUG_COMPILE,
    BUG_NULL,
    BUG_NO_MEMALLOC,
    BUG_LEGACY,
    BUG_FFS,
    BUG_SYSCTL,
    BUG_DOWN,
    BUG_UDP_LABEL,
    BUG_TIME_WAIT,
    BUG_PACKET_SPLIT,
    BUG_UPPER_DEVICE,
    BUG_RX_ONLY,
) = range(16)


def has_bug(m: Machine, bug: int) -> bool:
    """Whether this kernel has that bug."""
    return m.config.as_posted >> bug & 1 == 1


def oops(m: Machine, bug: int, point: int) -> None:
    """The kernel dies here of a bug; what it was doing is left as it stands, and the run ends (`engine.loop`)."""
    if m.oops == BUG_NONE:
        m.oops = bug
        m.oops_point = point
        m.oops_ns = m.now_ns
