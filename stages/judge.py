"""Train the judge: a segmenter of real images only, which measures how well synthetic images follow their masks."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params) -> None:
    """Trains and publishes the judge, or the record that a study without the section judge has none."""
    from pipeline.core import paths, skipped

    if params.judge is None:
        skipped.record("judge", paths.judge(params.study))
        return
    from pipeline.core.runtime import Runtime
    from pipeline.segmentation.train import threads, train_judge

    train_judge(params, Runtime.start(threads(params)))


if __name__ == "__main__":
    command.run(stage, __doc__)
