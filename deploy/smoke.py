"""Install what lies in a folder into empty environments and use it: python deploy/smoke.py dist [wheel|sdist|PYTHON …]

Train, compute on two ranks, convert, render with pyvista and with ParaView, and that very installation's plugin in pvpython.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PLUGIN_CHECK = """
import inspect, sys
inspect.getargspec = inspect.getfullargspec
from paraview import simple
simple.LoadPlugin(sys.argv[1], remote=False, ns=simple.__dict__)
reader = simple.LossSurfaceReader(FileNames=[sys.argv[2]])
reader.UpdatePipeline()
print("points in ParaView:", reader.GetDataInformation().GetNumberOfPoints())
assert reader.GetDataInformation().GetNumberOfPoints() == 81
"""


def check(package: Path, folder: Path, python: str = sys.executable) -> None:
    """Install ``package`` with its extras into an environment of ``python`` in ``folder``, and run the main road from there."""
    print(f"== {package.name}, {python}", flush=True)
    subprocess.run([python, "-m", "venv", str(folder / "env")], check=True)
    programs = folder / "env" / "bin"
    constraints = Path(__file__).resolve().parent.parent / "constraints.txt"

    def run(*command: object) -> None:
        print("$", *[Path(str(part)).name if str(part).startswith("/") else part for part in command], flush=True)
        subprocess.run([str(part) for part in command], check=True, cwd=folder, stdout=subprocess.DEVNULL)

    pinned = ["-c", constraints] if python == sys.executable else []  # another Python has other versions
    run(programs / "pip", "install", "-q", *pinned, f"{package}[mpich,render]")
    paraloss = programs / "paraloss"
    run(paraloss, "--version")
    run(paraloss, "train", "--model", "mlp", "--data", "digits", "--epochs", "2", "-o", "run")
    run(
        programs / "mpiexec", "-n", "2", paraloss, "compute", "--weights", "run/final.pt", "--x=-1:1:9", "--y=-1:1:9",
        "--samples", "100", "-o", "s.h5",
    )  # fmt: skip
    for ending in (".vts", ".vtp", ".vtkhdf", ".csv", ".stl"):
        run(paraloss, "convert", "s.h5", f"s{ending}")
    run(paraloss, "render", "s.h5", "pyvista.png", "--backend", "pyvista")
    run(paraloss, "render", "s.h5", "page.html")
    if shutil.which("pvpython") and shutil.which("xvfb-run"):
        run(paraloss, "render", "s.h5", "paraview.png", "--backend", "paraview")
        plugin = next((folder / "env").rglob("paraview_plugin/paraloss_plugin.py"))
        (folder / "check.py").write_text(PLUGIN_CHECK)
        run("xvfb-run", "-a", "pvpython", folder / "check.py", plugin, folder / "s.h5")
    else:
        print("(no ParaView here: its part is left out)")


def main() -> None:
    built = Path(sys.argv[1]).resolve()
    for what in sys.argv[2:] or ["wheel", "sdist"]:
        package = next(built.glob("*.tar.gz" if what == "sdist" else "*.whl"))
        with tempfile.TemporaryDirectory(prefix="paraloss-smoke-") as folder:
            check(package, Path(folder), sys.executable if what in ("wheel", "sdist") else what)
    print("all of it works")


if __name__ == "__main__":
    main()
