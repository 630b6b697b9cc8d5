"""One room per stage of dvc.yaml."""
