"""Score one synthetic image set against the real one: distances of features, and mask faithfulness."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Write scores.json, images.csv, map.csv and metrics.json of one generator entry."""
    from pipeline.stages.score.score import score

    score(params, generator)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
