"""Render loss surfaces with pvbatch or pvpython, on one rank or many.

pvbatch state_files/render.py surface.h5 -o surface.png
/usr/bin/mpirun -n 2 pvbatch state_files/render.py a.h5 b.h5 --state side_by_side -o pair.png

On a machine without a display put `xvfb-run -a` in front, or use `paraloss render --backend paraview`, which does so itself.
"""

import argparse
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene
from paraview import simple


def main(arguments=None):
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(
        prog="render.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("surfaces", nargs="+", help="surface files: .h5, or .vts that Paraloss wrote")
    parser.add_argument("-o", "--output", required=True, help="picture (.png); with --orbit the frames' stem")
    parser.add_argument("--state", default="lit_surface", help=f"{', '.join(scene.STATES)}, or a .pvsm of your own")
    parser.add_argument("--size", default="1600x900", help="WIDTHxHEIGHT in pixels")
    parser.add_argument("--view", default="paper", choices=["paper", "front", "corner", "top"])
    parser.add_argument("--look", default="paper", choices=["paper", "dark", "flat", "clay"], help="lights, material, colors")
    parser.add_argument("--color-map", choices=["cool-to-warm", "viridis", "gray"], help="default: as the look has it")
    parser.add_argument("--color-by", default="", help="metric that gives the color, if not the height's")
    parser.add_argument("--color-range", metavar="LOW:HIGH", help="ends of the color scale, as drawn; default: the data's")
    parser.add_argument("--contours", type=int, help="number of contour lines on the surface")
    parser.add_argument("--minimum", action="store_true", help="mark the lowest point")
    parser.add_argument("--trajectory", action="store_true", help="draw the optimizer's path that the file holds")
    parser.add_argument("--transparent", action="store_true", help="leave the background out")
    parser.add_argument("--no-scalar-bar", action="store_true", help="leave the color scale out")
    parser.add_argument("--orbit", type=int, default=0, metavar="N", help="N frames around the surface: OUTPUT_0000.png …")
    parser.add_argument("--metric", default="", help="metric that gives the height")
    parser.add_argument("--zmax", type=float, help="draw larger values at this one")
    parser.add_argument("--log", choices=["losses", "always", "never"], default="losses", help="height from ln(value + offset)")
    parser.add_argument("--log-offset", type=float, default=0.1, help="added before the logarithm")
    parser.add_argument("--height-scale", type=float, help="height a unit; the default makes it 0.55 of the width")
    wanted = parser.parse_args(arguments)
    for name in wanted.surfaces:
        if not Path(name).is_file():
            parser.error(f"{name}: no such file")
    width, _, height = wanted.size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        parser.error(f"--size {wanted.size}: give WIDTHxHEIGHT, as in 1600x900")
    try:
        color_range = tuple(map(float, wanted.color_range.split(":"))) if wanted.color_range else None
        assert color_range is None or (len(color_range) == 2 and color_range[0] <= color_range[1])
    except (ValueError, AssertionError):
        parser.error(f"--color-range {wanted.color_range}: give LOW:HIGH, as in -2:5")
    # Drawn twice as fine and averaged, so that edges are smooth; a still of many pixels, or each frame of a turn, is not.
    finer = 2 if int(width) * int(height) <= 3_000_000 and not wanted.orbit else 1
    size = (int(width), int(height))
    if wanted.state.endswith(".pvsm"):
        load_state(wanted.state, wanted.surfaces)
        save_atomically(wanted.output, lambda path: scene.Scene.adopt(size, finer).save(path, wanted.transparent))
        return
    if wanted.state not in scene.STATES:
        parser.error(f"--state {wanted.state}: there are {', '.join(scene.STATES)}, and your own as file.pvsm")
    scene.READER_OPTIONS.update(metric_options(wanted))
    drawn = scene.STATES[wanted.state](
        wanted.surfaces, view=wanted.view, look=wanted.look, color_map=wanted.color_map, size=size,
        scalar_bar=not wanted.no_scalar_bar, color_by=wanted.color_by, contours=wanted.contours, minimum=wanted.minimum,
        trajectory=wanted.trajectory, color_range=color_range,
        finer=finer,
    )  # fmt: skip
    if wanted.orbit:
        stem = Path(wanted.output).with_suffix("")
        for frame in range(wanted.orbit):
            drawn.aim(turn=360.0 * frame / wanted.orbit or 1e-9)
            save_atomically(f"{stem}_{frame:04d}.png", lambda path: drawn.save(path, wanted.transparent))
    else:
        save_atomically(wanted.output, lambda path: drawn.save(path, wanted.transparent))


def metric_options(wanted):
    """Reader properties that the command line asks for."""
    options = {"HeightFrom": wanted.metric} if wanted.metric else {}
    if wanted.zmax is not None:
        options.update(Clip=1, ClipAt=wanted.zmax)
    if wanted.height_scale is not None:
        options.update(AutomaticHeight=0, HeightScale=wanted.height_scale)
    options.update(LogScale=["losses", "always", "never"].index(wanted.log), LogOffset=wanted.log_offset)
    return options


def load_state(state, files):
    """Load a ``.pvsm`` with other surface files in the places of its own, in their order of appearance."""
    scene.load_plugin()
    tree = ElementTree.parse(state)
    readers = [proxy for proxy in tree.iter("Proxy") if proxy.get("type") in ("LossSurfaceReader", "XMLStructuredGridReader")]
    for number, proxy in enumerate(readers):
        names = [p for p in proxy.iter("Property") if p.get("name") in ("FileNames", "FileName", "FileNameInfo")]
        series = len(readers) == 1
        replacement = files if series else [files[number] if number < len(files) else files[-1]]
        for prop in names:
            for element in [e for e in prop if e.tag == "Element"]:
                prop.remove(element)
            prop.set("number_of_elements", str(len(replacement)))
            for index, file in enumerate(replacement):
                element = ElementTree.Element("Element", index=str(index), value=str(Path(file).resolve()))
                prop.insert(index, element)
    with tempfile.TemporaryDirectory() as folder:
        relocated = Path(folder) / Path(state).name
        tree.write(relocated)
        simple.LoadState(str(relocated))


def save_atomically(path, save):
    """Write under a temporary name beside ``path``, then rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        save(str(temporary))
        if temporary.exists():  # ranks other than 0 write nothing
            os.replace(temporary, path)
            print(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ in ("__main__", "__vtkconsole__"):
    main()
