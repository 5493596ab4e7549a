"""Scenes of loss surfaces for ParaView's Python: what the states are made of and ``render.py`` draws.

Runs inside pvpython, pvbatch and ParaView's Python shell. Lights, material, colors and camera come from ``paraloss.look``,
the same numbers that pyvista uses.
"""

import inspect
import sys
from pathlib import Path

if not hasattr(inspect, "getargspec"):  # ParaView 5.11 asks Python 3.11 for what it no longer has
    inspect.getargspec = inspect.getfullargspec

import numpy as np
from paraview import servermanager, simple
from vtkmodules.util.numpy_support import vtk_to_numpy

HERE = Path(__file__).resolve().parent
PLUGIN = HERE.parent / "paraview_plugin" / "paraloss_plugin.py"
READER_OPTIONS = {}  # properties that every reader gets, from the command line


def load_plugin():
    """Load the plugin once; it also makes ``import paraloss`` work here."""
    if "LossSurfaceReader" not in dir(simple):
        _cure_all_ranks()
        simple.LoadPlugin(str(PLUGIN), remote=False, ns=simple.__dict__)
        session = servermanager.ActiveConnection
        if session is not None and session.IsRemote():
            simple.LoadPlugin(str(PLUGIN), remote=True, ns=simple.__dict__)
    if "paraloss" not in sys.modules:  # a client of a remote server has not run the plugin's code itself
        import importlib.util

        spec = importlib.util.spec_from_file_location("paraloss_plugin_bootstrap", PLUGIN)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _cure_all_ranks():
    """The cure above, on the other ranks and on a server: a source whose script runs wherever data are made."""
    connection = servermanager.ActiveConnection
    if not connection.IsRemote() and connection.GetNumberOfDataPartitions() == 1:
        return
    source = simple.ProgrammableSource()
    source.Script = "import inspect\ninspect.getargspec = getattr(inspect, 'getargspec', inspect.getfullargspec)"
    source.UpdatePipeline()
    simple.Delete(source)


def open_surface(files, **options):
    """A reader for a surface file, or for several as a time series; options are properties of the reader."""
    load_plugin()
    files = [files] if isinstance(files, (str, Path)) else list(files)
    if Path(files[0]).suffix.lower() == ".vts":
        return simple.XMLStructuredGridReader(FileName=[str(file) for file in files])
    return simple.LossSurfaceReader(FileNames=[str(Path(file).resolve()) for file in files], **{**READER_OPTIONS, **options})


