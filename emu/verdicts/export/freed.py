"""What a kernel of today would see of the emulator's drops: which of them free an skb, and where in its code."""

from emu.kernel.drop_reason import AT_CP_RX_POLL, AT_NIC, AT_TG3_RX, POINTS

NIC = POINTS[AT_NIC]
# 8139cp and tg3 put the buffer of a packet for which they get no new one back into their ring (2.6.12 8139cp.c
# cp_rx_poll, tg3.c tg3_rx drop_it): nothing is freed, so neither kfree_skb nor the drop monitor hears of it.
RECYCLED = (POINTS[AT_CP_RX_POLL], POINTS[AT_TG3_RX])
WHY_NIC = "the NIC dropped, of which no skb was made"
WHY_RECYCLED = "a driver dropped and put back into its ring, without freeing the skb"

TEXT_START = 0xFFFF_FFFF_8100_0000  # where x86-64 kernels are linked
PAGE = 4_096


def location_of(point: str) -> str:
    """A function as %pS prints an address in it; in which instruction of it nobody knows, so it is the first."""
    return f"{point}+0x0" if point else "0x0"


def address_of(point: str) -> int:
    """An address that stands for a function: made up, and the same every time."""
    return TEXT_START + PAGE * POINTS.index(point)
