"""What ParaView's window shows of a surface that its user opens: lit, ticks in the unit of the loss, seen from the front right.

The window draws new data with a headlight, from above, in powers of e. A surface that a user opens there (File > Open, Apply)
is dressed once, after its first picture; from then on it is the user's. Scripts and loaded states show what they say.
"""

import sys
from pathlib import Path

from paraloss.errors import ParalossError
from paraloss.paraview_plugin.parts.messages import report

READERS = ("LossSurfaceReader", "XMLStructuredGridReader")
MOST_POINTS = 4_000_000  # more are shown as ParaView does: ticks and camera would take seconds


def watch():
    """Dress surfaces that are opened in ParaView's window from now on; does nothing in other programs."""
    from paraview.modules.vtkRemotingCore import vtkProcessModule

    if Path(vtkProcessModule.GetProcessModule().GetProgramPath() or "").stem.lower() != "paraview":
        return
    from paraview import servermanager

    manager = servermanager.vtkSMProxyManager.GetProxyManager()
    manager.AddObserver("RegisterEvent", _registered)
    manager.AddObserver("LoadStateEvent", _loaded)


def _registered(manager, event):
    by_script = sys._getframe().f_back is not None  # ParaView itself calls from outside of Python
    proxies = manager.GetActiveSessionProxyManager()
    if proxies is not None:
        _connect(proxies)
        _wardrobe.look(proxies, by_script)


def _loaded(manager, event):
    _wardrobe.forget_waiting()


class Wardrobe:
    """The representations that have been looked at, and those that wait for their first picture."""

    def __init__(self):
        self._known, self._waiting = set(), []

    def look(self, proxies, by_script):
        """Find representations that have just been made; those of surfaces are dressed unless a script made them."""
        for proxy in _all(proxies, "representations"):
            if proxy.GetGlobalID() in self._known:
                continue
            self._known.add(proxy.GetGlobalID())
            reader = _input_of(proxy)
            if by_script or reader is None or reader.GetXMLName() not in READERS:
                continue
            for view in _all(proxies, "views"):
                self._wait(view, proxy, reader)

    def _wait(self, view, proxy, reader):
        """Dress ``proxy`` at the end of the view's first picture that shows it."""

        def dress():
            if self._waiting:
                self.forget_waiting()
                _try_to_dress(view, proxy, reader)

        def drawn(*_):  # takes nothing away: an observer that goes while it is called takes its own code with it
            if self._waiting and _shows(view, proxy):
                _soon(view, dress)

        self._waiting.append((view, view.AddObserver("EndEvent", drawn)))

    def forget_waiting(self):
        """Dress none of those that wait."""
        for view, tag in self._waiting:
            view.RemoveObserver(tag)
        self._waiting.clear()


_wardrobe = Wardrobe()


def _connect(proxies):
    """Make the window's session Python's own: ``paraview.simple``, imported without one, would open another."""
    from paraview import servermanager

    if servermanager.ActiveConnection is None:
        servermanager.SetActiveConnection(servermanager.GetConnectionFromSession(proxies.GetSession()))


def _all(proxies, group):
    names = [proxies.GetProxyName(group, number) for number in range(proxies.GetNumberOfProxies(group))]
    return [proxies.GetProxy(group, name) for name in names]


def _input_of(proxy):
    """The proxy whose data a representation shows; None for a scalar bar and its like."""
    entry = proxy.GetProperty("Input")
    return entry.GetProxy(0) if entry is not None and entry.GetNumberOfProxies() else None


def _shown(view):
    """The representations of data that a view shows."""
    entry = view.GetProperty("Representations")
    inside = [] if entry is None else [entry.GetProxy(number) for number in range(entry.GetNumberOfProxies())]
    return [one for one in inside if _input_of(one) is not None]


def _shows(view, proxy):
    return any(one.GetGlobalID() == proxy.GetGlobalID() for one in _shown(view))


def _soon(view, work):
    """Do ``work`` once, when the window has finished what it is at: in the midst of a picture it must not be changed."""
    waiting = [work]

    def rings(*_):  # stays, as above
        while waiting:
            waiting.pop()()

    view.GetInteractor().AddObserver("TimerEvent", rings)
    view.GetInteractor().CreateOneShotTimer(50)


def _try_to_dress(view, proxy, reader):
    try:
        _dress(view, proxy, reader)
    except ParalossError:
        return  # another program's grid, or nothing evaluated yet: as ParaView shows it
    except Exception as error:  # ParaView must go on
        report(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _dress(view, proxy, reader):
    """Material, color scale and, in a view of its own, lights and camera of the look ``paper``."""
    from paraview import servermanager, simple

    from paraloss.converters.composition import compose
    from paraloss.converters.from_grid import from_structured_grid
    from paraloss.converters.layout import bare
    from paraloss.picture_options import PictureOptions

    source, display, shown = (servermanager._getPyProxy(one) for one in (reader, proxy, view))
    if source.GetDataInformation().GetNumberOfPoints() > MOST_POINTS:
        return
    remote = servermanager.ActiveConnection.IsRemote()
    grid = servermanager.Fetch(source) if remote else source.GetClientSideObject().GetOutputDataObject(0)
    surface, options = from_structured_grid(grid)
    picture = PictureOptions(trajectory=False)
    composition = compose([surface], options, picture, layout=bare(tuple(shown.ViewSize), picture, 1))
    material, scale = composition.look.material, composition.scale
    display.Interpolation = "Gouraud"
    display.Ambient, display.Diffuse = material.ambient, material.diffuse
    display.Specular, display.SpecularPower = material.specular, material.specular_power
    if tuple(display.ColorArrayName)[1:2] == (scale.array,):
        _color(simple, display, shown, scale)
    if len(_shown(view)) == 1:
        _place(simple, shown, composition)
    simple.Render(shown)


def _color(simple, display, view, scale):
    """The color map of ``scale`` over the range that is shown, its ticks in the metric's unit."""
    from paraloss.look import COLOR_MAPS

    table = display.LookupTable
    table.ColorSpace, points = COLOR_MAPS[scale.color_map]
    table.RGBPoints = [c for value, r, g, b in points for c in (scale.low + value * (scale.high - scale.low), r, g, b)]
    table.NumberOfTableValues = 1024
    table.Annotations = [part for value, text in scale.ticks for part in (repr(value), text)]
    display.SetScalarBarVisibility(view, True)
    bar = simple.GetScalarBar(table, view)
    bar.Title, bar.ComponentTitle = scale.title, ""
    bar.DrawTickLabels = bar.DrawTickMarks = bar.AddRangeLabels = 0
    bar.DrawAnnotations, bar.ScalarBarLength = 1, 0.5


def _place(simple, view, composition):
    """The lights of the look and the camera of a composition."""
    lights = []
    for placed in composition.lights:
        light = simple.CreateLight()
        light.Coords, light.Type = "Scene", "Directional"
        light.Position, light.FocalPoint = list(placed.position), list(placed.focal_point)
        light.Intensity, light.DiffuseColor = placed.intensity, list(placed.color)
        lights.append(light)
    view.UseLight, view.AdditionalLights = 0, lights
    camera = composition.camera
    view.CameraPosition, view.CameraFocalPoint = list(camera.position), list(camera.aim)
    view.CameraViewUp, view.CameraViewAngle = list(camera.up), camera.view_angle
    view.CenterOfRotation = list(camera.aim)
