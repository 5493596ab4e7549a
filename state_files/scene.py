"""What the states share: surfaces in ParaView's views, drawn as a composition says.

Runs inside pvpython, pvbatch and ParaView's Python shell. ``paraloss.converters.composition`` decides heights, colors, levels,
lights and camera, for ParaView as for every other engine; this module puts them into proxies.
"""

import importlib
from dataclasses import dataclass, field, replace

from paraview import simple
from readers import fix_heights, paths_of, read, surface_behind  # first: it makes `import paraloss` work
from screenshot import screenshot, set_where_known

from paraloss.converters.composition import Composition, compose
from paraloss.converters.layout import bare, has_scale
from paraloss.errors import InputError
from paraloss.look import COLOR_MAPS, MARK_COLOR, SHINE
from paraloss.picture_options import DRAWN_BY_PARAVIEW, GridOptions, PictureOptions

__all__ = ["AS_SCRIPT", "STATES", "Scene", "Wanted", "compose_sources", "draw", "paths_of", "show", "waiting_view"]
AS_SCRIPT = ("__main__", "__vtkconsole__")
STATES = ("lit_surface", "side_by_side", "contours", "trajectory", "training_time_series", "volume")


@dataclass(frozen=True)
class Wanted:
    """What a state is drawn with.

    Attributes:
        heights: options of heights.
        picture: options of the picture.
        size: pixels of the picture.
        finer: how many times finer to draw than ``size``; ``save`` writes the means.
        composition: a composition that was decided elsewhere, instead of heights and picture.
    """

    heights: GridOptions = field(default_factory=GridOptions)
    picture: PictureOptions = field(default_factory=PictureOptions)
    size: tuple[int, int] = (1600, 900)
    finer: int = 1
    composition: Composition | None = None

    def showing(self, **options):
        """The same with other options of the picture."""
        return replace(self, picture=replace(self.picture, **options))


def draw(state, files, wanted=None):
    """Draw a state of this folder on surface files; ``state`` is one of ``STATES``."""
    if state not in STATES:
        raise InputError(f"unknown state '{state}'; there are {', '.join(STATES)}")
    return importlib.import_module(state).draw(files, wanted or Wanted())


def show(groups, wanted):
    """A scene with a view for each group of files; several files of a group are a time series."""
    waiting = waiting_view()
    size = tuple(waiting.ViewSize) if waiting else wanted.size  # the window halves its view for the second surface
    sources = [read(files, wanted.heights) for files in groups]
    composition = wanted.composition or compose_sources(sources, wanted.picture, size)
    if len(composition.panels) != len(sources):
        raise InputError(f"the composition is of {len(composition.panels)} surfaces, not of {len(sources)}")
    if wanted.composition or len(sources) > 1:
        for source, panel in zip(sources, composition.panels, strict=True):
            fix_heights(source, panel.options, everything=wanted.composition is not None)
    return Scene(sources, composition, 1 if waiting else wanted.finer)


def compose_sources(sources, picture, size):
    """The composition of what readers show, in views beside each other."""
    asked = picture.beyond(*DRAWN_BY_PARAVIEW)
    if asked:
        raise InputError(f"{', '.join(asked)}: not drawn by ParaView")
    surfaces, options = zip(*[surface_behind(source) for source in sources], strict=True)
    heights = options[0]
    if len(sources) > 1 and hasattr(sources[0], "AutomaticHeight"):
        heights = replace(heights, height_scale=None)  # one scale for all
    return compose(surfaces, heights, picture, layout=bare(size, picture, len(sources)))


def source_name(source):
    """The name of a source in the pipeline browser, with its number where another has the same, as a file of another folder."""
    names = [name for name, _ in simple.GetSources()]
    name = next((name for (name, _), one in simple.GetSources().items() if one == source), source.GetXMLName())
    return name if names.count(name) < 2 else f"{name} ({source.GetGlobalIDAsString()})"


def waiting_view():
    """The active view of ParaView's window, or its first that draws: making another one beside it hangs in 5.11."""
    views, active = simple.GetRenderViews(), simple.GetActiveView()
    return active if active in views else (views[0] if views else None)


