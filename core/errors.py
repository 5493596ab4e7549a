"""The errors that Paraloss raises on purpose.

Each message is one line: what is wrong, where, and what to do. The command line prints it and exits with code 2.
"""


class ParalossError(Exception):
    """Base of all errors of Paraloss; ``str(error)`` is a complete one-line message."""


class InputError(ParalossError):
    """An argument, a file that was named or a user's own model, data or loss does not fit."""


class SurfaceFileError(ParalossError):
    """A surface file is missing, cut short, of another format, or belongs to other settings."""


class ShapeMismatch(ParalossError):
    """Two things that belong together have different shapes, as a direction and its parameter."""


class MissingPackage(ParalossError):
    """An optional package or program is needed for what was asked; the message says how to install it."""
