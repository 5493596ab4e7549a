"""The diagram in docs/design.md."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packages():
    spec = importlib.util.spec_from_file_location("packages", HOUSE / "docs" / "packages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_diagram_is_that_of_todays_imports(packages):
    kept = packages.BLOCK.search(packages.DESIGN.read_text())[0]
    assert kept == packages.diagram(), "the imports have changed: run  python docs/packages.py  and look at docs/design.md"


IMPORTS = """
import importlib.util, json, pathlib, sys
import grimp
place = pathlib.Path(importlib.util.find_spec("paraloss").origin)
assert place.is_relative_to(sys.argv[1]), f"{place} is not of {sys.argv[1]}"
graph = grimp.build_graph("paraloss", exclude_type_checking_imports=True, cache_dir=None)
print(json.dumps({module: sorted(graph.find_modules_directly_imported_by(module)) for module in graph.modules}))
"""


def test_the_arrows_are_those_that_another_reader_of_imports_finds(packages):
    """grimp reads every import; what one package reaches by our arrows is what it reaches by grimp's.

    In a process of its own, which finds the package nowhere but in the links: this one has imported it from elsewhere.
    """
    links = HOUSE / "build" / "links"
    if not (links / "paraloss").exists():
        pytest.fail("no build/links: run  make links")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(links)], capture_output=True, text=True, cwd=links, check=False,
        env={**os.environ, "PYTHONPATH": str(links)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files, theirs = packages.modules(), {}
    for module, found in json.loads(done.stdout).items():
        for other in found:
            pair = packages.package_of(module, files), packages.package_of(other, files)
            if pair[0] != pair[1]:
                theirs[pair] = False
    ours = packages.edges()
    assert set(theirs) <= set(ours)
    assert {here for here, _ in set(ours) - set(theirs)} <= {"paraview_plugin", "paraview_plugin/parts"}  # grimp needs __init__
    forward = {pair: lazy for pair, lazy in ours.items() if pair[0] != "core/surface" or not lazy}
    kept = {pair: lazy for pair, lazy in packages.drawn(ours).items() if pair in forward}
    for package in {here for here, _ in ours}:
        assert packages.reachable(kept, package) == packages.reachable(forward, package)


def test_a_shortcut_is_left_out_and_a_circle_is_kept(packages):
    links = {("a", "b"): False, ("b", "c"): False, ("a", "c"): False, ("c", "a"): True}
    assert set(packages.drawn(links)) == {("a", "b"), ("b", "c"), ("c", "a")}
