"""A 1001 × 1001 surface to files: to .vtp against text written value by value, as Li et al.'s converter does it; then
file to file for each format and compression, with the time that vtk's own reader takes to load it.

python benchmarks/convert.py [POINTS]

The loop below follows the description of their file (points, one array a point, one a cell, quads; ASCII), not their code.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader, vtkXMLStructuredGridReader

from paraloss.converters import GridOptions, convert, write
from paraloss.surface import Surface


def by_loops(x: np.ndarray, y: np.ndarray, values: np.ndarray, path: Path) -> None:
    """Points, quads and both arrays as text, one after the other."""
    nx, ny = len(x), len(y)
    z = np.log(values + 0.1).ravel().tolist()
    with path.open("w") as file:
        file.write('<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian">\n<PolyData>\n')
        file.write(f'<Piece NumberOfPoints="{nx * ny}" NumberOfPolys="{(nx - 1) * (ny - 1)}">\n<PointData Scalars="zvalue">\n')
        file.write('<DataArray type="Float32" Name="zvalue" format="ascii">\n')
        for value in z:
            print(value, file=file)
        file.write("</DataArray>\n</PointData>\n<CellData>\n")
        file.write('<DataArray type="Float32" Name="averaged zvalue" format="ascii">\n')
        for j in range(ny - 1):
            for i in range(nx - 1):
                k = j * nx + i
                print((z[k] + z[k + 1] + z[k + nx + 1] + z[k + nx]) / 4, file=file)
        file.write("</DataArray>\n</CellData>\n<Points>\n")
        file.write('<DataArray type="Float32" NumberOfComponents="3" format="ascii">\n')
        for j in range(ny):
            for i in range(nx):
                print(x[i], y[j], z[j * nx + i], file=file)
        file.write('</DataArray>\n</Points>\n<Polys>\n<DataArray type="Int32" Name="connectivity" format="ascii">\n')
        for j in range(ny - 1):
            for i in range(nx - 1):
                k = j * nx + i
                print(k, k + 1, k + nx + 1, k + nx, file=file)
        file.write('</DataArray>\n<DataArray type="Int32" Name="offsets" format="ascii">\n')
        for cell in range((nx - 1) * (ny - 1)):
            print(4 * (cell + 1), file=file)
        file.write("</DataArray>\n</Polys>\n</Piece>\n</PolyData>\n</VTKFile>\n")


def best(works: dict[str, Callable[[], object]], rounds: int = 3) -> dict[str, float]:
    """Seconds of processor time of each work, the shortest of ``rounds``; in turns, so that a busy machine slows all alike."""
    times = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            began = time.process_time()
            work()
            times[name] = min(times[name], time.process_time() - began)
    return times


def load(path: Path) -> None:
    """Read a file as ParaView does."""
    reader = {".vts": vtkXMLStructuredGridReader, ".vtp": vtkXMLPolyDataReader}[path.suffix]()
    reader.SetFileName(str(path))
    reader.Update()


def against_loops(place: Path, surface: Surface) -> None:
    x, y, values = surface.x, np.asarray(surface.y), surface.metric()
    options = GridOptions(log=True)
    times = best(
        {
            "loops": lambda: by_loops(x, y, values, place / "loops.vtp"),
            "ours": lambda: write(surface, place / "ours.vtp", options, "li2018"),
            "ours, file to file": lambda: convert(place / "s.h5", place / "ours.vtp", options, "li2018"),
        }
    )
    for name, seconds in times.items():
        print(f"{name:20} {seconds:8.3f} s   {times['loops'] / seconds:6.1f} ×")
    for name in ("loops", "ours"):
        print(f"{name}.vtp: {(place / f'{name}.vtp').stat().st_size / 1e6:.1f} MB")


def formats(place: Path) -> None:
    cases = [(ending, compress) for ending in (".vts", ".vtp") for compress in ("zlib", "lz4", "none")]
    named = {f"{ending} {compress}": (place / f"{compress}{ending}", compress) for ending, compress in cases}
    works: dict[str, Callable[[], object]] = {
        name: lambda path=path, compress=compress: convert(place / "s.h5", path, compress=compress)
        for name, (path, compress) in named.items()
    }
    for ending in (".glb", ".vtkhdf", ".ply"):
        works[ending] = lambda ending=ending: convert(place / "s.h5", place / f"s{ending}")
    written = best(works)
    loaded = best({name: lambda path=path: load(path) for name, (path, _) in named.items()})
    print(f"\n{'file to file':14} {'write':>8} {'load':>8} {'size':>10}")
    for name, seconds in written.items():
        path = named[name][0] if name in named else place / f"s{name}"
        reading = f"{loaded[name]:6.3f} s" if name in loaded else "       –"
        print(f"{name:14} {seconds:6.3f} s {reading} {path.stat().st_size / 1e6:7.1f} MB")


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1001
    axis = np.linspace(-1, 1, points)
    values = 0.1 + 3 * axis[None, :] ** 2 + 5 * axis[:, None] ** 2 + np.sin(9 * axis)[None, :] ** 2
    values += 1e-4 * np.random.default_rng(0).normal(size=values.shape)  # the last digits of a loss are not smooth
    surface = Surface(axis, axis, {"train_loss": values})
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        surface.save(place / "s.h5")
        convert(place / "s.h5", place / "warm.vtp", layout="li2018")
        print(f"{points} × {points} points, best of 3, processor time")
        against_loops(place, surface)
        formats(place)


if __name__ == "__main__":
    main()
