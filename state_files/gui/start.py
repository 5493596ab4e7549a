"""What ParaView's window runs when `paraloss paraview` starts it: the plugin, the files, the lit state."""

import json
import os
import sys
import traceback

wanted = json.loads(os.environ["PARALOSS_PARAVIEW"])
sys.path.insert(0, wanted["states"])
try:
    import scene
    from readers import load_plugin

    load_plugin()
    if wanted["files"]:
        scene.draw(wanted["state"], wanted["files"])
        scene.simple.RenderAllViews()
    print("paraloss: ready", file=sys.__stdout__, flush=True)
except Exception as error:
    if type(error).__module__ == "paraloss.errors":
        print(f"paraloss: {error}")  # a complete message
    else:
        traceback.print_exc()  # into the output window
        traceback.print_exc(file=sys.__stderr__)
