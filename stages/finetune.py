"""Fine-tune one generator on the training pairs (default: the first generator of params.yaml)."""

from pipeline.stages import command
from pipeline.stages.finetune.finetune import finetune
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    finetune(params, generator)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
