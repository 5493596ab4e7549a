"""Text that came out of a file or an exception, made fit to be shown on one line of a terminal or in a title."""

from __future__ import annotations

import textwrap


def printable(text: object) -> str:
    """``text`` with every character that is not printable escaped, as in ``\\x1b``: no terminal obeys what a file says.

    Control characters, line breaks, surrogates and the invisible ones that reorder text are escaped; spaces stay.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))


def one_line(error: object) -> str:
    """An error's text without line breaks and control characters."""
    return printable(" ".join(str(error).split()))


def lines_of(title: str, most: int) -> list[str]:
    """Break a title into lines of at most ``most`` letters: into two after a comma where that fits, else between words."""
    if len(title) <= most:
        return [title]
    parts = title.split(", ")
    halves = [(", ".join(parts[:k]) + ",", ", ".join(parts[k:])) for k in range(1, len(parts))]
    fitting = [pair for pair in halves if max(map(len, pair)) <= most]
    if fitting:
        return list(min(fitting, key=lambda pair: max(map(len, pair))))
    return textwrap.wrap(title, most)
