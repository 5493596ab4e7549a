"""What must not be imported."""

import json
import subprocess
import sys


def test_import_paraloss_brings_neither_torch_nor_vtk():
    code = "import paraloss, sys; print([m for m in ('torch', 'vtk', 'vtkmodules', 'pyvista', 'mpi4py') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_help_imports_the_command_line_library_and_nothing_else():
    """Help takes a third of a second on an idle machine; what it imports is what decides that."""
    code = "import json, sys\nfrom paraloss.cli import main\ntry:\n    main(['--help'])\nfinally:\n    "
    code += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    foreign -= {"sitecustomize", "usercustomize"}  # the interpreter loads these by itself; Debian's has one
    foreign = {name for name in foreign if not name.startswith(("_", "paraloss"))}
    assert foreign <= {"attr", "attrs", "cyclopts", "docstring_parser", "markdown_it", "mdurl", "pygments", "rich", "rich_rst"}
    assert {name for name in loaded if name.startswith("paraloss")} <= {
        *(
            "paraloss",
            "paraloss._version",
            "paraloss.cli",
            "paraloss.errors",
            "paraloss.launch",
            "paraloss.log",
            "paraloss.option",
            "paraloss.stopping",
            "paraloss.text",
        ),
    }
    assert len(loaded) < 450


def test_a_surface_is_computed_where_only_torch_numpy_h5py_sklearn_filelock_and_mpi4py_are(tmp_path):
    """A GPU node often has no more: what draws, parses command lines and computes spectra is needed by those alone."""
    code = f"""
import sys
for name in "cyclopts rich vtk vtkmodules pyvista matplotlib curvlinops torchvision timm transformers".split():
    sys.modules[name] = None
import torch
from paraloss.compute import compute_surface, load_data, load_model
torch.manual_seed(0)
model = load_model("mlp", (1, 8, 8), 10)
given = dict(x=(-1, 1, 3), y=(-1, 1, 3), samples=64, path={str(tmp_path / "s.h5")!r})
surface = compute_surface(model, "cross_entropy", load_data("digits"), **given)
print(surface.metric().shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["(3,", "3)"], done.stderr


def test_every_public_name_exists():
    import paraloss

    for name in paraloss.__all__:
        assert getattr(paraloss, name) is not None
