#!/bin/bash
# usage: sbatch job.sh MODEL.pt SURFACE.h5 [options of paraloss compute]
#        sbatch --array=0-9 job.sh 'runs/r56/epoch_*.pt' FOLDER [options]      one surface per checkpoint, by number in the list
#
# Two minutes before the time limit the ranks keep what is finished, and the job is queued again; it goes on from the file.
# Without requeueing on your cluster: submit the same line again.
#
# Set these where you need them, in the line `sbatch --export=ALL,PARALOSS_VENV=$HOME/venv job.sh …` or here:
#   PARALOSS_MODULES   modules to load, as in "python/3.11 openmpi"
#   PARALOSS_VENV      folder of a virtual environment
#   PARALOSS_MPI       how srun starts MPI, as in pmix or pmi2; `srun --mpi=list` names what there is. Without it and without a
#                      default of the cluster, the ranks that srun starts talk through torch.distributed and need no MPI
#   PARALOSS_TORCHRUN  yes: torchrun on each node starts the ranks, without MPI
#SBATCH --job-name=paraloss
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
[ -z "${PARALOSS_MODULES:-}" ] || module load $PARALOSS_MODULES
[ -z "${PARALOSS_VENV:-}" ] || source "$PARALOSS_VENV/bin/activate"
weights=$1 output=$2
shift 2
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    checkpoints=($(printf '%s\n' $weights | sort -V))
    weights=${checkpoints[$SLURM_ARRAY_TASK_ID]}
    mkdir -p "$output"
    name=$(basename "$weights")
    output=$output/${name%.*}.h5
fi
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

stopped=
forward() { stopped=yes; kill -TERM "$job" 2>/dev/null || true; }
trap forward TERM
launch=(srun --cpus-per-task="$OMP_NUM_THREADS" ${PARALOSS_MPI:+--mpi="$PARALOSS_MPI"} paraloss)
if [ -n "${PARALOSS_TORCHRUN:-}" ]; then
    hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
    launch=(srun --ntasks="${#hosts[@]}" --ntasks-per-node=1 --cpus-per-task="$((OMP_NUM_THREADS * SLURM_NTASKS_PER_NODE))"
        torchrun --nnodes="${#hosts[@]}" --nproc-per-node="$SLURM_NTASKS_PER_NODE" --rdzv-backend=c10d
        --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="${hosts[0]}:$((15000 + SLURM_JOB_ID % 12000))" -m paraloss)
fi
"${launch[@]}" compute --weights "$weights" -o "$output" "$@" &
job=$!
code=0
wait "$job" || code=$?
while kill -0 "$job" 2>/dev/null; do # the signal ended the wait, not the job
    code=0
    wait "$job" || code=$?
done
if [ -n "$stopped" ] && [ "$code" -ne 0 ]; then
    echo "the time limit is near: queued again"
    scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
fi
exit "$code"
