"""The Markdown report of ``benchmarks/gpu.py``, from its lines of JSON; whatever a stage did not reach is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Fact = dict[str, Any]


def markdown(facts: Sequence[Fact]) -> str:
    """The report of ``facts``, in the order of the stages."""
    of = {
        name: [fact for fact in facts if fact.get("kind") == name]
        for name in ("environment", "test", "limit", "exact", "speed", "kernel", "surface", "ranks")
    }
    parts = [
        _environment(of["environment"]),
        table(("stage", "outcome", "seconds"), ((f["stage"], f["outcome"], f["seconds"]) for f in facts if "outcome" in f)),
        _tests(of["test"]),
        table(("limit", "measured"), ((f["name"], f["text"]) for f in of["limit"])),
        *(f"{f['text']}" for f in of["exact"]),
        table(
            ("type", "way", "batch", "ms per point", "images/s", "51×51, min", "of traffic limit", "of product rate",
             "largest error", "memory, GB", "note"),
            ((f["precision"], f["way"], f["batch"], f["ms"], f["images_per_s"], f["minutes"], f["of_traffic"], f["of_rate"],
              f["error"], f["memory"], f["note"]) for f in of["speed"]),
        ),
        table(("kernel", "calls", "ms", "share"), ((f["name"], f["calls"], f["ms"], f["share"]) for f in of["kernel"])),
        *(f["text"] for f in (*of["surface"], *of["ranks"])),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; empty without rows."""
    lines = [" | ".join(["", *(str(cell).replace("|", "/") for cell in row), ""]).strip() for row in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines]) if lines else ""


def _environment(facts: Sequence[Fact]) -> str:
    if not facts:
        return ""
    known = facts[-1]
    rest = "; ".join(f"{name} {value}" for name, value in known.items() if name not in ("kind", "date", "card"))
    return f"### {known['date']}: {known['card']}\n\n{rest}"


def _tests(facts: Sequence[Fact]) -> str:
    if not facts:
        return ""
    counts = {outcome: sum(f["outcome_of_test"] == outcome for f in facts) for outcome in ("passed", "failed", "skipped")}
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    failed = table(("failed test", "why"), ((f["name"], f["why"]) for f in facts if f["outcome_of_test"] == "failed"))
    return f"Tests: {summary}" + (f"\n\n{failed}" if failed else "")
