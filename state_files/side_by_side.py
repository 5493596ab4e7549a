"""The state ``side_by_side`` in readable form; see ``scene.side_by_side`` for what it is made of.

In ParaView: Tools > Python Shell > Run Script asks for nothing: edit FILES first. Or: pvpython side_by_side.py FILE...
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene
from paraview import simple

FILES = sys.argv[1:] or ["surface.h5"]

drawn = scene.side_by_side(FILES)
simple.Render(drawn.views[0])
