"""Every verb of the command line has its line in the documentation."""

from pathlib import Path

from paraloss.cli import VERBS

USAGE = Path(__file__).resolve().parents[2] / "docs" / "usage.md"


def test_every_verb_is_in_the_table_of_verbs():
    lines = USAGE.read_text().splitlines()
    assert [verb for verb in VERBS if not any(line.startswith(f"| `paraloss {verb}` | ") for line in lines)] == []
