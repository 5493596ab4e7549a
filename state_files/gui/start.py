"""What ParaView's window runs when `paraloss paraview` starts it: the plugin, the files, the lit state."""

import json
import os
import sys
import traceback

wanted = json.loads(os.environ["PARALOSS_PARAVIEW"])
sys.path.insert(0, wanted["states"])
try:
    import scene

    scene.load_plugin()
    if wanted["files"]:
        old_layout = scene.simple.GetLayout() if scene.simple.GetActiveView() else None
        drawn = scene.STATES[wanted["state"]](wanted["files"])
        scene.simple.RenderAllViews()
    print("paraloss: ready", file=sys.__stdout__, flush=True)
except SystemExit as error:
    print(error)
except Exception:
    traceback.print_exc()  # into the output window
    traceback.print_exc(file=sys.__stderr__)
