"""Paraloss in ParaView: a reader of loss surfaces, filters for contours, trajectory and minimum.

Load this one file: Tools > Manage Plugins > Load New, ``LoadPlugin(path)``, or its folder in ``PV_PLUGIN_PATH``. It needs
what ParaView's own Python has (numpy, vtk, h5py) and finds the rest of Paraloss from its own place, in a checkout and in
an installed package alike.
"""

import inspect
import os
import sys
from pathlib import Path

if not hasattr(inspect, "getargspec"):  # ParaView 5.11 asks Python 3.11 for what it no longer has
    inspect.getargspec = inspect.getfullargspec

from paraview.util.vtkAlgorithm import smdomain, smhint, smproperty, smproxy
from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonCore import vtkDataArraySelection, vtkOutputWindow
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkPolyData, vtkStructuredGrid
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline


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

from paraloss.errors import ParalossError  # noqa: E402


def _tell(error):
    """Into ParaView's output window: an exception would end up in the terminal only."""
    vtkOutputWindow.GetInstance().DisplayErrorText(f"Paraloss: {error}\n")


def _reports_errors(request):
    """Wrap RequestInformation or RequestData: an error of ours becomes one line, and the output stays empty."""

    def guarded(self, information, inputs, outputs):
        try:
            return request(self, information, inputs, outputs)
        except ParalossError as error:
            _tell(error)
        except ImportError as error:
            _tell(
                f"ParaView's Python has no {error.name}; install it there (Debian: apt install python3-{error.name}), "
                "or convert the surface once with: paraloss convert surface.h5 surface.vts"
            )
        except Exception as error:  # ParaView must go on whatever a file holds
            _tell(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1  # with an empty output; 0 would add VTK's own page of text to our line

    return guarded


class _HeightOptions:
    """The properties that reader and filter have in common; a mixin of plain state."""

    def _init_options(self):
        self._log, self._offset, self._clip, self._zmax, self._auto, self._scale = 0, 0.1, 0, 10.0, 1, 1.0

    def _grid_options(self, metric):
        from paraloss.converters import GridOptions

        return GridOptions(
            metric=metric or None,
            log=(None, True, False)[self._log],
            log_offset=self._offset,
            zmax=self._zmax if self._clip else None,
            height_scale=None if self._auto else self._scale,
        )

    def SetLogScale(self, value):
        self._change("_log", int(value))

    def SetLogOffset(self, value):
        self._change("_offset", float(value))

    def SetClip(self, value):
        self._change("_clip", int(value))

    def SetClipAt(self, value):
        self._change("_zmax", float(value))

    def SetAutomaticHeight(self, value):
        self._change("_auto", int(value))

    def SetHeightScale(self, value):
        self._change("_scale", float(value))

    def _change(self, name, value):
        if getattr(self, name) != value:
            setattr(self, name, value)
            self.Modified()


_HEIGHT_XML = """
  <IntVectorProperty name="LogScale" label="Log Scale" command="SetLogScale" number_of_elements="1" default_values="0">
    <EnumerationDomain name="enum"><Entry text="For losses" value="0"/><Entry text="Always" value="1"/>
      <Entry text="Never" value="2"/></EnumerationDomain>
    <Documentation>Take the height from ln(value + Log Offset). By default for losses, not for accuracies.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="LogOffset" label="Log Offset" command="SetLogOffset" number_of_elements="1"
                        default_values="0.1">
    <DoubleRangeDomain name="range"/>
    <Documentation>Added to the value before the logarithm, in the metric's unit; 0.1 as in Li et al. 2018.</Documentation>
  </DoubleVectorProperty>
  <IntVectorProperty name="Clip" label="Clip" command="SetClip" number_of_elements="1" default_values="0">
    <BooleanDomain name="bool"/>
    <Documentation>Draw values above Clip At at that value; the array "clipped" marks them.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="ClipAt" label="Clip At" command="SetClipAt" number_of_elements="1" default_values="10">
    <DoubleRangeDomain name="range"/>
    <Documentation>Largest value that is drawn, in the metric's own unit.</Documentation>
    <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="Clip" value="1"/></Hints>
  </DoubleVectorProperty>
  <IntVectorProperty name="AutomaticHeight" label="Automatic Height" command="SetAutomaticHeight" number_of_elements="1"
                     default_values="1">
    <BooleanDomain name="bool"/>
    <Documentation>Scale so that the height is 0.55 of the width: neither flat nor needle-like.</Documentation>
  </IntVectorProperty>
  <DoubleVectorProperty name="HeightScale" label="Height Scale" command="SetHeightScale" number_of_elements="1"
                        default_values="1">
    <DoubleRangeDomain name="range"/>
    <Documentation>Height a unit of the (log) metric, when Automatic Height is off.</Documentation>
    <Hints><PropertyWidgetDecorator type="GenericDecorator" mode="visibility" property="AutomaticHeight" value="0"/></Hints>
  </DoubleVectorProperty>
  <PropertyGroup label="Height">
    <Property name="HEIGHT_FROM"/>
    <Property name="LogScale"/><Property name="LogOffset"/><Property name="Clip"/><Property name="ClipAt"/>
    <Property name="AutomaticHeight"/><Property name="HeightScale"/>
  </PropertyGroup>
"""


_METRIC_XML = """
  <StringVectorProperty name="MetricInfo" command="GetMetricInfo" information_only="1"/>
  <StringVectorProperty name="Metric" label="Height From" command="SetMetric" number_of_elements="1">
    <StringListDomain name="list">
      <RequiredProperties><Property name="MetricInfo" function="StringInfo"/></RequiredProperties>
    </StringListDomain>
    <Documentation>The metric that gives height and color; empty takes the training loss.</Documentation>
  </StringVectorProperty>
"""

_SCALAR_XML = """
  <StringVectorProperty name="Scalar" label="Height From" command="SetInputArrayToProcess" number_of_elements="5"
                        element_types="0 0 0 0 2" default_values="0" animateable="0">
    <ArrayListDomain name="array_list" attribute_type="Scalars">
      <RequiredProperties><Property name="Input" function="Input"/></RequiredProperties>
    </ArrayListDomain>
    <Documentation>The point array that gives the height.</Documentation>
  </StringVectorProperty>
"""


@smproxy.reader(
    name="LossSurfaceReader",
    label="Loss Surface Reader",
    support_reload=False,
    extensions="h5 hdf5",
    file_description="Loss surface (Paraloss, Li et al.)",
)
@smproperty.xml(_METRIC_XML + _HEIGHT_XML.replace("HEIGHT_FROM", "Metric"))
class LossSurfaceReader(_HeightOptions, VTKPythonAlgorithmBase):
    """Loss surfaces of neural networks: Paraloss files and those of Li et al. 2018.

    A structured grid whose height is the log of the loss. Several files are a time series. Each rank reads its own part.
    """

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=0, nOutputPorts=1, outputType="vtkStructuredGrid")
        self._init_options()
        self._files, self._metric, self._outlines = [], "", {}
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
            self._files.append(name)
            self.Modified()

    def RemoveAllFileNames(self):
        self._files = []
        self.Modified()

    def GetMetricInfo(self):
        """Names for the list in the panel."""
        try:
            return list(self._outline(0).ranges)
        except Exception:
            return []

    def SetMetric(self, name):
        self._change("_metric", "" if name in (None, "None") else name)

    @smproperty.dataarrayselection(name="Metrics")
    def GetMetrics(self):
        """Metrics to read."""
        return self._arrays

    @smproperty.doublevector(name="TimestepValues", information_only="1", si_class="vtkSITimeStepsProperty")
    def GetTimestepValues(self):
        return [float(step) for step in range(len(self._files))] if len(self._files) > 1 else None

    @smproperty.xml(
        """<Property name="Refresh" label="Reload File" command="Reload" panel_widget="command_button">
             <Documentation>Read the file again, as while it is still being computed.</Documentation></Property>"""
    )
    def Reload(self):
        self._outlines = {}
        self.Modified()

    def _outline(self, step):
        """What file number ``step`` holds; read again when the file has changed."""
        from paraloss.converters import is_li2018
        from paraloss.errors import InputError
        from paraloss.surface import read_outline

        if not self._files:
            raise InputError("no file is chosen")
        path = self._files[min(step, len(self._files) - 1)]
        stamp = Path(path).stat().st_mtime_ns if Path(path).exists() else 0
        kept = self._outlines.get(path)
        if kept is None or kept[0] != stamp:
            outline = _foreign_outline(path) if is_li2018(path) else read_outline(path)
            if outline.y is None:
                raise InputError(f"{path}: holds a curve (1D); draw it with: paraloss render {path} curve.png")
            self._outlines[path] = kept = (stamp, outline)
        return kept[1]

    def _step(self, information):
        if len(self._files) > 1 and information.Has(Pipeline.UPDATE_TIME_STEP()):
            return max(0, min(len(self._files) - 1, round(information.Get(Pipeline.UPDATE_TIME_STEP()))))
        return 0

    @_reports_errors
    def RequestInformation(self, request, inputs, outputs):
        out = outputs.GetInformationObject(0)
        out.Set(Pipeline.WHOLE_EXTENT(), 0, -1, 0, -1, 0, -1)
        outline = self._outline(0)
        for name in outline.ranges:
            self._arrays.AddArray(name)
        out.Set(Pipeline.WHOLE_EXTENT(), 0, len(outline.x) - 1, 0, len(outline.y) - 1, 0, 0)
        out.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)
        out.Remove(Pipeline.TIME_STEPS())
        out.Remove(Pipeline.TIME_RANGE())
        if len(self._files) > 1:
            for step in range(len(self._files)):
                out.Append(Pipeline.TIME_STEPS(), float(step))
            out.Append(Pipeline.TIME_RANGE(), 0.0)
            out.Append(Pipeline.TIME_RANGE(), float(len(self._files) - 1))
        return 1

    @_reports_errors
    def RequestData(self, request, inputs, outputs):
        from paraloss.converters import height_map, to_structured_grid
        from paraloss.errors import InputError
        from paraloss.surface import Surface

        out = outputs.GetInformationObject(0)
        step = self._step(out)
        if out.Get(Pipeline.WHOLE_EXTENT(), 1) < 0:
            return 1  # RequestInformation has told why
        outline = self._outline(step)
        i0, i1, j0, j1 = [out.Get(Pipeline.UPDATE_EXTENT(), k) for k in range(4)]
        nx, ny = len(outline.x), len(outline.y)
        if i1 < i0 or j1 < j0 or i1 >= nx or j1 >= ny:
            if i1 >= nx or j1 >= ny:
                raise InputError(f"{self._files[step]}: its grid is {nx} × {ny}, other than the first file's")
            return 1
        # One layer more on each side: normals at a seam need the neighbor's points.
        a0, a1, b0, b1 = max(i0 - 1, 0), min(i1 + 1, nx - 1), max(j0 - 1, 0), min(j1 + 1, ny - 1)
        empty = {name: [] for name in outline.ranges}
        metric = self._metric or _default(empty)
        if metric not in outline.ranges:
            raise InputError(f"{self._files[step]}: has no metric '{metric}'; it holds: {', '.join(outline.ranges)}")
        wanted = [n for n in outline.ranges if n == metric or self._arrays.ArrayIsEnabled(n)]
        part = _window(self._files[step], (a0, a1, b0, b1), wanted, outline.stride)
        part = Surface(part.x, part.y, part.metrics, part.status, outline.provenance, trajectory=outline.trajectory)
        if os.environ.get("PARALOSS_TRACE"):
            values = sum(array.nbytes for array in part.metrics.values()) + part.status.nbytes
            print(f"paraloss: pid {os.getpid()} extent {i0} {i1} {j0} {j1} read {values} bytes", flush=True)
        width = max(outline.x[-1] - outline.x[0], outline.y[-1] - outline.y[0])
        heights = height_map(part, self._grid_options(metric), width, outline.ranges[metric])
        inner = (i0 - a0, i1 - a0, j0 - b0, j1 - b0)
        grid = to_structured_grid(part, heights=heights, extent=inner, origin=(a0, b0))
        vtkStructuredGrid.GetData(out).ShallowCopy(grid)
        return 1


