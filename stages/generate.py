"""Generate the image set of one generator from the training masks (default: the first generator of params.yaml)."""

from pipeline.stages import command
from pipeline.stages.generate.generate import generate
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    generate(params, generator)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
