"""Render loss surfaces with pvbatch or pvpython, on one rank or many.

pvbatch state_files/render.py surface.h5 -o surface.png
/usr/bin/mpirun -n 2 pvbatch state_files/render.py a.h5 b.h5 --state side_by_side -o pair.png

On a machine without a display put `xvfb-run -a` in front, or use `paraloss render --backend paraview`, which does so itself.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import scene

from paraloss.converters.composition_json import from_json
from paraloss.errors import ParalossError
from paraloss.files import check_output
from paraloss.look import CAMERAS, COLOR_MAPS, LOOKS
from paraloss.picture_options import AUTO, GridOptions, PictureOptions

MOST_FRAMES = 100_000


def parser():
    """The command line's parser."""
    made = argparse.ArgumentParser(prog="render.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("surfaces", nargs="+", help="surface files: .h5, or .vts that Paraloss wrote")
    made.add_argument("-o", "--output", required=True, help="picture (.png); with --orbit the frames' stem")
    made.add_argument("--state", default="lit_surface", help=f"{', '.join(scene.STATES)}, or a .pvsm of your own")
    made.add_argument("--trust", action="store_true", help="let a .pvsm run the Python that it holds; states are programs")
    made.add_argument("--composition", metavar="JSON", help="file that decides all, instead of the options below")
    made.add_argument("--size", default="1600x900", help="WIDTHxHEIGHT in pixels")
    made.add_argument("--orbit", type=int, default=0, metavar="N", help="N frames around the surface: OUTPUT_0000.png …")
    heights, picture = made.add_argument_group("heights"), made.add_argument_group("picture")
    heights.add_argument("--metric", help="metric that gives the height")
    heights.add_argument("--no-log", dest="log", action="store_const", const=False, help="height from the metric itself")
    heights.add_argument("--log", action="store_const", const=True, help="height from ln(metric + offset), for any metric")
    heights.add_argument("--log-offset", type=float, default=0.1, help="number added before the logarithm")
    heights.add_argument("--zmax", type=float, help="upper limit in the metric's unit")
    heights.add_argument("--zmin", type=float, help="lower limit in the metric's unit")
    heights.add_argument("--height-scale", type=float, help="height per unit; default: 0.55 times as high as wide")
    picture.add_argument(
        "--view", default=AUTO, choices=[AUTO, *CAMERAS], help="auto: from where basin, minimum and paths are seen"
    )
    picture.add_argument("--azimuth", type=float, help="where the viewer stands, degrees: 0 in front, 90 on the right")
    picture.add_argument("--elevation", type=float, help="angle above the surface's plane, degrees")
    picture.add_argument("--look", default="paper", choices=list(LOOKS), help="lights, material, colors")
    picture.add_argument("--color-map", choices=list(COLOR_MAPS), help="default: the look's")
    picture.add_argument("--color-by", help="metric that gives the color; default: the height's")
    picture.add_argument("--contours", type=int, help="number of contour lines on the surface")
    picture.add_argument("--minimum", action="store_true", help="mark the lowest point")
    picture.add_argument("--trajectory", action="store_true", help="draw the optimizer's path that the file holds")
    picture.add_argument("--transparent", action="store_true", help="leave the background out")
    picture.add_argument("--no-scalar-bar", dest="scalar_bar", action="store_false", help="leave the color scale out")
    return made


def main(arguments=None):
    """Parse the command line and draw; an error is one line on standard error and exit code 2."""
    made = parser()
    asked = made.parse_args(arguments)
    for name in asked.surfaces + ([asked.composition] if asked.composition else []):
        if not Path(name).is_file():
            made.error(f"{name}: no such file")
    width, _, height = asked.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and all(10 <= int(side) <= 16384 for side in (width[:6], height[:6]))):
        made.error(f"--size {asked.size[:60]}: give WIDTHxHEIGHT, each 10 to 16384, as in 1600x900")
    if not 0 <= asked.orbit <= MOST_FRAMES:
        made.error(f"--orbit {asked.orbit}: give 0 to {MOST_FRAMES} frames")
    try:
        draw(asked, (int(width), int(height)))
    except ParalossError as error:
        print(f"paraloss: {error}", file=sys.stderr)
        sys.exit(2)


def draw(asked, size):
    """Draw what the parsed command line asks for."""
    given = vars(asked)
    if asked.composition:
        composition = from_json(Path(asked.composition).read_text(encoding="utf-8"))
        wanted = scene.Wanted(size=composition.layout.size, composition=composition)
        state = "lit_surface" if len(composition.panels) == 1 else "side_by_side"
    else:
        heights = {name: given[name] for name in ("metric", "log", "log_offset", "zmax", "zmin", "height_scale")}
        look = (
            "view",
            "azimuth",
            "elevation",
            "look",
            "color_map",
            "color_by",
            "contours",
            "minimum",
            "trajectory",
            "transparent",
            "scalar_bar",
        )
        wanted = scene.Wanted(GridOptions(**heights), PictureOptions(**{name: given[name] for name in look}), size)
        state = asked.state
    # Drawn twice as fine and averaged, so that edges are smooth; a still of many pixels, or each frame of a turn, is not.
    finer = 2 if wanted.size[0] * wanted.size[1] <= 3_000_000 and not asked.orbit else 1
    wanted = scene.replace(wanted, finer=finer)
    if state.endswith(".pvsm"):
        from saved_state import open_state

        drawn = open_state(state, asked.surfaces, wanted, asked.trust)
    else:
        drawn = scene.draw(state, asked.surfaces, wanted)
    if not asked.orbit:
        save_atomically(asked.output, drawn.save)
        return
    stem = Path(asked.output).with_suffix("")
    for frame in range(asked.orbit):
        drawn.aim(turn=360.0 * frame / asked.orbit)
        save_atomically(f"{stem}_{frame:04d}.png", drawn.save)


def save_atomically(path, save):
    """Write under a temporary name beside the file that ``path`` leads to, then rename."""
    check_output(path)
    shown, path = path, Path(path).resolve()
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        save(str(temporary))
        if temporary.exists():  # ranks other than 0 write nothing
            os.replace(temporary, path)
            print(shown)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ in ("__main__", "__vtkconsole__"):
    main()
