"""Make every ``.pvsm`` in this folder again: ``xvfb-run -a pvpython state_files/generate.py``.

Each state is drawn by its own ``.py`` on an analytic surface, saved, and stripped of every path, so that it opens on the user's
own file: from the GUI (File > Load State > Choose File Names), from ``LoadState``, and from ``render.py --state FILE.pvsm``.
"""

import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
import scene  # noqa: E402
from paraview import simple  # noqa: E402
from readers import load_plugin  # noqa: E402

PLACEHOLDERS = {
    "lit_surface": ["surface.h5"],
    "contours": ["surface.h5"],
    "trajectory": ["surface.h5"],
    "training_time_series": ["epoch_000.h5", "epoch_001.h5"],
    "side_by_side": ["surface_a.h5", "surface_b.h5"],  # last: its camera link outlives ResetSession
}


def main():
    """Build, save and relocate all states; or those named on the command line."""
    load_plugin()
    for name in sys.argv[1:] or PLACEHOLDERS:
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / file) for file in PLACEHOLDERS[name]]
            for number, file in enumerate(files):
                sample(number).save(file)
            simple.ResetSession()
            load_plugin()
            drawn = scene.draw(name, files, scene.Wanted().showing(trajectory=False))
            follow_the_users_data(drawn)
            simple.SaveState(str(HERE / f"{name}.pvsm"))
            text = (HERE / f"{name}.pvsm").read_text()
            text = re.sub(re.escape(str(Path(folder).resolve())) + "/?", "", text)
            text = text.replace(str(Path(folder)) + "/", "")
            # Formats of numbers: their form changes in ParaView 6.1, and a release's own are right for it.
            text = re.sub(r'\n\s*<Property name="\w*Format" [^>]*?(/>|>.*?</Property>)', "", text, flags=re.DOTALL)
            (HERE / f"{name}.pvsm").write_text(text)
            print(f"{name}.pvsm")


def follow_the_users_data(drawn):
    """Leave nothing of the sample's range in the state: colors follow the data, the scale has plain tick labels."""
    table = simple.GetColorTransferFunction(drawn.composition.scale.array)
    table.AutomaticRescaleRangeMode = "Clamp and update every timestep"
    table.Annotations = []
    bar = simple.GetScalarBar(table, drawn.views[-1])
    bar.Title = "ln(train loss + 0.1)"
    bar.DrawTickLabels = bar.DrawTickMarks = bar.AddRangeLabels = 1
    if any(source.GetXMLName() == "OptimizerTrajectory" for source in simple.GetSources().values()):
        simple.GetColorTransferFunction("step").AutomaticRescaleRangeMode = "Clamp and update every timestep"


def sample(number):
    """An analytic surface with a trajectory."""
    from paraloss.surface import Surface

    x = np.linspace(-1, 1, 41)
    grid_x, grid_y = np.meshgrid(x, x)
    loss = 0.05 + 3 * grid_x**2 + 6 * grid_y**2 + 0.3 * number * (1 + np.sin(9 * grid_x) * np.sin(7 * grid_y))
    turn = np.linspace(0, 4, 30)
    path_x, path_y = 0.9 * np.exp(-turn) * np.cos(turn), 0.8 * np.exp(-turn) * np.sin(turn)
    trajectory = {
        "x": path_x,
        "y": path_y,
        "loss": 0.06 + 3 * path_x**2 + 6 * path_y**2,
        "step": np.arange(30.0),
        "residual": 0.1 * np.exp(-turn),
    }
    return Surface(x, x, {"train_loss": loss}, np.ones((41, 41), np.uint8), {"model": "sample"}, trajectory=trajectory)


main()
