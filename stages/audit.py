"""Look for copies of training images in one synthetic image set."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Write audit.json, metrics.json, images.csv, suspects.csv and closest.png of one generator entry."""
    from pipeline.stages import hardware

    hardware.announce_alone("audit")
    from pipeline.stages.audit.audit import audit

    audit(params, generator)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
