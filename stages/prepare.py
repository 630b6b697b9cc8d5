"""Read, check and split the real pairs; all faults are reported at once, before anything is written."""

from pipeline import commands
from pipeline.commands.validation import check_plugins
from pipeline.preparation import prepare
from pipeline.study import Params


def stage(params: Params) -> None:
    check_plugins(params)  # a typo is refused before hours of work
    prepare(params)


if __name__ == "__main__":
    commands.run(stage, __doc__)
