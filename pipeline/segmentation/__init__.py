"""Training and scoring of segmenters, shared by the stages judge, segment and score."""
