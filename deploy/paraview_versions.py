"""ParaView of this system and of other Debian releases: the plugin's tests and pictures with each, and a table of both.

python deploy/paraview_versions.py [--only RELEASE ...] [--pictures] [--tests FILE ...] [--fresh] [--drop]

Root folders of the other releases are made once and kept in build/paraview_roots (4.6 GB); pictures and test reports go to
build/paraview_versions, the table of all that is there into docs/paraview.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from paraview_pictures import SCENES, draw_scenes, likeness
from paraview_roots import Refused, enter, make_root, own_mounts, remove

HOUSE = Path(__file__).resolve().parent.parent
ROOTS, RESULTS = HOUSE / "build" / "paraview_roots", HOUSE / "build" / "paraview_versions"
PAGE = HOUSE / "docs" / "paraview.md"
BEGIN, END = "<!-- written by make paraview-versions -->\n", "<!-- end -->"
SYSTEM, OTHERS = "system", ("trixie", "forky")
TESTS = ("tests/paraview_plugin", "tests/rendering", "tests/converters/test_in_paraview.py", "tests/security/test_states.py")
ALIKE = 0.99


@dataclass
class Version:
    """One ParaView: where it comes from, its numbers, and what came of its tests and pictures."""

    release: str
    paraview: str = ""
    python: str = ""
    tests: dict[str, str] = field(default_factory=dict)


def main() -> int:
    """Run everything with each version; 0 if all tests pass and all pictures are alike."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--only", nargs="*", choices=[SYSTEM, *OTHERS], default=[SYSTEM, *OTHERS], help="some versions; none: the table"
    )
    made.add_argument("--pictures", action="store_true", help="pictures alone, no tests and no table")
    made.add_argument("--tests", nargs="+", default=TESTS, help="some tests, no pictures; the results of the others stay")
    made.add_argument("--fresh", action="store_true", help="make the root folders again")
    made.add_argument("--drop", action="store_true", help="remove the root folders at the end")
    asked = made.parse_args()
    try:
        own_mounts()
        for release in asked.only:
            _examine(release, asked)
    except Refused as error:
        print(f"paraview-versions: {error}", file=sys.stderr)
        return 2
    finally:
        if asked.drop:
            for release in OTHERS:
                remove(ROOTS / release)
    versions = [_read(release) for release in (SYSTEM, *OTHERS) if (RESULTS / release / "tests.xml").exists()]
    table, good = _table(versions) if versions else ("", True)
    print(table)
    if len(versions) == 1 + len(OTHERS):
        _write_table(table)
    return 0 if good else 1


def _examine(release: str, asked: argparse.Namespace) -> None:
    """Run the tests and draw the pictures with one version."""
    with tempfile.TemporaryDirectory(prefix="shims-", dir="/tmp") as shims:
        if release != SYSTEM:
            if asked.fresh:
                remove(ROOTS / release)
            enter(make_root(release, ROOTS), Path(shims), [Path("/tmp"), *{HOUSE, _installed()}])
        path = f"{shims}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "CI": "true", "TMPDIR": "/tmp", "OMP_NUM_THREADS": "1"}
        environment["PARALOSS_PICTURES"] = str(RESULTS / release / "changed")
        version = _numbers(release, environment)
        print(f"== {release}: ParaView {version.paraview}, Python {version.python}", flush=True)
        (RESULTS / release).mkdir(parents=True, exist_ok=True)
        (RESULTS / release / "version.json").write_text(json.dumps([version.paraview, version.python]))
        if asked.tests is TESTS:
            draw_scenes(RESULTS / release, environment)
        if not asked.pictures:
            _run_tests(RESULTS / release / "tests.xml", asked.tests, environment)


def _installed() -> Path:
    """The folder of the plugin and the states that ``paraloss`` of this environment gives to ParaView."""
    code = "from paraloss.rendering.paraview_gui import STATES_FOLDER; print(STATES_FOLDER.parent)"
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=outside, cwd="/", check=True)
    return Path(done.stdout.strip())


def _numbers(release: str, environment: dict[str, str]) -> Version:
    if not shutil.which("pvpython", path=environment["PATH"]):
        raise Refused("pvpython is not on the PATH: apt install paraview python3-paraview")
    shown = subprocess.run(["pvpython", "--version"], capture_output=True, text=True, env=environment, check=False)
    found = re.search(r"version (\S+)", shown.stdout + shown.stderr)
    if not found:
        raise Refused(f"{release}: pvpython does not run: {(shown.stdout + shown.stderr).strip()[-200:]}")
    code = "import sys; print('PYTHON', '%d.%d' % sys.version_info[:2])"
    shown = subprocess.run(["pvpython", "-c", code], capture_output=True, text=True, env=environment, check=False)
    python = re.search(r"PYTHON (\S+)", shown.stdout)
    return Version(release, found[1], python[1] if python else "?")


def _run_tests(report: Path, tests: Sequence[str], environment: dict[str, str]) -> None:
    """Run tests and put their results into ``report``: some of them replace their own older ones, all replace all."""
    fresh = report.with_suffix(".new")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "paraview", "--ignore", "tests/rendering/test_web.py"]
    subprocess.run([*command, f"--junitxml={fresh}", *tests], cwd=HOUSE, env=environment, check=False)
    if tests is TESTS or not report.exists():
        fresh.replace(report)
        return
    tree, cases = ElementTree.parse(report), list(ElementTree.parse(fresh).iter("testcase"))
    fresh.unlink()
    names = {(case.get("classname"), case.get("name")) for case in cases}
    suite = tree.getroot()[0]
    for case in suite.findall("testcase"):
        if (case.get("classname"), case.get("name")) in names:
            suite.remove(case)
    suite.extend(cases)
    tree.write(report)


def _read(release: str) -> Version:
    """What the last run with a version found: for the sentence that a test's name is yes, or no if a case of it failed."""
    numbers = json.loads((RESULTS / release / "version.json").read_text())
    tests: dict[str, str] = {}
    for case in ElementTree.parse(RESULTS / release / "tests.xml").iter("testcase"):
        sentence = re.sub(r"\[.*", "", case.get("name", "")).removeprefix("test_").replace("_", " ")
        bad = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
        tests[sentence] = "no" if bad or tests.get(sentence) == "no" else "yes"
    return Version(release, *numbers, tests)


def _table(versions: list[Version]) -> tuple[str, bool]:
    """Version × feature in Markdown, and whether all is well."""
    first, good = RESULTS / versions[0].release, True
    rows = [
        ["", *(f"{v.paraview}" for v in versions)],
        ["---"] * (len(versions) + 1),
        ["Debian", *(_code_name() if v.release == SYSTEM else v.release for v in versions)],
        ["Python", *(v.python for v in versions)],
    ]
    for scene in SCENES:
        cells = []
        for version in versions:
            folder = RESULTS / version.release
            alike = [likeness(folder / f"{scene}.png", first / f"{scene}.png")]
            if SCENES[scene].on_two_ranks:
                alike.append(likeness(folder / f"{scene}_2.png", folder / f"{scene}.png"))
            good &= min(alike) >= ALIKE
            cells.append(", ".join(f"{value:.4f}" for value in alike))
        rows.append([f"picture: {SCENES[scene].title}", *cells])
    for sentence in {sentence: None for version in versions for sentence in version.tests}:
        cells = [version.tests.get(sentence, "not run") for version in versions]
        good &= set(cells) == {"yes"}
        rows.append([sentence, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n", good


def _code_name() -> str:
    found = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return found[1] if found else "this system"


def _write_table(table: str) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
