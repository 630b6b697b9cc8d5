"""Make the base model: pretrain a small one on the training images, or import an existing one."""

from pipeline.stages import command
from pipeline.study import Params


def base(params: Params) -> None:
    """Publishes the base, or the record that a study without the section base has none."""
    from pipeline.core import paths, skipped

    if params.base is None:
        reason = "no generator of the study uses one" if params.generators else skipped.NO_GENERATORS
        skipped.record("base", paths.base(params.study), reason)
        return
    from pipeline.stages import hardware

    hardware.check_alone(params.base, params.study)
    hardware.announce_alone("base")
    from pipeline.stages.base.base import make_base

    make_base(params)


if __name__ == "__main__":
    command.run(base, __doc__)
