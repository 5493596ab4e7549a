"""The files of a reader: what they hold, and the part of one as a grid."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from paraloss.errors import InputError
from paraloss.paraview_plugin.parts import ranks
from paraloss.paraview_plugin.parts.messages import report_note


class Files:
    """Surface files in the order of time, with what is known of each until it changes.

    Attributes:
        names: paths of the files.
        every: spacing of the points to read along each axis, counted from the middle; 1: all.
    """

    def __init__(self):
        self.names, self.every = [], 1
        self._outlines, self._rest_until = {}, 0.0

    def steps(self):
        """Time steps of a series; none for a single file."""
        return [float(step) for step in range(len(self.names))] if len(self.names) > 1 else []

    def forget(self):
        """Read every file again when it is needed."""
        self._outlines = {}

    def have_grown(self):
        """Whether a file that was read with points pending has changed since; finished ones are not looked at.

        The files are looked at once a second at most, and a tenth of the time at most: the answer is no in between.
        """
        if time.monotonic() < self._rest_until:
            return False
        self._rest_until = time.monotonic() + 1.0
        return any(not outline.is_complete and _stamp(path) != stamp for path, (stamp, outline) in self._outlines.items())

    def agree(self):
        """The outline of the first file as it is now; the same on all ranks, which call this together."""
        began = time.monotonic()
        self._outlines = {path: kept for path, kept in self._outlines.items() if kept[0] == _stamp(path)}
        facts = ranks.from_first(lambda: _facts(self.outline(0)))
        path = self.names[0]
        if path not in self._outlines or _facts(self._outlines[path][1]) != facts:
            self._outlines[path] = (_stamp(path), _outline(path, self.every, **facts))
        self._rest_until = time.monotonic() + max(1.0, 10 * (time.monotonic() - began))
        return self.outline(0)

    def outline(self, step):
        """Coordinates, metrics and their ranges in file number ``step``, as they were when they were first asked for.

        They stay the same until ``agree`` or ``forget``, however the file grows: what a pipeline announces is what it
        hands out.
        """
        if not self.names:
            raise InputError("no file is chosen")
        path = self.names[min(step, len(self.names) - 1)]
        if path not in self._outlines:
            self._outlines[path] = (_stamp(path), _outline(path, self.every))
        return self._outlines[path][1]


def _facts(outline):
    """What of a file changes while it grows. Finding it takes a look at every point, which one rank has for all."""
    ranges = {name: list(ends) for name, ends in outline.ranges.items()}
    return {"stride": outline.stride, "ranges": ranges, "complete": outline.is_complete}


def _stamp(path):
    return Path(path).stat().st_mtime_ns if Path(path).exists() else 0


def _outline(path, every=1, stride=None, ranges=None, complete=None):
    """The outline of a surface file at every ``every``-th point; with what ``_facts`` found before."""
    from paraloss.converters import is_li2018
    from paraloss.surface import read_outline

    if is_li2018(path):
        return _foreign_outline(path)
    outline = read_outline(path, stride, complete)
    if every > outline.stride and outline.y is not None and min(len(outline.x), len(outline.y)) > 2 * every:
        outline = read_outline(path, every, outline.is_complete)
    if outline.y is None:
        raise InputError(f"{path}: holds a curve (1D); draw it with: paraloss render {path} curve.png")
    return replace(outline, ranges={name: tuple(ends) for name, ends in ranges.items()}) if ranges else outline


def grid_of(files, step, extent, metric, chosen, grid_options):
    """The part ``extent`` of a file as a structured grid; None if the part is empty.

    Args:
        files: ``Files``.
        step: number of the file.
        extent: (i0, i1, j0, j1), inclusive.
        metric: metric that gives the height; empty takes the default one.
        chosen: vtkDataArraySelection of the metrics to read.
        grid_options: function from a metric to ``GridOptions``.
    """
    from paraloss.converters import height_map, to_structured_grid
    from paraloss.height import default_metric
    from paraloss.surface import Surface

    outline, path = files.outline(step), files.names[step]
    i0, i1, j0, j1 = extent
    nx, ny = len(outline.x), len(outline.y)
    if i1 >= nx or j1 >= ny:
        raise InputError(f"{path}: its grid is {nx} × {ny}, other than the first file's")
    if i1 < i0 or j1 < j0:
        return None
    metric = metric or default_metric(outline.ranges)
    if metric not in outline.ranges:
        raise InputError(f"{path}: has no metric '{metric}'; it holds: {', '.join(outline.ranges)}")
    # One layer more on each side: normals at a seam need the neighbor's points.
    a0, a1, b0, b1 = max(i0 - 1, 0), min(i1 + 1, nx - 1), max(j0 - 1, 0), min(j1 + 1, ny - 1)
    wanted = [name for name in outline.ranges if name == metric or chosen.ArrayIsEnabled(name)]
    part = _window(path, (a0, a1, b0, b1), wanted, outline.stride)
    part = Surface(part.x, part.y, part.metrics, part.status, outline.provenance, trajectory=outline.trajectory)
    part = part.with_paths({**part.paths, **outline.trajectories})
    if os.environ.get("PARALOSS_TRACE"):
        values = sum(array.nbytes for array in part.metrics.values()) + part.status.nbytes
        line = f"paraloss: pid {os.getpid()} extent {i0} {i1} {j0} {j1} read {values} bytes\n"
        os.write(1, line.encode())  # in one piece, so that the ranks' lines do not mix
    width = max(np.ptp(outline.x), np.ptp(outline.y))
    heights = height_map(part, grid_options(metric), width, outline.ranges)
    if heights.note:
        report_note(f"{path}: {heights.note}")
    inner = (i0 - a0, i1 - a0, j0 - b0, j1 - b0)
    return to_structured_grid(part, heights=heights, extent=inner, origin=(a0, b0))


def _foreign_outline(path):
    """The outline of one of Li et al.'s files."""
    from paraloss.converters import open_surface
    from paraloss.height import finite_range
    from paraloss.surface import Outline

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
