"""The one training loop, its callbacks, checkpoints and layouts over processes."""
