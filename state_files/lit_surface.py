"""The state ``lit_surface``: one surface, lit.

In ParaView: Tools > Python Shell > Run Script passes no arguments, so set FILES first.
Or: pvpython lit_surface.py FILE
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene

FILES = sys.argv[1:] or ["surface.h5"]


def draw(files, wanted):
    """Draw the first of ``files``."""
    return scene.show([files[:1]], wanted)


if __name__ in scene.AS_SCRIPT:
    scene.simple.Render(draw(FILES, scene.Wanted()).views[0])
