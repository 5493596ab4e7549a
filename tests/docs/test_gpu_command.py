"""``make gpu`` on a CPU: the whole command at small sizes, where little is installed, and where there is no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

COMMAND = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
ABSENT = "cyclopts rich vtk vtkmodules pyvista matplotlib curvlinops"


def run(folder, *arguments):
    """The command, and its lines of JSON; what a GPU node may lack cannot be imported."""
    (folder / "sitecustomize.py").write_text(f"import sys\nfor name in {ABSENT!r}.split():\n    sys.modules[name] = None\n")
    paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, str(COMMAND), *arguments, "--output", str(folder / "report")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=400)
    return done, [json.loads(line) for line in (folder / "report" / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_stages_run_where_little_is_installed_and_the_report_holds_what_they_found(tmp_path):
    only = "environment,limits,exact,speed"
    done, facts = run(tmp_path, "--device", "cpu", "--images", "4", "--only", only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {f["stage"]: f["outcome"] for f in facts if "stage" in f} == dict.fromkeys(only.split(","), "done")
    rows = [f for f in facts if f.get("kind") == "speed"]
    assert {row["way"] for row in rows} == {"graph", "fused", "eager"}
    assert all(float(row["error"]) < 1e-5 for row in rows)
    assert done.stdout.strip() == (tmp_path / "report" / "report.md").read_text().strip()
    assert f"| fp32 | eager | 4 | {rows[-1]['ms']} |" in done.stdout


def test_without_a_gpu_one_line_says_so(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done, facts = run(tmp_path, "--only", "environment,limits")
    assert done.returncode == 1
    assert [f["stage"] for f in facts] == ["environment"]
    assert facts[0]["outcome"].startswith("failed: no CUDA GPU: torch")


def test_a_stage_that_takes_too_long_or_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(COMMAND.parent))
    import gpu

    stages = tmp_path / "gpu_stages.py"
    stages.write_text("""
import sys, time
if sys.argv[1] == "tests": sys.exit("three of them failed")
print("begun", flush=True)
open(sys.argv[4], "a").write('{"kind": "surface", "text": "found by ' + sys.argv[1] + '"}\\n')
if sys.argv[1] == "limits": time.sleep(60)
""")
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    monkeypatch.setattr(gpu, "STAGES", {"tests": 30, "limits": 5, "surface": 30})
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--output", str(tmp_path / "report")])
    with pytest.raises(SystemExit, match="1"):
        gpu.main()
    found = capsys.readouterr().out
    assert "| tests | failed: three of them failed |" in found
    assert "| limits | stopped after 5 s; what it had found is kept |" in found
    assert "| surface | done |" in found
    assert "found by limits" in found and "found by surface" in found
