"""``python -m paraloss`` is the ``paraloss`` command."""

from paraloss.cli import main

main()
