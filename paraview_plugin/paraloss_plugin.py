"""Paraloss in ParaView: a reader of loss surfaces, filters for contours, trajectory and minimum.

Load this one file: Tools > Manage Plugins > Load New, ``LoadPlugin(path)``, or its folder in ``PV_PLUGIN_PATH``. It needs
what ParaView's own Python has (numpy, vtk, h5py) and finds the rest of Paraloss from its own place, in a checkout and in
an installed package alike. The proxies are here, because ParaView takes them from the file that it loads; what they do is in
``parts/`` (a folder, because ParaView loads every file beside this one) and in ``paraloss.converters``.
"""

import inspect
import sys
from pathlib import Path

if not hasattr(inspect, "getargspec"):  # ParaView 5.11 asks Python 3.11 for what it no longer has
    inspect.getargspec = inspect.getfullargspec

from paraview.util.vtkAlgorithm import smdomain, smhint, smproperty, smproxy
from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkPolyData, vtkStructuredGrid


def _find_paraloss():
    """Make ``import paraloss`` find the package that this file belongs to; a package found before wins."""
    import importlib.util

    if "paraloss" in sys.modules:
        return
    house = Path(__file__).resolve().parent.parent
    core = house / "core" if (house / "core" / "surface").is_dir() else house
    places = [str(core), str(house)]
    spec = importlib.util.spec_from_file_location("paraloss", core / "__init__.py", submodule_search_locations=places)
    module = importlib.util.module_from_spec(spec)
    sys.modules["paraloss"] = module
    spec.loader.exec_module(module)


_find_paraloss()

from paraloss.paraview_plugin.parts import appearance, extents, messages, opening, properties, ranks, reading  # noqa: E402

appearance.color_new_representations()
opening.watch()


@smproxy.reader(
    name="LossSurfaceReader",
    label="Loss Surface Reader",
    support_reload=False,
    extensions="h5 hdf5",
    file_description="Loss surface (Paraloss, Li et al.)",
)
@smhint.xml(properties.MENU_XML)
@smhint.xml(properties.LIVE_HINT)
@smproperty.xml(properties.METRIC_XML + properties.height_xml("Metric"))
class LossSurfaceReader(properties.HeightOptions, VTKPythonAlgorithmBase):
    """Loss surfaces of neural networks: Paraloss files and those of Li et al. 2018.

    A structured grid whose height is the log of the loss. Several files are a time series. Each rank reads its own part.
    """

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=0, nOutputPorts=1, outputType="vtkStructuredGrid")
        self.init_options()
        self._files, self._metric, self._follow = reading.Files(), "", 1
        self._arrays = vtkDataArraySelection()
        self._arrays.AddObserver("ModifiedEvent", lambda *_: self.Modified())

    @smproperty.stringvector(
        name="FileNames",
        label="File Names",
        command="AddFileName",
        clean_command="RemoveAllFileNames",
        animateable="0",
        repeat_command="1",
        number_of_elements="1",
        panel_visibility="advanced",
    )
    @smdomain.filelist()
    @smhint.filechooser(extensions=["h5", "hdf5"], file_description="Loss surface (Paraloss, Li et al.)")
    def AddFileName(self, name):
        """The surface file; several are the steps of a time series."""
        if name and name != "None":
            self._files.names.append(name)
            self.Modified()

    def RemoveAllFileNames(self):
        self._files.names.clear()
        self.Modified()

    def GetMetricInfo(self):
        """Names for the list in the panel."""
        try:
            return list(self._files.outline(0).ranges)
        except Exception:
            return []

    def SetMetric(self, name):
        self.change("_metric", "" if name in (None, "None") else name)

    @smproperty.dataarrayselection(name="Metrics")
    def GetMetrics(self):
        """Metrics to read."""
        return self._arrays

    @smproperty.doublevector(name="TimestepValues", information_only="1", si_class="vtkSITimeStepsProperty")
    def GetTimestepValues(self):
        return self._files.steps() or None

    @smproperty.xml(
        """<Property name="Refresh" label="Reload File" command="Reload" panel_widget="command_button">
             <Documentation>Read the file again, for example while it is being computed.</Documentation></Property>"""
    )
    def Reload(self):
        self._files.forget()
        self.Modified()

    @smproperty.xml(properties.EVERY_XML)
    def SetEvery(self, value):
        if self._files.every != int(value):
            self._files.every = int(value)
            self._files.forget()
            self.Modified()

    @smproperty.xml(properties.FOLLOW_XML)
    def SetFollow(self, value):
        self._follow = int(value)

    def GetNeedsUpdate(self):
        """Whether a running job has written more. ParaView's window asks this of a live source."""
        news = bool(self._follow) and ranks.from_first(self._files.have_grown)
        if news:
            self.Modified()
        return news

    @messages.reports_errors
    def RequestInformation(self, request, inputs, outputs):
        out = outputs.GetInformationObject(0)
        extents.set_whole(out, 0, 0)
        outline = self._files.agree()
        for name in outline.ranges:
            self._arrays.AddArray(name)
        extents.set_whole(out, len(outline.x), len(outline.y))
        extents.set_steps(out, self._files.steps())
        return 1

    @messages.reports_errors
    def RequestData(self, request, inputs, outputs):
        out = outputs.GetInformationObject(0)
        if extents.is_empty(out):
            return 1  # RequestInformation has reported why
        step, extent = extents.step_of(out, self._files.steps()), extents.piece_of(out)
        grid = reading.grid_of(self._files, step, extent, self._metric, self._arrays, self.grid_options)
        if grid is not None:
            vtkStructuredGrid.GetData(out).ShallowCopy(grid)
        return 1


