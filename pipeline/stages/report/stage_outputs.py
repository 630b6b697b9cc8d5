"""Which stages of a study have published their outputs: by the files alone, stale or not."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.core import paths
from pipeline.study import Params

LAST = "report"


def unfinished_stages(params: Params) -> list[str]:
    """Return the stages that have not run, as `dvc repro` names them, in the order of the graph, the report last."""
    return [stage for stage, output in stage_outputs(params) if not output.exists()]


def stage_outputs(params: Params) -> Iterator[tuple[str, Path]]:
    """Yield every stage before the report with what it publishes last, then the report."""
    study = params.study
    yield "records", paths.records(study)
    yield "prepare", paths.real(study)
    yield "pseudo_labels", paths.pseudo_labels(study)
    yield "base", paths.base(study)
    for stage, output in (("finetune", paths.generator), ("generate", paths.synthetic)):
        yield from ((f"{stage}@{name}", output(study, name)) for name in params.generators)
    yield "judge", paths.judge(study)
    for stage, output in (("score", paths.scores), ("snapshots", paths.snapshots), ("audit", paths.audit)):
        yield from ((f"{stage}@{name}", output(study, name)) for name in params.generators)
    yield from ((f"mix@{name}", paths.training_set(study, name)) for name in params.training_sets)
    yield from ((f"segment@{name}", paths.segmentation(study, name)) for name in params.segmenters)
    yield "confirm", paths.confirmation(study)
    yield "compare", paths.comparison(study)
    yield LAST, paths.report(study) / "index.html"
