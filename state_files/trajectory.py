"""The state ``trajectory``: one surface with the optimizer's path on it, colored by step; several in a color each.

In ParaView: Tools > Python Shell > Run Script passes no arguments, so set FILES first.
Or: pvpython trajectory.py FILE
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene

FILES = sys.argv[1:] or ["surface.h5"]


def draw(files, wanted):
    """Draw the first of ``files``."""
    if len(scene.paths_of(files[0])) > 1:
        return scene.show([files[:1]], wanted.showing(trajectory=True))
    drawn = scene.show([files[:1]], wanted.showing(trajectory=False))
    drawn.add(drawn.made("OptimizerTrajectory", 0, "path", Input=drawn.sources[0]), array="step")
    return drawn


if __name__ in scene.AS_SCRIPT:
    scene.simple.Render(draw(FILES, scene.Wanted()).views[0])
