"""A 1001 × 1001 surface to .vtp: ours against text written value by value, as Li et al.'s converter does it.

python benchmarks/convert.py [POINTS]

The loop below follows the description of their file (points, one array a point, one a cell, quads; ASCII), not their code.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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


def main() -> None:
    points = int(sys.argv[1]) if len(sys.argv) > 1 else 1001
    axis = np.linspace(-1, 1, points)
    values = 0.1 + 3 * axis[None, :] ** 2 + 5 * axis[:, None] ** 2 + np.sin(9 * axis)[None, :] ** 2
    surface = Surface(axis, axis, {"train_loss": values}, np.ones(values.shape, np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        surface.save(place / "s.h5")
        convert(place / "s.h5", place / "warm.vtp", layout="li2018")
        times: dict[str, list[float]] = {"loops": [], "ours": [], "ours, file to file": []}
        for _ in range(3):  # in turns, so that a busy machine slows all alike
            for name, work in (
                ("loops", lambda: by_loops(axis, axis, values, place / "loops.vtp")),
                ("ours", lambda: write(surface, place / "ours.vtp", GridOptions(log=True), "li2018")),
                ("ours, file to file", lambda: convert(place / "s.h5", place / "ours.vtp", GridOptions(log=True), "li2018")),
            ):
                began = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - began)
        slow = min(times["loops"])
        print(f"{points} × {points} points to .vtp, best of 3")
        for name, seconds in times.items():
            print(f"{name:20} {min(seconds):8.3f} s   {slow / min(seconds):6.1f} ×")
        for name in ("loops", "ours"):
            print(f"{name}.vtp: {(place / f'{name}.vtp').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
