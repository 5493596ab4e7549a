"""From a checkpoint to a surface file: models, data, directions, evaluation, the MPI work queue, training."""

from paraloss.compute.checkpoints import apply_checkpoint, file_sha256, load_checkpoint, load_model
from paraloss.compute.criteria import load_criterion
from paraloss.compute.data import Split, as_data_set, classes_of, load_data
from paraloss.compute.directions import direction_between, normalise, random_direction
from paraloss.compute.evaluator import Evaluator
from paraloss.compute.run import compute_surface
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
    "normalise",
    "random_direction",
    "train",
]