def _default(metrics):
    losses = [name for name in metrics if name.endswith("_loss")]
    return "train_loss" if "train_loss" in metrics else (losses or list(metrics) or [""])[0]


def _foreign_outline(path):
    """The outline of one of Li et al.'s files."""
    from paraloss.converters import open_surface
    from paraloss.surface import Outline
    from paraloss.surface.reader import finite_range

    surface = open_surface(path).drawable()
    ranges = {name: finite_range(values) for name, values in surface.metrics.items()}
    return Outline(surface.x, surface.y, ranges, surface.provenance, surface.trajectory)


def _window(path, extent, metrics, stride):
    from paraloss.converters import is_li2018, open_surface
    from paraloss.surface import Surface, read_window

    if not is_li2018(path):
        return read_window(path, extent, metrics, stride)
    i0, i1, j0, j1 = extent
    whole = open_surface(path).drawable()  # this layout cannot be read in parts: its rows are folded
    cut = {name: whole.metrics[name][j0 : j1 + 1, i0 : i1 + 1] for name in metrics}
    return Surface(whole.x[i0 : i1 + 1], whole.y[j0 : j1 + 1], cut, whole.status[j0 : j1 + 1, i0 : i1 + 1])


@smproxy.filter(name="LossSurface", label="Loss Surface", support_reload=False)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid", "vtkImageData", "vtkRectilinearGrid"])
@smproperty.xml(_SCALAR_XML + _HEIGHT_XML.replace("HEIGHT_FROM", "Scalar"))
class LossSurface(_HeightOptions, VTKPythonAlgorithmBase):
    """Log, clip, height and normals for any flat structured grid or image with a scalar, as the reader makes them."""

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=1, nOutputPorts=1, outputType="vtkStructuredGrid")
        self._init_options()

    def FillInputPortInformation(self, port, info):
        info.Set(self.INPUT_REQUIRED_DATA_TYPE(), "vtkDataSet")
        return 1

    def _scalar_name(self, data):
        chosen = self.GetInputArrayInformation(0)
        name = chosen.Get(vtkDataObject.FIELD_NAME()) or ""
        scalars = data.GetPointData().GetScalars()
        return name or (scalars.GetName() if scalars else data.GetPointData().GetArrayName(0)) or ""

    def RequestUpdateExtent(self, request, inputs, outputs):
        _ask_for_all(inputs)
        return 1

    @_reports_errors
    def RequestData(self, request, inputs, outputs):
        from paraloss.converters.geometry import warp_structured

        data = inputs[0].GetInformationObject(0).Get(vtkStructuredGrid.DATA_OBJECT())
        name = self._scalar_name(data)
        grid = warp_structured(data, name, self._grid_options(name))
        vtkStructuredGrid.GetData(outputs, 0).ShallowCopy(grid)
        return 1


