"""From a checkpoint to a surface file: models, data, directions, evaluation, the MPI work queue, training."""

from paraloss.compute.api import compute_surface
from paraloss.compute.directions.between import direction_between
from paraloss.compute.directions.random import normalize, random_direction
from paraloss.compute.evaluate.full import Evaluator
from paraloss.compute.inputs.checkpoints import apply_checkpoint, file_sha256, load_checkpoint, load_model
from paraloss.compute.inputs.criteria import load_criterion
from paraloss.compute.inputs.data import Split, as_data_set, classes_of, load_data
from paraloss.compute.training import train

__all__ = [
    "Evaluator",
    "Split",
    "apply_checkpoint",
    "as_data_set",
    "classes_of",
    "compute_surface",
    "direction_between",
    "file_sha256",
    "load_checkpoint",
    "load_criterion",
    "load_data",
    "load_model",
    "normalize",
    "random_direction",
    "train",
]