@smproxy.filter(name="LossSurface", label="Loss Surface", support_reload=False)
@smhint.xml(properties.MENU_XML)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid", "vtkImageData", "vtkRectilinearGrid", "vtkUnstructuredGrid"])
@smproperty.xml(properties.SCALAR_XML + properties.height_xml("Scalar"))
class LossSurface(properties.HeightOptions, VTKPythonAlgorithmBase):
    """Log, clip, height and normals for any flat structured grid or image with a scalar, as the reader makes them."""

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=1, nOutputPorts=1, outputType="vtkStructuredGrid")
        self.init_options()

    def FillInputPortInformation(self, port, info):
        info.Set(self.INPUT_REQUIRED_DATA_TYPE(), "vtkDataSet")
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs):
        extents.ask_for_all(inputs)
        return 1

    @messages.reports_errors
    def RequestData(self, request, inputs, outputs):
        from paraloss.converters.geometry import warp_structured
        from paraloss.converters.structured import as_structured

        data = inputs[0].GetInformationObject(0).Get(vtkStructuredGrid.DATA_OBJECT())
        if data.IsA("vtkUnstructuredGrid") and not extents.on_first_piece(outputs):
            return 1  # it has no extent that ranks could share
        data = as_structured(data)
        name = properties.scalar_name(data, self.GetInputArrayInformation(0))
        grid = warp_structured(data, name, self.grid_options(name))
        vtkStructuredGrid.GetData(outputs, 0).ShallowCopy(extents.cut(grid, outputs.GetInformationObject(0)))
        return 1


class _OnSurface(VTKPythonAlgorithmBase):
    """A filter from a surface that Paraloss made to polygons on it; the surface stays visible."""

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=1, nOutputPorts=1, outputType="vtkPolyData")

    def FillInputPortInformation(self, port, info):
        info.Remove(self.INPUT_REQUIRED_DATA_TYPE())
        info.Append(self.INPUT_REQUIRED_DATA_TYPE(), "vtkStructuredGrid")
        info.Append(self.INPUT_REQUIRED_DATA_TYPE(), "vtkUnstructuredGrid")  # as ``.hdf`` opens
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs):
        extents.ask_for_all(inputs)
        return 1

    @messages.reports_errors
    def RequestData(self, request, inputs, outputs):
        from paraloss.converters.structured import as_structured

        if extents.on_first_piece(outputs):
            data = inputs[0].GetInformationObject(0).Get(vtkStructuredGrid.DATA_OBJECT())
            vtkPolyData.GetData(outputs, 0).ShallowCopy(self._make(as_structured(data)))
        return 1


@smproxy.filter(name="SeveralSurfaces", label="Several Surfaces", support_reload=False)
@smhint.xml(properties.MENU_XML)
@smproperty.input(name="Input", port_index=0, multiple_input=True)
@smdomain.datatype(dataTypes=["vtkStructuredGrid"])
class SeveralSurfaces(VTKPythonAlgorithmBase):
    """Surfaces of the same steps as one: their mean, colored by the spread over them, or the difference of two."""

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=1, nOutputPorts=1, outputType="vtkStructuredGrid")
        self._shown = 0

    def FillInputPortInformation(self, port, info):
        info.Set(self.INPUT_REQUIRED_DATA_TYPE(), "vtkStructuredGrid")
        info.Set(self.INPUT_IS_REPEATABLE(), 1)
        return 1

    @smproperty.xml(properties.SEVERAL_XML)
    def SetShown(self, value):
        self._shown = int(value)
        self.Modified()

    def RequestUpdateExtent(self, request, inputs, outputs):
        extents.ask_for_all(inputs)
        return 1

    @messages.reports_errors
    def RequestData(self, request, inputs, outputs):
        from paraloss.converters.together import difference_grid, mean_grid

        port = inputs[0]
        grids = [vtkStructuredGrid.GetData(port, number) for number in range(port.GetNumberOfInformationObjects())]
        grid = (mean_grid, difference_grid)[self._shown](grids)
        vtkStructuredGrid.GetData(outputs, 0).ShallowCopy(extents.cut(grid, outputs.GetInformationObject(0)))
        return 1


