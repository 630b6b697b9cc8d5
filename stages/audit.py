"""Look for copies of training images in one synthetic image set, and attack its generator if the study asks for it."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Write audit.json, membership.json, metrics.json, tables and closest.png of one generator entry."""
    from pipeline.stages import hardware

    attacks_weights = params.audit.membership is not None and params.generators[generator].learns(generator)
    if attacks_weights and params.base is not None:
        hardware.check_alone(params.base, params.study)
    hardware.announce_alone("audit")
    from pipeline.stages.audit.audit import audit

    audit(params, generator)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
