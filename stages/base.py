"""Make the base model: pretrain a small one on the training images, or bring in an existing one."""

from pipeline import commands
from pipeline.params import Params
from pipeline.pretraining import make_base


def base(params: Params) -> None:
    make_base(params)


if __name__ == "__main__":
    commands.run(base, __doc__)
