"""Read, check and split the real pairs; all faults are reported at once, before anything is written."""

from pipeline.stages import command
from pipeline.stages.prepare.prepare import prepare
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params


def stage(params: Params) -> None:
    check_plugins(params)  # reject a typo before hours of work
    prepare(params)


if __name__ == "__main__":
    command.run(stage, __doc__)