class Scene:
    """Readers in views beside each other, drawn as ``composition`` says.

    Args:
        sources: one reader per view.
        composition: composition of the picture.
        finer: how many times finer to draw; ``save`` writes the means.
        views: views that hold the surfaces already, as in a state that was loaded.
    """

    def __init__(self, sources, composition, finer=1, views=()):
        simple._DisableFirstRenderCameraReset()  # as ParaView's own scripts do: it would undo ``aim``
        self.sources, self.composition, self.finer = sources, composition, finer
        self.size = tuple(finer * side for side in composition.layout.size)
        waiting = None if views else waiting_view()
        self.views = list(views)
        self._names = set()
        self.is_picture = not waiting  # in ParaView's window the pipeline holds what the user may change, and nothing else
        if self.views or waiting:
            self.layout = simple.GetLayout((self.views or [waiting])[0])
        else:
            self.layout = simple.CreateLayout("Loss surface")
        if not waiting:
            self.layout.SetSize(*self.size)  # before anything is drawn: ambient occlusion keeps the size of its first picture
        for number in range(len(self.views), len(sources)):
            self.views.append(self._empty_view(number, waiting))
        for view in self.views:
            self._light(view)
        if not views:
            for number, source in enumerate(sources):
                self._fill(number, source)
        self.aim()

    def made(self, kind, number, what, **properties):
        """A source or filter named after the file of view ``number`` and ``what`` it is; an earlier scene's is used again."""
        name = f"{source_name(self.sources[number])} {what}"
        while name in self._names:  # the same file in two views
            name += "'"
        self._names.add(name)
        found = simple.FindSource(name)
        if found is None or found.GetXMLLabel().replace(" ", "") != kind:
            return getattr(simple, kind)(registrationName=name, **properties)
        for key, value in properties.items():
            setattr(found, key, value)
        return found

    def add(self, proxy, number=0, color=None, array=None):
        """Show another source in view ``number``: in one color, or colored by ``array``."""
        display = simple.Show(proxy, self.views[number])
        display.Representation = "Surface"
        if array:
            proxy.UpdatePipeline()
            simple.ColorBy(display, ("POINTS", array))
            color_table(array, "cool-to-warm", *proxy.PointData[array].GetRange())
            display.SetScalarBarVisibility(self.views[number], False)
        else:
            display.ColorArrayName = [None, ""]
            display.AmbientColor = display.DiffuseColor = list(color or self.composition.look.line)
        return display

    def add_mark(self, proxy, number, color):
        """Show a mark or a path in view ``number``, and a pale one in front of everything: seen where the surface hides it."""
        self.add(proxy, number, color=color)
        if not self.is_picture:
            return
        pale = simple.ExtractSurface(Input=proxy)
        display = self.add(pale, number, color=color)
        display.Opacity = SHINE
        pale.UpdatePipeline()
        simple.Render(self.views[number])
        mapper = display.GetClientSideObject().GetActiveRepresentation().GetActor().GetMapper()
        mapper.SetResolveCoincidentTopologyToPolygonOffset()
        mapper.SetRelativeCoincidentTopologyPolygonOffsetParameters(0.0, -66_000.0)  # the whole depth of the scene

    def add_paths(self, number, paths):
        """Show optimizer paths on the surface of view ``number``, in their colors, with the names of several runs."""
        for path in [path for path in paths if path.balls]:
            which, run = ({"Path": path.number}, f" of {path.label}") if len(paths) > 1 else ({}, "")
            tube = self.made("OptimizerTrajectory", number, f"path{run}", Input=self.sources[number], **which)
            self.add_mark(tube, number, path.color)
            for mark, end in zip(path.balls, ("start", "end"), strict=False):
                ball = self.made("Sphere", number, f"{end}{run}", Center=list(mark.center), Radius=mark.radius)
                ball.ThetaResolution = ball.PhiResolution = 32
                self.add_mark(ball, number, mark.color)
            if path.label:
                self._add_name(number, path)

    def _add_name(self, number, path):
        """The name of a run, in its color, in the upper left corner of a view."""
        text = self.made("Text", number, f"name of {path.label}", Text=path.label)
        display, font = simple.Show(text, self.views[number]), max(10, round(0.024 * self.size[1]))
        display.WindowLocation, display.FontSize, display.Bold = "Any Location", font, 1
        display.Position = [0.02, 0.95 - 1.6 * path.number * font / self.size[1]]
        display.Color = list(path.color)

    def aim(self, turn=None):
        """Put the composition's camera into every view; ``turn``: degrees around the vertical axis."""
        camera = self.composition.camera if turn is None else self.composition.turned(turn)
        for view in self.views:
            view.CameraPosition, view.CameraFocalPoint = list(camera.position), list(camera.aim)
            view.CameraViewUp, view.CameraViewAngle = list(camera.up), camera.view_angle
            view.CenterOfRotation = list(camera.aim)

    def save(self, path):
        """Write a picture."""
        background = list(self.composition.look.background)
        self.layout.SeparatorWidth, self.layout.SeparatorColor = 0, background
        several = len(self.views) > 1
        seam = {"SeparatorWidth": 0, "SeparatorColor": background} if several else {}
        transparent = self.composition.picture.transparent
        screenshot(path, self.layout if several else self.views[0], self.size, transparent, self.finer, **seam)

    def _empty_view(self, number, waiting):
        view = waiting if waiting and number == 0 else simple.CreateView("RenderView")
        if number == 0 and not waiting:
            simple.AssignViewToLayout(view=view, layout=self.layout, hint=0)
        elif number:  # each new view takes its share of the cell that the last one holds
            left = len(self.sources) - number + 1
            cell = self.layout.SplitHorizontal(self.layout.GetViewLocation(self.views[-1]), 1.0 / left)
            simple.AssignViewToLayout(view=view, layout=self.layout, hint=cell + 1)
        if not waiting:  # the window sizes its views itself
            view.ViewSize = [self.size[0] // len(self.sources), self.size[1]]
        view.UseColorPaletteForBackground = 0
        view.BackgroundColorMode = "Single Color"
        view.Background = list(self.composition.look.background)
        view.OrientationAxesVisibility = 0
        view.CenterAxesVisibility = 0
        view.UseLight = 0
        return view

    def _fill(self, number, source):
        """The surface of one view, with its lines and marks."""
        picture, look, panel = self.composition.picture, self.composition.look, self.composition.panels[number]
        whole = panel.options.zmax is None
        shown = source if whole else self.made("CutSurface", number, "below its limit", Input=source)
        display = simple.Show(shown, self.views[number])
        display.Representation = "Surface"
        display.Ambient, display.Diffuse = look.material.ambient, look.material.diffuse
        display.Specular, display.SpecularPower = look.material.specular, look.material.specular_power
        display.Interpolation = "Gouraud"
        if "Normals" in shown.PointData.keys():  # noqa: SIM118, no dict; a .hdf does not say that they are its normals
            display.SelectNormalArray = "Normals"
        self._color(number, display)
        if self.composition.levels:
            levels, radius = " ".join(map(repr, self.composition.levels)), self.composition.line_radius
            lines = self.add(
                self.made("SurfaceContours", number, "contours", Input=source, Levels=levels, Radius=radius), number
            )
            lines.Ambient, lines.Diffuse, lines.Specular = 1.0, 0.0, 0.0  # the color itself, whatever the light
        if picture.minimum:
            self.add_mark(self.made("MinimumMarker", number, "minimum", Input=source), number, MARK_COLOR)
        self.add_paths(number, panel.paths)

    def _color(self, number, display):
        scale, color, view = self.composition.scale, self.composition.panels[number].color, self.views[number]
        if color is not None:
            display.ColorArrayName = [None, ""]
            display.AmbientColor = display.DiffuseColor = list(color)
            return
        simple.ColorBy(display, ("POINTS", scale.array))
        table = color_table(scale.array, scale.color_map, scale.low, scale.high)
        display.SetScalarBarVisibility(view, False)
        if has_scale(self.composition.picture) and number == len(self.sources) - 1:
            display.SetScalarBarVisibility(view, True)
            self.fit_scalar_bar(table, view)

    def fit_scalar_bar(self, table, view):
        """Put the composition's ticks into the scalar bar of ``view``."""
        bar, color = simple.GetScalarBar(table, view), self.composition.look.text
        fill_scalar_bar(bar, table, self.composition.scale, color, self.size, len(self.sources))

    def _light(self, view):
        """The composition's lights and ambient occlusion."""
        look, width, wanted = self.composition.look, self.composition.width, self.composition.lights
        lights = list(view.AdditionalLights) or [simple.CreateLight() for _ in wanted]
        for light, placed in zip(lights, wanted, strict=False):
            light.Coords = "Scene"
            light.Type = "Directional"
            light.Position, light.FocalPoint = list(placed.position), list(placed.focal_point)
            light.Intensity = placed.intensity
            light.DiffuseColor = list(placed.color)
        view.AdditionalLights = lights
        if not look.occlusion_radius:
            return
        set_where_known(view, UseAmbientOcclusion=1, UseSSAODefaultPresets=0, Radius=look.occlusion_radius * width)
        set_where_known(view, Bias=0.005 * width, KernelSize=32, Blur=1, UseFXAA=1)


def fill_scalar_bar(bar, table, scale, color, size, views):
    """Give a scalar bar the title and ticks of ``scale``, legible in a picture of ``size`` with so many views."""
    table.Annotations = [part for value, text in scale.ticks for part in (repr(value), text)]
    bar.Title, bar.ComponentTitle = scale.title, ""
    set_where_known(bar, HorizontalTitle=1)
    bar.TitleColor = bar.LabelColor = list(color)
    font = max(9, round(0.022 * size[1]))
    bar.TitleFontSize = bar.LabelFontSize = font
    bar.DrawTickLabels = bar.DrawTickMarks = bar.AddRangeLabels = 0
    bar.DrawAnnotations = 1
    bar.WindowLocation = "Any Location"
    bar.Position, bar.ScalarBarLength = [1 - 0.09 * size[1] * views / size[0], 0.2], 0.55
    bar.ScalarBarThickness = max(8, font // 2)
    bar.Orientation = "Vertical"
    bar.Visibility = 1


def color_table(array, color_map, low, high):
    """The color table of an array: a map of ``paraloss.look`` from ``low`` to ``high``."""
    table = simple.GetColorTransferFunction(array)
    table.ColorSpace, points = COLOR_MAPS[color_map]
    span = high - low or 1.0
    table.RGBPoints = [c for value, r, g, b in points for c in (low + value * span, r, g, b)]
    table.AutomaticRescaleRangeMode = "Never"
    table.NumberOfTableValues = 1024
    return table