def _ask_for_all(inputs):
    """These filters need the whole surface, on every rank."""
    information = inputs[0].GetInformationObject(0)
    whole = [information.Get(Pipeline.WHOLE_EXTENT(), k) for k in range(6)]
    information.Set(Pipeline.UPDATE_EXTENT(), whole, 6)


def _on_first_piece(outputs):
    """Geometry of the whole surface is put out once, by the rank of piece 0."""
    information = outputs.GetInformationObject(0)
    return not information.Has(Pipeline.UPDATE_PIECE_NUMBER()) or information.Get(Pipeline.UPDATE_PIECE_NUMBER()) == 0


class _OnSurface(VTKPythonAlgorithmBase):
    """A filter from a surface of ours to polygons on it."""

    def __init__(self):
        VTKPythonAlgorithmBase.__init__(self, nInputPorts=1, nOutputPorts=1, outputType="vtkPolyData")

    def FillInputPortInformation(self, port, info):
        info.Set(self.INPUT_REQUIRED_DATA_TYPE(), "vtkStructuredGrid")
        return 1

    def RequestUpdateExtent(self, request, inputs, outputs):
        _ask_for_all(inputs)
        return 1

    @_reports_errors
    def RequestData(self, request, inputs, outputs):
        if _on_first_piece(outputs):
            vtkPolyData.GetData(outputs, 0).ShallowCopy(self._make(vtkStructuredGrid.GetData(inputs[0], 0)))
        return 1


