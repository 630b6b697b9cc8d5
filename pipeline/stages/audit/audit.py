"""Stage audit: search one synthetic image set for copies of training images, and publish what was found."""

from pipeline.core import files, paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.stages.audit.copy_search import find_copies, open_spaces
from pipeline.stages.audit.output import publish_audit
from pipeline.stages.audit.training_images import unlabelled_of
from pipeline.study import Params


def audit(params: Params, generator: str) -> None:
    """Publish audit.json, metrics.json, images.csv, suspects.csv and closest.png of one generator entry."""
    runtime = Runtime.alone(params.threads)
    real = ImageSet.open(paths.real(params.study))
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    cache = open_spaces(params.audit, params.score, params.seed, runtime)
    unlabelled = unlabelled_of(params.study)
    findings = find_copies(real, synthetic, cache, params.audit, generator, unlabelled)
    digests = [images.digest for images in (real, synthetic, unlabelled) if images is not None]
    work = paths.work("audit", files.fingerprint(generator, params.audit, *digests))
    publish_audit(paths.audit(params.study, generator), work, findings, params.audit)
