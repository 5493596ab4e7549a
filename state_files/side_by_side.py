"""The state ``side_by_side``: two or more surfaces with linked cameras, one color scale and one height scale.

In ParaView: Tools > Python Shell > Run Script passes no arguments, so set FILES first.
Or: pvpython side_by_side.py FILE...
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene

FILES = sys.argv[1:] or ["surface.h5"]


def draw(files, wanted):
    """Draw each of ``files`` in a view; a single one twice."""
    files = list(files) if len(files) > 1 else [files[0], files[0]]
    drawn = scene.show([[file] for file in files], wanted)
    for number, view in enumerate(drawn.views[1:]):
        scene.simple.AddCameraLink(drawn.views[0], view, f"camera {number}")
    return drawn


if __name__ in scene.AS_SCRIPT:
    scene.simple.Render(draw(FILES, scene.Wanted()).views[0])