@smproxy.filter(name="CutSurface", label="Cut Surface", support_reload=False)
@smhint.xml(properties.MENU_XML)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid", "vtkUnstructuredGrid"])
class CutSurface(_OnSurface):
    """The part of a loss surface below the level that it is clipped at (Clip At), with a smooth rim instead of a plateau."""

    def _make(self, grid):
        from paraloss.converters.polygons import visible_polygons

        return visible_polygons(grid)


@smproxy.filter(name="SurfaceContours", label="Surface Contours", support_reload=False)
@smhint.xml(properties.MENU_XML)
@smhint.xml(properties.INPUT_STAYS_XML)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid", "vtkUnstructuredGrid"])
class SurfaceContours(_OnSurface):
    """Contour lines draped on a loss surface, at levels in the loss's own unit."""

    def __init__(self):
        _OnSurface.__init__(self)
        self._number, self._levels, self._radius = 10, "", 0.0011

    @smproperty.intvector(name="NumberOfLevels", label="Number Of Levels", default_values=10)
    @smdomain.intrange(min=1, max=100)
    def SetNumberOfLevels(self, number):
        """Number of levels, evenly spaced in height, if none are listed below."""
        self._number = int(number)
        self.Modified()

    @smproperty.stringvector(name="Levels", number_of_elements="1")
    def SetLevels(self, text):
        """Levels in the loss's unit, separated by spaces, as in: 0.1 0.5 1 2 5 10. Empty: evenly spaced ones."""
        self._levels = "" if text in (None, "None") else text
        self.Modified()

    @smproperty.doublevector(name="Radius", default_values=0.0011)
    @smdomain.doublerange(min=0.0, max=0.02)
    def SetRadius(self, radius):
        """Radius of the lines, drawn as tubes, in widths of the surface. 0: plain lines, which the surface may hide."""
        self._radius = float(radius)
        self.Modified()

    def _make(self, grid):
        from paraloss.converters.geometry import contour_lines, default_levels

        levels = properties.numbers(self._levels, "Levels")
        return contour_lines(grid, levels or default_levels(grid, self._number), self._radius)


@smproxy.filter(name="OptimizerTrajectory", label="Optimizer Trajectory", support_reload=False)
@smhint.xml(properties.MENU_XML)
@smhint.xml(properties.INPUT_STAYS_XML)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid", "vtkUnstructuredGrid"])
class OptimizerTrajectory(_OnSurface):
    """The optimizer paths that the surface's file holds, as tubes on the surface or at each checkpoint's own loss.

    The array "path" is the number of each of several paths.
    """

    def __init__(self):
        _OnSurface.__init__(self)
        self._own, self._radius, self._path = 0, 0.004, -1

    @smproperty.xml(properties.OWN_LOSS_XML)
    def SetOwnLoss(self, value):
        self._own = int(value)
        self.Modified()

    @smproperty.doublevector(name="Radius", default_values=0.004)
    @smdomain.doublerange(min=0.0005, max=0.05)
    def SetRadius(self, radius):
        """Radius of the tube, in widths of the surface."""
        self._radius = float(radius)
        self.Modified()

    @smproperty.intvector(name="Path", default_values=-1)
    @smdomain.intrange(min=-1, max=1000)
    def SetPath(self, number):
        """Number of one of several paths, counted from 0 in the order of the runs; -1: all."""
        self._path = int(number)
        self.Modified()

    def _make(self, grid):
        from paraloss.converters.paths import drape_trajectory

        return drape_trajectory(grid, bool(self._own), self._radius, None if self._path < 0 else self._path)


@smproxy.filter(name="MinimumMarker", label="Minimum Marker", support_reload=False)
@smhint.xml(properties.MENU_XML)
@smhint.xml(properties.INPUT_STAYS_XML)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid", "vtkUnstructuredGrid"])
class MinimumMarker(_OnSurface):
    """A sphere at the lowest point of a loss surface; its arrays hold the place and the loss."""

    def __init__(self):
        _OnSurface.__init__(self)
        self._radius = 0.012

    @smproperty.doublevector(name="Radius", default_values=0.012)
    @smdomain.doublerange(min=0.001, max=0.1)
    def SetRadius(self, radius):
        """Radius of the sphere, in widths of the surface."""
        self._radius = float(radius)
        self.Modified()

    def _make(self, grid):
        from paraloss.converters.geometry import minimum_marker

        return minimum_marker(grid, self._radius)
