"""The diagram of the packages in design.md, drawn from what the modules import: ``python docs/packages.py`` writes it again."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent
DESIGN = HOUSE / "docs" / "design.md"
FOLDERS = ("core", "compute", "converters", "rendering", "paraview_plugin", "state_files")
BLOCK = re.compile(r"(?<=<!-- packages -->\n).*?(?=<!-- /packages -->)", re.DOTALL)
Edges = dict[tuple[str, str], bool]


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    found = {}
    for file in sorted(file for folder in FOLDERS for file in (HOUSE / folder).rglob("*.py")):
        parts = list(file.relative_to(HOUSE).with_suffix("").parts)
        parts = parts[1:] if parts[0] == "core" else parts
        found[".".join(["paraloss", *(part for part in parts if part != "__init__")])] = file
    return found


def package_of(module: str, files: dict[str, Path]) -> str:
    """The folder of a module, as in ``compute/ranks``; ``core`` for modules that lie in no folder of core's."""
    if module == "paraloss.__main__":
        return "core/cli"
    file = files[module]
    folder = file.parent.relative_to(HOUSE).parts[:2]
    return "/".join(folder)


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """(dotted name, whether only when a function is called) of what a file imports from the package, types aside."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                yield from ((f"{child.module}.{alias.name}", lazy) for alias in child.names)
            yield from visit(child, lazy or isinstance(child, ast.FunctionDef))

    yield from ((name, lazy) for name, lazy in visit(ast.parse(file.read_text()), False) if name.startswith("paraloss"))


def edges() -> Edges:
    """(package, package that it imports) -> whether every such import happens only when a function is called."""
    files, found = modules(), Edges()
    for module, file in files.items():
        here = package_of(module, files)
        for name, lazy in imports(file):
            target = name
            while target not in files:
                target = target.rpartition(".")[0]
            there = package_of(target, files)
            if here != there:
                found[here, there] = found.get((here, there), True) and lazy
    return found


def reachable(links: Edges, start: str) -> set[str]:
    """The packages that ``start`` imports, directly or not."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = {there for here, there in links if here == waiting[-1]} - seen
        waiting.pop()
        seen |= new
        waiting.extend(new)
    return seen


def drawn(links: Edges) -> Edges:
    """The links without those that a longer way implies; links that would close a circle are kept as they are."""
    eager = {pair: lazy for pair, lazy in links.items() if not lazy}
    circles = {pair for pair, lazy in links.items() if lazy and pair[0] in reachable(eager, pair[1])}
    forward = {pair: lazy for pair, lazy in links.items() if pair not in circles}
    return {
        pair: lazy
        for pair, lazy in links.items()
        if pair in circles or pair[1] not in reachable({other: x for other, x in forward.items() if other != pair}, pair[0])
    }


def diagram() -> str:
    """The Mermaid text: one arrow from each package to what it imports, dotted where only a call imports it."""
    links = edges()
    packages = sorted({package for pair in links for package in pair})
    lines = ["```mermaid", "flowchart TD"]
    for folder in sorted({package.split("/")[0] for package in packages}):
        inside = [package for package in packages if package.split("/")[0] == folder]
        lines += [f"    subgraph {folder}_[{folder}]"] if len(inside) > 1 else []
        lines += [f'    {"    " if len(inside) > 1 else ""}{_id(package)}["{package}"]' for package in inside]
        lines += ["    end"] if len(inside) > 1 else []
    for (here, there), lazy in sorted(drawn(links).items()):
        lines.append(f"    {_id(here)} {'-.->' if lazy else '-->'} {_id(there)}")
    return "\n".join([*lines, "```", ""])


def _id(package: str) -> str:
    return package.replace("/", "_")


if __name__ == "__main__":
    text = DESIGN.read_text()
    if not BLOCK.search(text):
        sys.exit(f"{DESIGN}: no place for the diagram; put <!-- packages --> and <!-- /packages --> into it")
    DESIGN.write_text(BLOCK.sub(lambda found: diagram(), text))
