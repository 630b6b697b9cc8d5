"""The trained judges, for the stages that score synthetic images with them."""

from collections.abc import Mapping

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.judges import Judges
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.judge import folds
from pipeline.stages.judge.params import Judge


def load_judges(judge: Judge, segmenters: Mapping[str, SegmenterEntry], study: str, real: ImageSet) -> Judges:
    """Return the trained judges of a study whose real images are `real`.

    Raises UserError where there are none for these parameters and images.
    """
    folder = paths.judge(study)
    files.check(folder)
    halves = folds.read(folder)
    if judge.cross_fit != (halves is not None):
        found, value = ("no", "true") if judge.cross_fit else ("a", "false")
        raise UserError(
            f"judge.cross_fit is {value}, but {folder} has {found} {folds.TABLE}; run the stage judge again"
        )
    if halves is not None and halves.keys() != set(real.split("train").ids):
        raise UserError(f"{folder / folds.TABLE} lists other pairs than {real.folder}; run the stage judge again")
    trained = []
    for place in folds.folders(folder).values():
        segmenter = build_segmenter(judge.segmenter, segmenters[judge.segmenter], real.spec)
        segmenter.load(place)
        trained.append(segmenter)
    return Judges(tuple(trained), halves)
