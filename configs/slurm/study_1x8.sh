#!/bin/sh
# Runs the whole study on one machine of eight GPUs:  sbatch configs/slurm/study_1x8.sh
# dvc repro starts each stage by itself; what is finished is not run again, and a killed stage resumes.
#SBATCH --job-name=twinsynth
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu
export PATH="$PWD/.venv/bin:$PATH"
export LAUNCH="${LAUNCH:-gpu8}"
exec dvc repro
