"""Score the snapshots of one generator: image quality over training steps."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Write steps.csv; only its header if there is no snapshot, which takes no torch to find out."""
    from pipeline.stages.snapshots.output import kept_steps, write

    if kept_steps(params.study, generator, params.finetune.snapshots):
        from pipeline.stages.snapshots.snapshots import score_snapshots

        score_snapshots(params, generator)
    elif command.process() == 0:
        write(params.study, generator, [])


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
