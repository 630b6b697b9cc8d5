#!/bin/sh
# Fine-tunes one generator entry on two machines of eight GPUs:  sbatch configs/slurm/finetune_2x8.sh siamese
# Submit it from the repository, on a file system that both machines share. The same command resumes; SLURM may send it
# again by itself after a preemption (--requeue).
#SBATCH --job-name=twinsynth
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu
GENERATOR=${1:?name a generator entry of params.yaml}
LAUNCH=${LAUNCH:-gpu2x8}
MAIN=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export GENERATOR LAUNCH MAIN
export PATH="$PWD/.venv/bin:$PATH"

# One launcher per machine; SLURM_NODEID is 0 on the first and 1 on the second.
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 sh -c 'exec accelerate-launch \
  --config_file "configs/accelerate/$LAUNCH.yaml" \
  --machine_rank "$SLURM_NODEID" --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * 8))" \
  --main_process_ip "$MAIN" --main_process_port 29500 \
  stages/finetune.py --generator "$GENERATOR"'
