"""Train the judge: a segmenter of real images only, which measures how well synthetic images follow their masks."""

from pipeline import commands
from pipeline.params import Params


def stage(params: Params) -> None:
    """Trains and publishes the judge of the study."""
    from pipeline.runtime import Runtime
    from pipeline.segmentation import threads, train_judge

    train_judge(params, Runtime.start(threads(params)))


if __name__ == "__main__":
    commands.run(stage, __doc__)
