"""Score the snapshots of one generator: image quality over training steps."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Write steps.csv; only its header if finetune.snapshots is empty."""
    from pipeline.stages.snapshots.snapshots import score_snapshots

    score_snapshots(params, generator)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
