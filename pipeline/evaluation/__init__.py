"""Features and scores of image sets, shared by the stages score, snapshots and audit."""
