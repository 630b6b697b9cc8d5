"""A study as SLURM jobs, one per stage of DVC's graph; the last job commits what the others made to dvc.lock."""
