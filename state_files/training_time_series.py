"""The state ``training_time_series``: a series of surfaces to be played, one per epoch; the scale is that of the first.

In ParaView: Tools > Python Shell > Run Script passes no arguments, so set FILES first.
Or: pvpython training_time_series.py FILE...
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene

FILES = sys.argv[1:] or ["surface.h5"]


def draw(files, wanted):
    """Draw ``files`` as the steps of a time series."""
    return scene.show([files], wanted)


if __name__ in scene.AS_SCRIPT:
    scene.simple.Render(draw(FILES, scene.Wanted()).views[0])
