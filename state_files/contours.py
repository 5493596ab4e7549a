"""The state ``contours`` in readable form; see ``scene.contours`` for what it is made of.

In ParaView: Tools > Python Shell > Run Script asks for nothing: edit FILES first. Or: pvpython contours.py FILE...
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene
from paraview import simple

FILES = sys.argv[1:] or ["surface.h5"]

drawn = scene.contours(FILES)
simple.Render(drawn.views[0])
