#!/usr/bin/env bash
#SBATCH --job-name=meadowlark-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --signal=TERM@300
#SBATCH --requeue
# One training on several machines under Slurm, each holding shards of the model (FSDP2):
#
#   sbatch recipes/train-slurm.sh configs/alpacare-13b.toml --data mixed --out tuned
#
# The folder of --out must be one that all machines see; so must the data. Five minutes before the
# time limit Slurm sends SIGTERM: the step at work ends, a checkpoint is written, and the same
# command (a requeued job is one) goes on from there to the weights of an unbroken run.
# Without Slurm, start the line that srun starts by hand on each machine, HEAD being the first one.
set -euo pipefail
NODES=${SLURM_NNODES:-2}
PROCESSES=${SLURM_GPUS_ON_NODE:-8}
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240

srun torchrun --nnodes "$NODES" --nproc-per-node "$PROCESSES" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$HEAD:${PORT:-29400}" \
    -m meadowlark train "$@"
