"""Train the judge: a segmenter of real images only, which measures how well synthetic images follow their masks."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params) -> None:
    """Train and publish the judge, or the record that a study without the section judge has none."""
    from pipeline.core import paths, skipped

    if params.judge is None:
        skipped.record("judge", paths.judge(params.study))
        return
    from pipeline.stages import hardware

    hardware.announce_alone("judge")
    from pipeline.core.runtime import Runtime
    from pipeline.stages.judge.train import train_judge

    train_judge(params, Runtime.start(params.segment.threads_or(params.threads)))


if __name__ == "__main__":
    command.run(stage, __doc__)
