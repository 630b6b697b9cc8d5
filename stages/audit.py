"""Look for copies of training images in one synthetic image set."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Writes audit.json, metrics.json, images.csv, suspects.csv and closest.png of one generator entry."""
    from pipeline.core import files, paths
    from pipeline.core.runtime import Runtime
    from pipeline.data.image_set import ImageSet
    from pipeline.stages.audit import audit, output

    runtime = Runtime.alone(params.threads)
    real = ImageSet.open(paths.real(params.study))
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    found = audit.audit(real, synthetic, audit.open_spaces(params, runtime), params, generator)
    work = paths.work("audit", files.fingerprint(generator, params.audit, real.digest, synthetic.digest))
    output.publish_audit(paths.audit(params.study, generator), work, found, params.audit)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