@smproxy.filter(name="SurfaceContours", label="Surface Contours", support_reload=False)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid"])
class SurfaceContours(_OnSurface):
    """Contour lines draped on a loss surface, at levels in the loss's own unit."""

    def __init__(self):
        _OnSurface.__init__(self)
        self._number, self._levels, self._radius = 10, [], 0.0011

    @smproperty.intvector(name="NumberOfLevels", label="Number Of Levels", default_values=10)
    @smdomain.intrange(min=1, max=100)
    def SetNumberOfLevels(self, number):
        """Levels, evenly spaced in height, when none are listed below."""
        self._number = int(number)
        self.Modified()

    @smproperty.stringvector(name="Levels", number_of_elements="1")
    def SetLevels(self, text):
        """Levels in the loss's unit, separated by spaces, as in: 0.1 0.5 1 2 5 10. Empty: evenly spaced ones."""
        self._levels = [] if text in (None, "None") else text.replace(",", " ").split()
        self.Modified()

    @smproperty.doublevector(name="Radius", default_values=0.0011)
    @smdomain.doublerange(min=0.0, max=0.02)
    def SetRadius(self, radius):
        """Of the tubes that the lines are drawn as, in widths of the surface. 0: plain lines, which the surface may swallow."""
        self._radius = float(radius)
        self.Modified()

    def _make(self, grid):
        from paraloss.converters.geometry import contour_lines, default_levels
        from paraloss.errors import InputError

        try:
            levels = [float(level) for level in self._levels]
        except ValueError as error:
            raise InputError(f"Levels: '{' '.join(self._levels)}' are not numbers separated by spaces") from error
        return contour_lines(grid, levels or default_levels(grid, self._number), self._radius)


