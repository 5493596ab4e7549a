"""What must not be imported, and how fast help is."""

import subprocess
import sys
import time

from helpers import BIN


def test_import_paraloss_brings_neither_torch_nor_vtk():
    code = "import paraloss, sys; print([m for m in ('torch', 'vtk', 'vtkmodules', 'pyvista', 'mpi4py') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_help_imports_nothing_heavy_and_is_quick():
    """Under 0.5 s on an idle machine; the bound here is loose because tests share theirs."""
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([BIN / "paraloss", "--help"], capture_output=True, check=True)
        best = min(best, time.perf_counter() - start)
    assert best < 1.5
    code = "import sys; from paraloss.cli import app; app(['--help'], result_action='return_value');"
    code += "print([m for m in ('torch', 'vtkmodules', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_every_public_name_exists():
    import paraloss

    for name in paraloss.__all__:
        assert getattr(paraloss, name) is not None
