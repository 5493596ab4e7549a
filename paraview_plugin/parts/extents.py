"""Extents, pieces and time steps in ParaView's pipeline: what a rank is asked for, and what a filter asks for."""

from vtkmodules.vtkCommonDataModel import vtkStructuredGrid
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline
from vtkmodules.vtkFiltersExtraction import vtkExtractGrid


def set_whole(out, nx, ny):
    """Announce a grid of nx × ny points that each rank can read its own part of; empty for 0 × 0."""
    out.Set(Pipeline.WHOLE_EXTENT(), 0, nx - 1, 0, ny - 1, 0, 0 if nx else -1)
    out.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)


def set_steps(out, steps):
    """Announce the time steps of a series; none for a single file."""
    out.Remove(Pipeline.TIME_STEPS())
    out.Remove(Pipeline.TIME_RANGE())
    for step in steps:
        out.Append(Pipeline.TIME_STEPS(), step)
    for end in [steps[0], steps[-1]] if steps else []:
        out.Append(Pipeline.TIME_RANGE(), end)


def step_of(out, steps):
    """Index of the time step that is asked for."""
    if steps and out.Has(Pipeline.UPDATE_TIME_STEP()):
        return max(0, min(len(steps) - 1, round(out.Get(Pipeline.UPDATE_TIME_STEP()))))
    return 0


def is_empty(out):
    """Whether the announced grid has no points."""
    return out.Get(Pipeline.WHOLE_EXTENT(), 1) < 0


def piece_of(out):
    """(i0, i1, j0, j1), inclusive, of the part that this rank is asked for."""
    return tuple(out.Get(Pipeline.UPDATE_EXTENT(), k) for k in range(4))


def ask_for_all(inputs):
    """Ask the input for the whole surface on every rank, as one piece without ghosts."""
    for number in range(inputs[0].GetNumberOfInformationObjects()):
        information = inputs[0].GetInformationObject(number)
        if information.Has(Pipeline.WHOLE_EXTENT()):  # an unstructured grid has none
            information.Set(Pipeline.UPDATE_EXTENT(), [information.Get(Pipeline.WHOLE_EXTENT(), k) for k in range(6)], 6)
        information.Set(Pipeline.UPDATE_EXTENT_INITIALIZED(), 1)
        information.Set(Pipeline.UPDATE_PIECE_NUMBER(), 0)
        information.Set(Pipeline.UPDATE_NUMBER_OF_PIECES(), 1)
        information.Set(Pipeline.UPDATE_NUMBER_OF_GHOST_LEVELS(), 0)


def on_first_piece(outputs):
    """Whether this rank puts out the geometry of the whole surface, which only the rank of piece 0 does."""
    information = outputs.GetInformationObject(0)
    return not information.Has(Pipeline.UPDATE_PIECE_NUMBER()) or information.Get(Pipeline.UPDATE_PIECE_NUMBER()) == 0


def cut(grid, out):
    """The part of a whole grid that this rank is asked for."""
    wanted = [out.Get(Pipeline.UPDATE_EXTENT(), k) for k in range(6)] if out.Has(Pipeline.UPDATE_EXTENT()) else None
    if wanted is None or wanted[1] < wanted[0] or wanted == list(grid.GetExtent()):
        return grid
    part = vtkExtractGrid()
    part.SetInputData(grid)
    part.SetVOI(*wanted)
    part.Update()
    result = vtkStructuredGrid()
    result.ShallowCopy(part.GetOutput())
    return result
