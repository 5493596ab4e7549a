"""The state ``contours``: one surface with contour lines and its minimum.

In ParaView: Tools > Python Shell > Run Script passes no arguments, so set FILES first.
Or: pvpython contours.py FILE
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene

FILES = sys.argv[1:] or ["surface.h5"]


def draw(files, wanted):
    """Draw the first of ``files``, with 10 lines unless another number is wanted."""
    return scene.show([files[:1]], wanted.showing(contours=wanted.picture.contours or 10, minimum=True))


if __name__ in scene.AS_SCRIPT:
    scene.simple.Render(draw(FILES, scene.Wanted()).views[0])
