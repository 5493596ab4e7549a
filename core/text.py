"""Text that came out of a file or an exception, made fit to be shown on one line of a terminal or in a title."""

from __future__ import annotations


def printable(text: object) -> str:
    """``text`` with every character that is not printable escaped, as in ``\\x1b``: no terminal obeys what a file says.

    Control characters, line breaks, surrogates and the invisible ones that reorder text are escaped; spaces stay.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def one_line(error: object) -> str:
    """An error's text without line breaks and control characters."""
    return printable(" ".join(str(error).split()))
