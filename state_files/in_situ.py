"""A job's surface in ParaView Catalyst while it is computed: ``paraloss compute --catalyst pipeline.py`` runs this.

    pvbatch in_situ.py surface.h5 pipeline.py [another.py ...]

Each time that the job has written points, the surface, at its finest complete level, is handed to the pipelines, which File >
Export Catalyst State made: under the name that its reader has there, at the time "number of points evaluated". A line ``end``
on standard input, or its end, ends this after a last look. Of the complete surface every output is made, whatever its trigger.
"""

import ast
import select
import sys
import traceback
from pathlib import Path

from readers import load_plugin  # first: it makes `import paraloss` work

from paraloss.converters import open_surface, to_image, to_structured_grid
from paraloss.errors import ParalossError

SOURCES = ("LossSurfaceReader", "XMLStructuredGridReader", "XMLImageDataReader", "TrivialProducer", "OpenDataFile")
LOOK_EVERY_S = 0.5


def main(file, *pipelines):
    """Hand over the surface in ``file`` until the job is done."""
    from paraview.catalyst import bridge

    load_plugin()
    bridge.coprocessor = bridge.vtkCPProcessor()  # not bridge.initialize: pvbatch has initialized ParaView
    bridge.coprocessor.Initialize()
    for pipeline in pipelines:
        bridge.add_pipeline_v2(pipeline)
    names, file = input_names(pipelines), Path(file)
    stamp, step, known = 0, 0, -1
    over = False
    while not over:
        over = asked_to_end(LOOK_EVERY_S)
        news = file.stat().st_mtime_ns if file.exists() else stamp
        if news == stamp and not over:
            continue
        stamp = news
        try:
            surface = open_surface(file)
        except ParalossError:  # not made yet, or written to at this moment: the next look will do
            if over:
                raise
            continue
        count = int((surface.status > 0).sum())
        if count > max(known, 0):
            known = count
            hand_over(bridge, names, grid_of(surface), count, step, last=surface.is_complete)
            step += 1
    bridge.finalize()
    print(f"paraloss: ParaView Catalyst had {step} states of {file}", file=sys.stderr, flush=True)


def grid_of(surface):
    """What ParaView is given: a structured grid, or the image data of a volume."""
    drawn = surface.drawable()
    return to_structured_grid(drawn) if drawn.z is None else to_image(drawn)


def hand_over(bridge, names, grid, count, step, last):
    """Run the pipelines on ``grid``.

    Args:
        bridge: ParaView's module of Catalyst.
        names: names of the inputs.
        grid: the data.
        count: number of points evaluated, ParaView's time.
        step: number of this state.
        last: force all outputs.
    """
    description = bridge.vtkCPDataDescription()
    for name in names:
        description.AddInput(name)
    description.SetTimeData(float(count), step)
    description.SetForceOutput(bool(last))
    if not bridge.coprocessor.RequestDataDescription(description):
        return
    for name in names:
        wanted = description.GetInputDescriptionByName(name)
        wanted.SetWholeExtent(grid.GetExtent())
        wanted.SetGrid(grid)
    bridge.coprocessor.CoProcess(description)


def input_names(pipelines):
    """The names that the pipelines' sources are registered under, ``input`` where they have none; the scripts are not run."""
    names = {"input"}
    for pipeline in pipelines:
        for call in ast.walk(ast.parse(Path(pipeline).read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in SOURCES:
                words = [one.value for one in call.keywords if one.arg == "registrationName"]
                names.update(word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str))
    return sorted(names)


def asked_to_end(seconds):
    """Wait for a line on standard input; whether it came, or the input has ended."""
    ready, _, _ = select.select([0], [], [], seconds)  # the number: pvbatch puts an object of its own in sys.stdin
    return bool(ready)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ParalossError as error:
        print(f"paraloss: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
