"""``paraloss slurm``"""

from __future__ import annotations


def slurm() -> None:
    """Print a job script for Slurm, to be adapted: ranks, GPUs, time limit, requeueing, arrays over checkpoints.

    Example: paraloss slurm > job.sh, then: sbatch job.sh model.pt surface.h5 --model resnet56 --data cifar10
    """
    from paraloss import examples

    print(examples.slurm_script().read_text(), end="")
