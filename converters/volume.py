"""``.vti``: a volume (three directions) as VTK image data, for iso-surfaces and volume rendering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

from paraloss.converters.formats import register
from paraloss.converters.xml_files import write_xml
from paraloss.errors import InputError
from paraloss.height import MetricScale, is_loss, metric_scale
from paraloss.picture_options import GridOptions
from paraloss.surface import Surface


def volume_arrays(surface: Surface, options: GridOptions) -> dict[str, np.ndarray]:
    """Name -> (nz, ny, nx): every metric, ``log_<metric>`` of the losses, the status."""
    arrays: dict[str, np.ndarray] = {}
    for name, values in surface.metrics.items():
        arrays[name] = np.asarray(values, np.float64)
        if is_loss(name):
            clipped = _clipped(arrays[name], options)
            arrays[f"log_{name}"] = metric_scale(clipped, offset=options.log_offset).heights(clipped)
    arrays["status"] = surface.status
    return arrays


def _clipped(values: np.ndarray, options: GridOptions) -> np.ndarray:
    low, high = (bound if limit is None else limit for limit, bound in ((options.zmin, -np.inf), (options.zmax, np.inf)))
    return np.asarray(np.clip(values, low, high))


def image_geometry(surface: Surface) -> tuple[list[float], list[float]]:
    """(origin, spacing) along x, y, z.

    Raises:
        InputError: no volume, or steps that are not even.
    """
    if surface.z is None:
        raise InputError("image data are for volumes (compute --z); a surface goes to .vts or .vtp, a curve to .csv")
    spacing = [float(axis[1] - axis[0]) for axis in surface.axes]
    for name, axis, step in zip("xyz", surface.axes, spacing, strict=True):
        if not np.allclose(np.diff(axis), step, rtol=1e-6):
            raise InputError(f"image data need even steps, those along {name} are not")
    return [float(axis[0]) for axis in surface.axes], spacing


def to_image(surface: Surface, options: GridOptions | None = None) -> vtkImageData:
    """A volume as ``vtkImageData``: dimensions (nx, ny, nz), one point array per metric, the log-loss active.

    Raises:
        InputError: no volume, or steps that are not even.
    """
    options = options or GridOptions()
    origin, spacing = image_geometry(surface)
    image = vtkImageData()
    image.SetDimensions(*(len(axis) for axis in surface.axes))
    image.SetOrigin(*origin)
    image.SetSpacing(*spacing)
    for name, values in volume_arrays(surface, options).items():
        array = numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=True)
        array.SetName(name)
        image.GetPointData().AddArray(array)
    metric = options.metric or surface.default_metric
    surface.metric(metric)
    log = is_loss(metric) if options.log is None else options.log
    image.GetPointData().SetActiveScalars(f"log_{metric}" if log and is_loss(metric) else metric)
    chosen = metric_scale(_clipped(np.asarray(surface.metric(metric), np.float64), options), offset=options.log_offset)
    lowest = np.nan if chosen.lowest is None else chosen.lowest
    for name, number in (("log_offset", chosen.offset), ("lowest", lowest)):
        array = numpy_to_vtk(np.array([number]), deep=True)
        array.SetName(name)
        image.GetFieldData().AddArray(array)
    provenance = vtkStringArray()
    provenance.SetName("provenance")
    provenance.InsertNextValue(json.dumps(dict(surface.provenance)))
    image.GetFieldData().AddArray(provenance)
    return image


def image_scale(image: Any) -> MetricScale:
    """The scale of the array ``log_…`` of an image that ``to_image`` made: ln(loss + 0.1) where it does not say."""
    found = [image.GetFieldData().GetArray(name) for name in ("log_offset", "lowest")]
    if any(array is None for array in found):
        return MetricScale(True)
    offset, lowest = (float(array.GetValue(0)) for array in found)
    return MetricScale(True, offset, None if np.isnan(lowest) else lowest)


@register(".vti", "VTK image data of a volume (ParaView, VisIt, pyvista)", compresses=True)
def write_vti(surface: Surface, path: Path, options: GridOptions, compress: str = "none") -> None:
    """Write a volume; see ``to_image``."""
    write_xml(vtkXMLImageDataWriter(), to_image(surface, options), path, compress)
