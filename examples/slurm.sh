#!/bin/bash
#SBATCH --job-name=paraloss
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
# usage: sbatch examples/slurm.sh MODEL.pt SURFACE.h5 [further options of paraloss compute]
# Submit it again to go on where it stopped.
set -euo pipefail
weights=$1 output=$2
shift 2
srun paraloss compute --weights "$weights" --x=-1:1:251 --y=-1:1:251 -o "$output" "$@"
