"""What the button "Paraloss: light it" does: the active surface lit, framed and colored in the loss's own unit.

The button is a macro that ``paraloss paraview --install`` writes.
"""

import sys
from pathlib import Path

if "__file__" in globals() and str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene
from paraview import simple
from readers import load_plugin

from paraloss.errors import InputError, ParalossError
from paraloss.picture_options import PictureOptions


def light_it():
    """Light the active surface in the active view; without one a line in the shell says what to do."""
    load_plugin()  # one that was loaded by hand is not known to paraview.simple
    try:
        source = find_surface()
        view = scene.waiting_view()
        size = tuple(view.ViewSize) if view else (1600, 900)
        drawn = scene.Scene([source], scene.compose_sources([source], PictureOptions(), size))
    except ParalossError as error:
        print(f"paraloss: {error}")
        return
    simple.SetActiveSource(source)
    drawn.views[0].StillRender()


def find_surface():
    """The active source, or the surface that it was made from, or the only surface there is.

    Raises:
        InputError: there is none, or several and none is active.
    """
    source = simple.GetActiveSource()
    while source is not None:
        if _is_surface(source):
            return source
        inputs = getattr(source, "Input", None)
        several = inputs is not None and not hasattr(inputs, "UpdatePipeline")
        source = next(iter(inputs), None) if several else inputs
    surfaces = [one for one in simple.GetSources().values() if _is_surface(one)]
    if len(surfaces) != 1:
        what = "several surfaces are open" if surfaces else "no loss surface is open"
        raise InputError(f"{what}: {'click on one in the Pipeline Browser' if surfaces else 'open one with File > Open'}")
    return surfaces[0]


def _is_surface(source):
    """Whether a source's data carry the facts of heights: a reader's, the filter Loss Surface's, a ``.vts``, a ``.hdf``."""
    source.UpdatePipeline()
    grid = source.GetDataInformation().GetDataSetTypeAsString() in ("vtkStructuredGrid", "vtkUnstructuredGrid")
    return grid and "height_metric" in set(source.FieldData.keys())
