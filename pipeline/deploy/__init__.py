"""Trained models outside a study: exported generators, predictions on new images."""
