"""Pictures of ParaView's views, and properties that not every release has."""

import sys
from pathlib import Path

import numpy as np
from paraview import simple
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOImage import vtkPNGReader, vtkPNGWriter


def set_where_known(proxy, **properties):
    """Set properties that not every release of ParaView has; without them the picture is plainer, not wrong."""
    for name, value in properties.items():
        try:
            setattr(proxy, name, value)
        except AttributeError:
            print(f"paraloss: this ParaView has no {name}; going on without it", file=sys.stderr)


def screenshot(path, target, size, transparent, finer, **options):
    """Draw in ``size`` and write the means of ``finer`` × ``finer`` pixels: ambient occlusion leaves edges jagged otherwise."""
    if finer > 1:
        options["CompressionLevel"] = "1"  # it is read back at once
    simple.SaveScreenshot(str(path), target, ImageResolution=list(size), TransparentBackground=int(transparent), **options)
    if finer == 1 or not Path(path).exists():  # ranks other than 0 write nothing
        return
    reader = vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    drawn = reader.GetOutput()
    width, height, _ = drawn.GetDimensions()
    pixels = vtk_to_numpy(drawn.GetPointData().GetScalars()).reshape(height, width, -1).astype(np.float32)
    means = _means(pixels, finer)
    small = vtkImageData()
    small.SetDimensions(means.shape[1], means.shape[0], 1)
    small.GetPointData().SetScalars(numpy_to_vtk(means.reshape(-1, means.shape[-1]), deep=True))
    writer = vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(small)
    writer.Write()


def _means(pixels, finer):
    """(height / finer, width / finer, 3 or 4) uint8 means of blocks; colors are weighted by opacity."""
    height, width, channels = pixels.shape
    alpha = pixels[..., 3:] / 255 if channels == 4 else np.ones((height, width, 1), np.float32)
    blocks = (height // finer, finer, width // finer, finer, -1)
    covered = alpha.reshape(blocks).mean(axis=(1, 3))
    colors = (pixels[..., :3] * alpha).reshape(blocks).mean(axis=(1, 3)) / np.maximum(covered, 1e-6)
    return np.concatenate([colors, covered * 255], axis=-1)[..., :channels].round().astype(np.uint8)
