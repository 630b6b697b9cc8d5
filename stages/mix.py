"""Make one training set: real training images plus the first copies of a generator's images."""

from pipeline.stages import command
from pipeline.stages.mix.mix import mix
from pipeline.study import Params


def stage(params: Params, training_set: str) -> None:
    """Publish one entry of `training_sets`."""
    mix(params, training_set)


if __name__ == "__main__":
    command.run(stage, __doc__, "training_set")
