"""Stage audit: search one synthetic image set for copies of training images, and publish what was found."""

from pipeline.core import files, paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.stages.audit.copy_search import find_copies, open_spaces
from pipeline.stages.audit.output import publish_audit
from pipeline.stages.audit.training_images import seen_pairs, unlabelled_of
from pipeline.study import Params


def audit(params: Params, generator: str) -> None:
    """Publish audit.json, metrics.json, images.csv, suspects.csv and closest.png of one generator entry."""
    runtime = Runtime.alone(params.threads)
    everything = ImageSet.open(paths.real(params.study))
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    seen = {*seen_pairs(params.study, everything, synthetic, params.seed).ids}
    real = everything.select(row for row in everything if row["split"] != "train" or row["id"] in seen)
    cache = open_spaces(params.audit, params.score, params.seed, runtime)
    unlabelled = unlabelled_of(params.study)
    findings = find_copies(real, synthetic, cache, params.audit, generator, unlabelled)
    digests = [images.digest for images in (real, synthetic, unlabelled) if images is not None]
    work = paths.work("audit", files.fingerprint(generator, params.audit, *digests))
    publish_audit(paths.audit(params.study, generator), work, findings, params.audit)
