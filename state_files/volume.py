"""The state ``volume``: shells of equal loss in a ``.vti``, the half towards the viewer cut away.

In ParaView: Tools > Python Shell > Run Script passes no arguments, so set FILES first.
Or: pvpython volume.py FILE
"""

import sys
from pathlib import Path

if "__file__" in globals():
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene
from paraview import servermanager, simple
from screenshot import screenshot

from paraloss.converters.layout import bare
from paraloss.converters.volume_composition import compose_volume
from paraloss.errors import InputError

FILES = sys.argv[1:] or ["volume.vti"]


def draw(files, wanted):
    """Draw the first of ``files``."""
    if Path(files[0]).suffix.lower() != ".vti":
        raise InputError(f"{files[0]}: this state draws .vti; make one: paraloss convert volume.h5 volume.vti")
    return VolumeScene(files[0], wanted)


class VolumeScene:
    """A volume in a view of its own, drawn as ``compose_volume`` decides."""

    def __init__(self, file, wanted):
        self.finer, self.size = wanted.finer, tuple(wanted.finer * side for side in wanted.size)
        self.transparent, look = wanted.picture.transparent, wanted.picture.preset
        reader = simple.XMLImageDataReader(FileName=[str(file)])
        self.composition = compose_volume(_image_behind(reader, file), wanted.picture, bare(wanted.size, wanted.picture, 1))
        self.layout = simple.CreateLayout("Loss volume")
        self.layout.SetSize(*self.size)
        self.view = simple.CreateView("RenderView")
        simple.AssignViewToLayout(view=self.view, layout=self.layout, hint=0)
        self.view.ViewSize = list(self.size)
        self.view.UseColorPaletteForBackground, self.view.BackgroundColorMode = 0, "Single Color"
        self.view.Background = list(look.background)
        self.view.OrientationAxesVisibility = self.view.CenterAxesVisibility = 0
        self.views = [self.view]
        self._add_shells(reader, wanted.picture.scalar_bar)
        outline = simple.Show(reader, self.view)
        outline.Representation = "Outline"
        outline.ColorArrayName = [None, ""]
        outline.AmbientColor = outline.DiffuseColor = list(look.line)
        self.aim()

    def _add_shells(self, reader, scalar_bar):
        scale = self.composition.scale
        shells = simple.Contour(Input=reader)
        shells.ContourBy = ["POINTS", scale.array]
        shells.Isosurfaces = list(self.composition.shells)
        bounds = reader.GetDataInformation().GetBounds()
        half = simple.Clip(Input=shells)
        half.ClipType = "Plane"
        half.ClipType.Origin = [(bounds[k] + bounds[k + 1]) / 2 for k in (0, 2, 4)]
        half.ClipType.Normal = list(self.composition.towards)
        half.Invert = 1
        simple.Hide(reader, self.view)
        display = simple.Show(half, self.view)
        display.Representation = "Surface"
        simple.ColorBy(display, ("POINTS", scale.array))
        table = scene.color_table(scale.array, scale.color_map, scale.low, scale.high)
        display.SetScalarBarVisibility(self.view, scalar_bar)
        if scalar_bar:
            look = self.composition.picture.preset
            scene.fill_scalar_bar(simple.GetScalarBar(table, self.view), table, scale, look.text, self.size, 1)

    def aim(self, turn=None):
        """Put the composition's camera into the view; ``turn``: degrees around the vertical axis."""
        camera = self.composition.camera if turn is None else self.composition.turned(turn)
        self.view.CameraPosition, self.view.CameraFocalPoint = list(camera.position), list(camera.aim)
        self.view.CameraViewUp, self.view.CameraViewAngle = list(camera.up), camera.view_angle

    def save(self, path):
        """Write a picture."""
        screenshot(path, self.view, self.size, self.transparent, self.finer)


def _image_behind(reader, file):
    """The whole volume: from the file if it is on this machine, else from the server."""
    if servermanager.ActiveConnection.IsRemote():
        reader.UpdatePipeline()
        return servermanager.Fetch(reader)
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader

    local = vtkXMLImageDataReader()
    local.SetFileName(str(file))
    local.Update()
    return local.GetOutput()


if __name__ in scene.AS_SCRIPT:
    simple.Render(draw(FILES, scene.Wanted()).views[0])
