"""Train one segmenter on every training set with every seed, and score it on the real test images."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, segmenter: str) -> None:
    """Run the grid of one entry of `segmenters` over all processes of the launch."""
    from pipeline.core.runtime import Runtime
    from pipeline.stages.segment.grid import run_grid

    run_grid(params, segmenter, Runtime.start(params.segment.threads_or(params.threads)))


if __name__ == "__main__":
    command.run(stage, __doc__, "segmenter")
