"""The errors that Paraloss raises on purpose.

Each message is one line: what is wrong, where, and what to do. The command line prints it and exits with code 2.

A message names the arguments it speaks of in braces, and ``arguments`` lists them: Python's users read the argument, users of
the command line its flag.

>>> error = InputError("{z_to} requires {z}", arguments=("z_to", "z"))
>>> str(error)
'z_to requires z'
>>> error.worded(lambda name: f"--{name}")
'--z_to requires --z'
"""

from collections.abc import Callable, Sequence


class ParalossError(Exception):
    """Base of all errors of Paraloss; ``str(error)`` is a complete one-line message.

    Args:
        message: the line; each name in ``arguments`` may stand in it in braces. Other braces are text.
        arguments: names of the arguments that the message speaks of.
    """

    def __init__(self, message: str, arguments: Sequence[str] = ()) -> None:
        self.message, self.arguments = message, tuple(arguments)
        super().__init__(self.worded(str))

    def worded(self, name_of: Callable[[str], str]) -> str:
        """Return the message with every argument named by ``name_of``."""
        text = self.message
        for name in self.arguments:
            text = text.replace("{" + name + "}", name_of(name))
        return text


class InputError(ParalossError):
    """An argument, a file that was named or a user's own model, data or loss does not fit."""


class SurfaceFileError(ParalossError):
    """A surface file is missing, cut short, of another format, or belongs to other settings."""


class ShapeMismatch(ParalossError):
    """Two things that belong together have different shapes, as a direction and its parameter."""


class MissingPackage(ParalossError):
    """An optional package or program is needed for what was asked; the message says how to install it."""
