"""Scores of synthetic image sets, shared by the stages score, snapshots and audit."""
