"""Readers of surface files in ParaView, and what they show as surfaces and options.

Importing this module makes ``import paraloss`` work in ParaView's Python.
"""

import importlib.util
import inspect
import sys
from pathlib import Path

if not hasattr(inspect, "getargspec"):  # ParaView 5.11 asks Python 3.11 for what it no longer has
    inspect.getargspec = inspect.getfullargspec

from paraview import servermanager, simple

PLUGIN = Path(__file__).resolve().parent.parent / "paraview_plugin" / "paraloss_plugin.py"

if "paraloss" not in sys.modules:  # the plugin's file makes `import paraloss` work here
    _spec = importlib.util.spec_from_file_location("paraloss_plugin_bootstrap", PLUGIN)
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))

from paraloss.converters import open_surface  # noqa: E402
from paraloss.converters.from_grid import from_structured_grid  # noqa: E402
from paraloss.converters.grid_file import check_grid_file  # noqa: E402
from paraloss.converters.structured import as_structured  # noqa: E402
from paraloss.errors import InputError  # noqa: E402
from paraloss.picture_options import GridOptions  # noqa: E402


def load_plugin():
    """Load the plugin, here and on a server, unless it is loaded."""
    if "LossSurfaceReader" in dir(simple):
        return
    _cure_all_ranks()
    simple.LoadPlugin(str(PLUGIN), remote=False, ns=simple.__dict__)
    session = servermanager.ActiveConnection
    if session is not None and session.IsRemote():
        simple.LoadPlugin(str(PLUGIN), remote=True, ns=simple.__dict__)


def _cure_all_ranks():
    """Apply the cure above on the other ranks and on a server: a source's script runs wherever data are made."""
    connection = servermanager.ActiveConnection
    if not connection.IsRemote() and connection.GetNumberOfDataPartitions() == 1:
        return
    source = simple.ProgrammableSource()
    source.Script = "import inspect\ninspect.getargspec = getattr(inspect, 'getargspec', inspect.getfullargspec)"
    source.UpdatePipeline()
    simple.Delete(source)


def read(files, heights=GridOptions()):
    """A reader for a surface file, or for several as a time series.

    Raises:
        InputError: a damaged ``.vts``, or options of heights for one, whose heights are made already.
    """
    load_plugin()
    files = [str(Path(file).resolve()) for file in files]
    name = pipeline_name(files)
    if Path(files[0]).suffix.lower() != ".vts":
        return simple.LossSurfaceReader(registrationName=name, FileNames=files, **reader_properties(heights))
    if heights != GridOptions():
        raise InputError(f"{files[0]}: the heights of a .vts are made already; convert it with other options, or open the .h5")
    for file in files:
        check_grid_file(file)
    return simple.XMLStructuredGridReader(registrationName=name, FileName=files)


def pipeline_name(files):
    """What the pipeline browser shows for files: the name of one, the first and the last of a time series."""
    names = [Path(file).name for file in files]
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def reader_properties(options):
    """The properties of the Loss Surface Reader that mean ``options``."""
    properties = {
        "LogScale": {None: 0, True: 1, False: 2}[options.log],
        "LogOffset": options.log_offset,
        "Clip": int(options.zmax is not None),
        "ClipBelow": int(options.zmin is not None),
        "AutomaticHeight": int(options.height_scale is None),
    }
    given = {
        "HeightFrom": options.metric,
        "ClipAt": options.zmax,
        "ClipBelowAt": options.zmin,
        "HeightScale": options.height_scale,
        "HeightBase": options.height_base if options.height_scale is not None else None,
    }
    return properties | {name: value for name, value in given.items() if value is not None}


def surface_behind(source):
    """The surface that a reader shows, whole, and the options of its heights.

    Read from the file if it is on this machine: a fetched grid would be one rank's part only.
    """
    reader = source.GetXMLName() == "LossSurfaceReader"
    vts = source.GetXMLName() == "XMLStructuredGridReader"
    if servermanager.ActiveConnection.IsRemote() or not (reader or vts):
        source.UpdatePipeline()
        surface, made = from_structured_grid(as_structured(servermanager.Fetch(source)))
    elif vts:
        from vtkmodules.vtkIOXML import vtkXMLStructuredGridReader

        file = vtkXMLStructuredGridReader()
        file.SetFileName(source.FileName[0])
        file.Update()
        surface, made = from_structured_grid(file.GetOutput())
    else:
        surface, made = open_surface(_property(source, "FileNames").GetAsString()).drawable(), None
    return surface, _reader_options(source) if reader else made


def paths_of(file):
    """The optimizer paths of a surface file on this machine, by label; none where it lies on a server alone."""
    if Path(file).suffix.lower() == ".vts" or not Path(file).is_file():
        return {}
    return open_surface(file).paths


def _reader_options(source):
    """The options that the properties of a Loss Surface Reader mean."""
    automatic = _property(source, "AutomaticHeight").GetAsInt()
    return GridOptions(
        metric=_property(source, "Metric").GetAsString() or None,
        log=(None, True, False)[_property(source, "LogScale").GetAsInt()],
        log_offset=_property(source, "LogOffset").GetAsDouble(),
        zmax=_property(source, "ClipAt").GetAsDouble() if _property(source, "Clip").GetAsInt() else None,
        zmin=_property(source, "ClipBelowAt").GetAsDouble() if _property(source, "ClipBelow").GetAsInt() else None,
        height_scale=None if automatic else _property(source, "HeightScale").GetAsDouble(),
        height_base=0.0 if automatic else _property(source, "HeightBase").GetAsDouble(),
    )


def _property(source, name):
    return servermanager.vtkSMPropertyHelper(source.SMProxy, name)


def fix_heights(source, options, everything=False):
    """Give a reader the height scale and base that were decided; with ``everything`` all options of heights."""
    if not hasattr(source, "AutomaticHeight"):
        return
    properties = reader_properties(options)
    for name in properties if everything else ("AutomaticHeight", "HeightScale", "HeightBase"):
        setattr(source, name, properties[name])
