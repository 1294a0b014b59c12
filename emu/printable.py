"""Texts that anybody may have written, such as those in a capture, as they may be shown."""


def printable(text: str) -> str:
    """The text on one line, without a control character: a terminal must not obey it."""
    return "".join(character if character.isprintable() else "?" for character in text)
