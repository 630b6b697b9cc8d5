"""Stage audit: search one synthetic image set for copies of training images, attack the generator, and publish both."""

from pipeline.core import files, paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.stages.audit.attacked import Attacked
from pipeline.stages.audit.copy_search import find_copies, open_spaces
from pipeline.stages.audit.membership import Trained, infer
from pipeline.stages.audit.output import publish_audit
from pipeline.stages.audit.training_images import fine_tuned_on, held_out, seen_pairs, unlabelled_of
from pipeline.study import Params


def audit(params: Params, generator: str) -> None:
    """Publish the audit of one generator entry: audit.json, membership.json, metrics.json, tables and closest.png."""
    runtime = Runtime.alone(params.threads)
    everything = ImageSet.open(paths.real(params.study))
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    seen = {*seen_pairs(params.study, everything, synthetic, params.seed).ids}
    real = everything.select(row for row in everything if row["split"] != "train" or row["id"] in seen)
    cache = open_spaces(params.audit, params.score, params.seed, runtime)
    unlabelled = unlabelled_of(params.study, params.generators[generator])
    findings = find_copies(real, synthetic, cache, params.audit, generator, unlabelled)
    inference = None
    if params.audit.membership is not None:
        members = fine_tuned_on(everything, synthetic, params.seed)
        attacked = Attacked.of(members, held_out(real, unlabelled), findings.left_out)
        trained = Trained(params.study, params.seed, generator, params.generators[generator], runtime)
        inference = infer(attacked, synthetic, cache, params.audit.membership, trained)
    digests = [images.digest for images in (real, synthetic, unlabelled) if images is not None]
    work = paths.work("audit", files.fingerprint(generator, params.audit, *digests))
    publish_audit(paths.audit(params.study, generator), work, findings, params.audit, inference)