class Scene:
    """Surfaces in views with the look of ``paraloss.look``.

    sources: readers, one a view. view, look, color_map: names in ``paraloss.look``. color_by: array that gives the color,
    if not the height's. color_range: the ends of the color scale, if not the data's. contours, minimum, trajectory: what
    else to show on each surface. finer: draw that many times finer than ``size``, and average in ``save``.
    """

    def __init__(
        self, sources, view="paper", color_map=None, size=(1600, 900), scalar_bar=True, look="paper", color_by="",
        contours=None, minimum=False, trajectory=False, color_range=None, finer=1,
    ):  # fmt: skip
        from paraloss.look import LOOKS, MARK_COLOR, line_radius

        self.sources, self.view_name, self.look = sources, view, LOOKS[look]
        self.color_map = color_map or self.look.color_map
        self.size, self.finer = (finer * size[0], finer * size[1]), finer
        self.scalar_bar = scalar_bar and self.look.surface_color is None
        self.grids = [self._fetch(source) for source in sources]
        self.arrays = [_text(grid, "height_metric") or grid.GetPointData().GetScalars().GetName() for grid in self.grids]
        self._share_scale()
        low, high = self._range()
        lines = self.look.contours if contours is None else contours
        self.levels = self._levels_between(low, high, lines)  # the same on every surface
        if color_by:
            self.arrays = [f"log_{color_by}" if _has(grid, f"log_{color_by}") else color_by for grid in self.grids]
        self.low, self.high = color_range or self._range()
        self.views = []
        # In ParaView's window there is a layout with an empty view already; making another there hangs in 5.11.
        waiting = simple.GetActiveView() if simple.GetRenderViews() else None
        self.layout = simple.GetLayout(waiting) if waiting else simple.CreateLayout("Loss surface")
        for number in range(len(sources)):
            self.views.append(self._empty_view(number, waiting if number == 0 else None))
        if waiting:
            self.size = (waiting.ViewSize[0] * len(sources), waiting.ViewSize[1])
        else:
            self.layout.SetSize(*self.size)  # before anything is drawn: ambient occlusion keeps the size of its first picture
        for number, source in enumerate(sources):
            self._fill(number, source)
            if self.levels:
                radius = line_radius(self.size[1] // self.finer)
                lines = self.add(simple.SurfaceContours(Input=source, Levels=self.levels, Radius=radius), number)
                lines.Ambient, lines.Diffuse, lines.Specular = 1.0, 0.0, 0.0  # the color itself, whatever the light
            if minimum:
                self.add(simple.MinimumMarker(Input=source), number, color=MARK_COLOR)
            if trajectory:
                self.add(simple.OptimizerTrajectory(Input=source), number)
                self.mark_path_ends(number)
        self.aim()

    @classmethod
    def adopt(cls, size, finer=1):
        """The scene of a state that was just loaded: colors and cameras are fitted to its data."""
        self = cls.__new__(cls)
        self.sources = [
            s for s in simple.GetSources().values() if s.GetXMLName() in ("LossSurfaceReader", "XMLStructuredGridReader")
        ]
        if not self.sources:
            raise SystemExit("paraloss: this state reads no loss surface")
        from paraloss.look import Look

        self.look, self.view_name, self.scalar_bar = Look(), "paper", True
        self.size, self.finer = (finer * size[0], finer * size[1]), finer
        self.grids = [self._fetch(source) for source in self.sources]
        self.arrays = [_text(grid, "height_metric") or grid.GetPointData().GetScalars().GetName() for grid in self.grids]
        self._share_scale()
        self.low, self.high = self._range()
        self.views = simple.GetRenderViews()
        self.layout = simple.GetLayout(self.views[0])
        for name in set(self.arrays):
            simple.GetColorTransferFunction(name).RescaleTransferFunction(self.low, self.high)
        for view, grid in zip(self.views, self.grids, strict=False):
            self._light(view, grid)
        last = len(self.sources) - 1
        self._scalar_bar(simple.GetColorTransferFunction(self.arrays[last]), self.views[last], last)
        self.aim()
        return self

    def add(self, proxy, number=0, color=None, array=None):
        """Show another source in view ``number``: in one color, or colored by ``array``."""
        display = simple.Show(proxy, self.views[number])
        display.Representation = "Surface"
        if array:
            simple.ColorBy(display, ("POINTS", array))
            display.RescaleTransferFunctionToDataRange()
            display.SetScalarBarVisibility(self.views[number], False)
        else:
            display.ColorArrayName = [None, ""]
            display.AmbientColor = display.DiffuseColor = list(color or self.look.line)
        return display

    def mark_path_ends(self, number=0):
        """Balls where the optimizer's path starts and ends on the surface of view ``number``."""
        from paraloss.converters.geometry import path_ends
        from paraloss.look import BALL_RADIUS, MARK_COLOR, START_COLOR

        grid = self.grids[number]
        if grid.GetFieldData().GetArray("trajectory_x") is None:
            return
        for place, color in zip(path_ends(grid), (START_COLOR, MARK_COLOR), strict=True):
            if np.isfinite(place).all():
                ball = simple.Sphere(Center=place.tolist(), Radius=BALL_RADIUS * max(_width(grid)))
                ball.ThetaResolution = ball.PhiResolution = 32
                self.add(ball, number, color=color)

    def aim(self, turn=0.0):
        """Fit the camera of every view to all surfaces; ``turn`` degrees around the vertical axis."""
        from paraloss.look import VIEW_ANGLE, camera_for, camera_points, turned

        points = camera_points(np.concatenate([_visible_points(grid) for grid in self.grids]))
        aspect = self.size[0] / len(self.views) / self.size[1]
        margin = 0.15 / aspect if self.scalar_bar else 0.0  # in every view, so that all show one scale
        if turn:
            position, aim, up = turned(points, self.view_name, aspect, turn, margin)
        else:
            position, aim, up = camera_for(points, self.view_name, aspect, margin)
        for view in self.views:
            view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = list(position), list(aim), list(up)
            view.CameraViewAngle = VIEW_ANGLE
            view.CenterOfRotation = list(aim)

    def save(self, path, transparent=False):
        """Write a picture."""
        self.layout.SeparatorWidth, self.layout.SeparatorColor = 0, list(self.look.background)
        several = len(self.views) > 1
        seam = {"SeparatorWidth": 0, "SeparatorColor": list(self.look.background)} if several else {}
        _screenshot(path, self.layout if several else self.views[0], self.size, transparent, self.finer, **seam)

    def _fetch(self, source):
        source.UpdatePipeline()
        if source.GetDataInformation().GetNumberOfPoints() == 0:
            raise SystemExit("paraloss: nothing to draw; see the message above")
        if servermanager.ActiveConnection.GetNumberOfDataPartitions() > 1:
            return _whole_grid(source)  # fetching brings one rank's piece only
        return servermanager.Fetch(source)

    def _share_scale(self):
        """Several surfaces get one height a unit of loss."""
        from paraloss.look import HEIGHT_OF_WIDTH

        fixed = "HeightScale" in READER_OPTIONS
        if fixed or len(self.sources) < 2 or not all(hasattr(source, "AutomaticHeight") for source in self.sources):
            return
        low, high = self._range()
        width = max(max(_width(grid)) for grid in self.grids)
        for source in self.sources:
            source.AutomaticHeight = 0
            source.HeightScale = HEIGHT_OF_WIDTH * width / (high - low) if high > low else 1.0
        self.grids = [self._fetch(source) for source in self.sources]

    def _range(self):
        values = [vtk_to_numpy(grid.GetPointData().GetArray(name)) for grid, name in zip(self.grids, self.arrays, strict=False)]
        finite = np.concatenate([array[np.isfinite(array)] for array in values])
        return float(finite.min()), float(finite.max())

    def _levels_between(self, low, high, number):
        """Contour levels in the metric's own unit, evenly spaced in height, as the filter's property takes them."""
        steps = np.linspace(low, high, number + 2)[1:-1]
        if self.arrays[0].startswith("log_"):
            field = self.grids[0].GetFieldData().GetArray("log_offset")
            steps = np.exp(steps) - (field.GetValue(0) if field else 0.1)
        return " ".join(repr(float(step)) for step in steps)

    def _empty_view(self, number, waiting):
        view = waiting or simple.CreateView("RenderView")
        if waiting:
            pass
        elif number == 0:
            simple.AssignViewToLayout(view=view, layout=self.layout, hint=0)
        else:  # each new view takes its share of the cell that the last one holds
            left = len(self.sources) - number + 1
            cell = self.layout.SplitHorizontal(self.layout.GetViewLocation(self.views[-1]), 1.0 / left)
            simple.AssignViewToLayout(view=view, layout=self.layout, hint=cell + 1)
        view.ViewSize = [self.size[0] // len(self.sources), self.size[1]]
        view.UseColorPaletteForBackground = 0
        view.BackgroundColorMode = "Single Color"
        view.Background = list(self.look.background)
        view.OrientationAxesVisibility = 0
        view.CenterAxesVisibility = 0
        view.UseLight = 0
        return view

    def _fill(self, number, source):
        from paraloss.look import COLOR_MAPS

        look, view = self.look, self.views[number]
        self._light(view, self.grids[number])
        display = simple.Show(source, view, "StructuredGridRepresentation")
        display.Representation = "Surface"
        display.Ambient, display.Diffuse = look.material.ambient, look.material.diffuse
        display.Specular, display.SpecularPower = look.material.specular, look.material.specular_power
        display.Interpolation = "Gouraud"
        if look.surface_color is not None:
            display.ColorArrayName = [None, ""]
            display.AmbientColor = display.DiffuseColor = list(look.surface_color)
            return
        simple.ColorBy(display, ("POINTS", self.arrays[number]))
        table = simple.GetColorTransferFunction(self.arrays[number])
        space, points = COLOR_MAPS[self.color_map]
        table.ColorSpace = space
        span = self.high - self.low or 1.0
        table.RGBPoints = [c for value, r, g, b in points for c in (self.low + value * span, r, g, b)]
        table.AutomaticRescaleRangeMode = "Never"
        table.NumberOfTableValues = 1024
        display.SetScalarBarVisibility(view, False)
        if self.scalar_bar and number == len(self.sources) - 1:
            display.SetScalarBarVisibility(view, True)
            self._scalar_bar(table, view, number)

    def _light(self, view, grid):
        """Lights and ambient occlusion, in proportion to the surface."""
        look, width, bounds = self.look, max(_width(grid)), grid.GetBounds()
        middle = np.array([(bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2, bounds[4]])
        lights = list(view.AdditionalLights) or [simple.CreateLight() for _ in look.lights]
        for light, spec in zip(lights, look.lights, strict=False):
            light.Coords = "Scene"
            light.Type = "Directional"
            light.Position = list(middle + width * np.array(spec.position))
            light.FocalPoint = list(middle)
            light.Intensity = spec.intensity
            light.DiffuseColor = list(spec.color)
        view.AdditionalLights = lights
        if not look.occlusion_radius:
            return
        _set_where_known(view, UseAmbientOcclusion=1, UseSSAODefaultPresets=0, Radius=look.occlusion_radius * width)
        _set_where_known(view, Bias=0.005 * width, KernelSize=32, Blur=1, UseFXAA=1)

    def _scalar_bar(self, table, view, number):
        """A scale whose ticks are round numbers in the metric's own unit."""
        from paraloss.converters.scale import ticks_between

        name = self.arrays[number]
        field = self.grids[number].GetFieldData().GetArray("log_offset")
        offset = field.GetValue(0) if field else 0.1
        ticks = ticks_between(self.low, self.high, name.startswith("log_"), offset)
        table.Annotations = [part for value, text in ticks for part in (repr(value), text)]
        bar = simple.GetScalarBar(table, view)
        bar.Title, bar.ComponentTitle = name.removeprefix("log_").replace("_", " "), ""
        _set_where_known(bar, HorizontalTitle=1)
        bar.TitleColor = bar.LabelColor = list(self.look.text)
        font = max(9, round(0.022 * self.size[1]))
        bar.TitleFontSize = bar.LabelFontSize = font
        bar.DrawTickLabels = bar.DrawTickMarks = bar.AddRangeLabels = 0
        bar.DrawAnnotations = 1
        bar.WindowLocation = "Any Location"
        bar.Position, bar.ScalarBarLength = [1 - 0.09 * self.size[1] * len(self.sources) / self.size[0], 0.2], 0.55
        bar.ScalarBarThickness = max(8, font // 2)
        bar.Orientation = "Vertical"
        bar.Visibility = 1


def lit_surface(files, **options):
    """One surface, lit."""
    return Scene([open_surface(files[:1])], **options)


def side_by_side(files, **options):
    """Two or more surfaces with linked cameras, one color scale and one height scale."""
    files = list(files) if len(files) > 1 else [files[0], files[0]]
    scene = Scene([open_surface(file) for file in files], **options)
    for number, view in enumerate(scene.views[1:]):
        simple.AddCameraLink(scene.views[0], view, f"camera {number}")
    return scene


def contours(files, **options):
    """One surface with contour lines and its minimum."""
    return Scene([open_surface(files[:1])], **{**options, "contours": options.get("contours") or 10, "minimum": True})


def trajectory(files, **options):
    """One surface with the optimizer's path on it, colored by step."""
    source = open_surface(files[:1])
    scene = Scene([source], **{**options, "trajectory": False})
    scene.add(simple.OptimizerTrajectory(Input=source), array="step")
    return scene


def training_time_series(files, **options):
    """A series of surfaces, an epoch each, to be played; the scale is that of the first step."""
    return Scene([open_surface(files)], **options)


class VolumeScene:
    """A volume (``.vti``): shells of equal loss, the half towards the viewer cut away. Options as of ``Scene``."""

    def __init__(
        self, files, view="paper", color_map=None, size=(1600, 900), scalar_bar=True, look="paper", contours=None, finer=1, **_
    ):  # fmt: skip
        load_plugin()
        from paraloss.look import CAMERAS, COLOR_MAPS, LOOKS

        if Path(files[0]).suffix.lower() != ".vti":
            raise SystemExit(f"paraloss: {files[0]}: this state draws .vti; make one: paraloss convert volume.h5 volume.vti")
        self.look, self.view_name = LOOKS[look], view
        self.size, self.finer = (finer * size[0], finer * size[1]), finer
        reader = simple.XMLImageDataReader(FileName=[str(file) for file in files])
        reader.UpdatePipeline()
        arrays = [reader.PointData.GetArray(k) for k in range(reader.PointData.GetNumberOfArrays())]
        array = next((a for a in arrays if a.Name.startswith("log_train")), next(a for a in arrays if a.Name != "status"))
        low, high = array.GetRange()
        self.bounds = reader.GetDataInformation().GetBounds()
        self.layout = simple.CreateLayout("Loss volume")
        self.layout.SetSize(*self.size)
        self.view = simple.CreateView("RenderView")
        simple.AssignViewToLayout(view=self.view, layout=self.layout, hint=0)
        self.view.ViewSize = list(self.size)
        self.view.UseColorPaletteForBackground, self.view.BackgroundColorMode = 0, "Single Color"
        self.view.Background = list(self.look.background)
        self.view.OrientationAxesVisibility = self.view.CenterAxesVisibility = 0
        shells = simple.Contour(Input=reader)
        shells.ContourBy = ["POINTS", array.Name]
        shells.Isosurfaces = np.linspace(low, high, (contours or 6) + 2)[1:-1].tolist()
        half = simple.Clip(Input=shells)
        half.ClipType = "Plane"
        half.ClipType.Origin = [(self.bounds[k] + self.bounds[k + 1]) / 2 for k in (0, 2, 4)]
        half.ClipType.Normal = [CAMERAS[view].position[0], CAMERAS[view].position[1], 0.0]
        half.Invert = 1
        simple.Hide(reader, self.view)
        display = simple.Show(half, self.view)
        display.Representation = "Surface"
        simple.ColorBy(display, ("POINTS", array.Name))
        table = simple.GetColorTransferFunction(array.Name)
        space, points = COLOR_MAPS[color_map or self.look.color_map]
        table.ColorSpace, span = space, high - low or 1.0
        table.RGBPoints = [c for value, r, g, b in points for c in (low + value * span, r, g, b)]
        display.SetScalarBarVisibility(self.view, bool(scalar_bar))
        outline = simple.Show(reader, self.view)
        outline.Representation = "Outline"
        outline.ColorArrayName = [None, ""]
        outline.AmbientColor = outline.DiffuseColor = list(self.look.line)
        self.views = [self.view]
        self.aim()

    def aim(self, turn=0.0):
        """Fit the camera to the box; ``turn`` degrees around the vertical axis."""
        from itertools import product

        from paraloss.look import VIEW_ANGLE, camera_for, turned

        b = self.bounds
        corners, aspect = np.array(list(product(b[:2], b[2:4], b[4:]))), self.size[0] / self.size[1]
        found = turned(corners, self.view_name, aspect, turn) if turn else camera_for(corners, self.view_name, aspect)
        position, aim, up = (list(part) for part in found)
        self.view.CameraPosition, self.view.CameraFocalPoint, self.view.CameraViewUp = position, aim, up
        self.view.CameraViewAngle = VIEW_ANGLE

    def save(self, path, transparent=False):
        """Write a picture."""
        _screenshot(path, self.view, self.size, transparent, self.finer)


def volume(files, **options):
    """Shells of equal loss in a volume."""
    return VolumeScene(files, **options)


STATES = {f.__name__: f for f in (lit_surface, side_by_side, contours, trajectory, training_time_series, volume)}


def _set_where_known(proxy, **properties):
    """Niceties that not every release of ParaView has; without them the picture is plainer, not wrong."""
    for name, value in properties.items():
        try:
            setattr(proxy, name, value)
        except AttributeError:
            print(f"paraloss: this ParaView has no {name}; going on without it", file=sys.stderr)


def _screenshot(path, target, size, transparent, finer, **options):
    """Draw in ``size`` and write the means of ``finer`` × ``finer`` pixels: ambient occlusion leaves edges jagged otherwise."""
    if finer > 1:
        options["CompressionLevel"] = "1"  # it is read back at once
    simple.SaveScreenshot(str(path), target, ImageResolution=list(size), TransparentBackground=int(transparent), **options)
    if finer == 1 or not Path(path).exists():  # ranks other than 0 write nothing
        return
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOImage import vtkPNGReader, vtkPNGWriter

    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    drawn = reader.GetOutput()
    width, height, _ = drawn.GetDimensions()
    pixels = vtk_to_numpy(drawn.GetPointData().GetScalars()).reshape(height, width, -1).astype(np.float32)
    alpha = pixels[..., 3:] / 255 if pixels.shape[-1] == 4 else np.ones((height, width, 1), np.float32)
    blocks = (height // finer, finer, width // finer, finer, -1)
    covered = alpha.reshape(blocks).mean(axis=(1, 3))
    colors = (pixels[..., :3] * alpha).reshape(blocks).mean(axis=(1, 3)) / np.maximum(covered, 1e-6)
    means = np.concatenate([colors, covered * 255], axis=-1)[..., : pixels.shape[-1]]
    small = vtkImageData()
    small.SetDimensions(width // finer, height // finer, 1)
    small.GetPointData().SetScalars(numpy_to_vtk(means.round().astype(np.uint8).reshape(-1, pixels.shape[-1]), deep=True))
    writer = vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(small)
    writer.Write()


def _whole_grid(reader):
    """The grid that ``reader`` makes on its ranks together, made here from its file and its properties."""
    if reader.GetXMLName() == "XMLStructuredGridReader":
        from vtkmodules.vtkIOXML import vtkXMLStructuredGridReader

        vts = vtkXMLStructuredGridReader()
        vts.SetFileName(reader.FileName[0])
        vts.Update()
        return vts.GetOutput()
    from paraloss.converters import GridOptions, open_surface, to_structured_grid

    def value(name):
        return servermanager.vtkSMPropertyHelper(reader.SMProxy, name)

    options = GridOptions(
        metric=value("Metric").GetAsString() or None,
        log=(None, True, False)[value("LogScale").GetAsInt()],
        log_offset=value("LogOffset").GetAsDouble(),
        zmax=value("ClipAt").GetAsDouble() if value("Clip").GetAsInt() else None,
        height_scale=None if value("AutomaticHeight").GetAsInt() else value("HeightScale").GetAsDouble(),
    )
    return to_structured_grid(open_surface(value("FileNames").GetAsString()), options)


def _has(grid, name):
    return grid.GetPointData().GetArray(name) is not None


def _text(grid, name):
    array = grid.GetFieldData().GetAbstractArray(name)
    return array.GetValue(0) if array is not None else ""


def _width(grid):
    bounds = grid.GetBounds()
    return bounds[1] - bounds[0], bounds[3] - bounds[2]


def _visible_points(grid):
    points = vtk_to_numpy(grid.GetPoints().GetData()).astype(float)
    ghosts = grid.GetPointData().GetArray("vtkGhostType")
    return points if ghosts is None else points[(vtk_to_numpy(ghosts) & 2) == 0]
