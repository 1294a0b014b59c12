"""Colours by name, for light and dark paper: Okabe and Ito's, told apart by colour-blind eyes.

Darker on light paper and lighter on dark paper where the originals have too little contrast (WCAG asks for 3 to 1).
Source: Okabe, Ito, "Color Universal Design" (2008).
"""

from typing import NamedTuple


class Shade(NamedTuple):
    """A colour as it is on light and on dark paper."""

    light: str
    dark: str


COLOURS = {
    "blue": Shade("#0072b2", "#5ab4f0"),
    "orange": Shade("#c27c00", "#f0a92e"),
    "green": Shade("#008a65", "#35c9a0"),
    "red": Shade("#cf4a00", "#ff8551"),
    "purple": Shade("#a8558a", "#e29cc6"),
    "sky": Shade("#3f97cc", "#a3d9fb"),
    "yellow": Shade("#8f8400", "#f0e442"),
    "grey": Shade("#66717d", "#a5b0bc"),
}

# Lines of a comparison: a second turn through the colours is dashed.
SERIES = ("blue", "orange", "green", "red", "purple", "sky", "yellow", "grey")
DASHES = ("solid", "dash", "dot")


def look(number: int) -> tuple[str, str]:
    """Colour and dash of the line with this number in a comparison."""
    return SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]