@smproxy.filter(name="OptimizerTrajectory", label="Optimizer Trajectory", support_reload=False)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid"])
class OptimizerTrajectory(_OnSurface):
    """The optimizer's path that the surface's file holds, as a tube on the surface or at each checkpoint's own loss."""

    def __init__(self):
        _OnSurface.__init__(self)
        self._own, self._radius = 0, 0.004

    @smproperty.xml(
        """<IntVectorProperty name="OwnLoss" label="At Own Loss" command="SetOwnLoss" number_of_elements="1"
             default_values="0"><BooleanDomain name="bool"/>
             <Documentation>Height from each checkpoint's own loss instead of the surface's height below it. They differ:
               a checkpoint lies off the plane, by the array "residual".</Documentation></IntVectorProperty>"""
    )
    def SetOwnLoss(self, value):
        self._own = int(value)
        self.Modified()

    @smproperty.doublevector(name="Radius", default_values=0.004)
    @smdomain.doublerange(min=0.0005, max=0.05)
    def SetRadius(self, radius):
        """Of the tube, in widths of the surface."""
        self._radius = float(radius)
        self.Modified()

    def _make(self, grid):
        from paraloss.converters.geometry import drape_trajectory

        return drape_trajectory(grid, bool(self._own), self._radius)


@smproxy.filter(name="MinimumMarker", label="Minimum Marker", support_reload=False)
@smproperty.input(name="Input", port_index=0)
@smdomain.datatype(dataTypes=["vtkStructuredGrid"])
class MinimumMarker(_OnSurface):
    """A sphere at the lowest point of a loss surface; its arrays tell the place and the loss."""

    def __init__(self):
        _OnSurface.__init__(self)
        self._radius = 0.012

    @smproperty.doublevector(name="Radius", default_values=0.012)
    @smdomain.doublerange(min=0.001, max=0.1)
    def SetRadius(self, radius):
        """Of the sphere, in widths of the surface."""
        self._radius = float(radius)
        self.Modified()

    def _make(self, grid):
        from paraloss.converters.geometry import minimum_marker

        return minimum_marker(grid, self._radius)
