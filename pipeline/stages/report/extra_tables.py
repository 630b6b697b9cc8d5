"""Scores that only some sets have, as tables of the report: several raters, volumes, pooled pixels, region size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.core import paths
from pipeline.core.tables import read_table

RATERS = {
    "GED²": "ged",
    "CI, printed form": "ci_printed",
    "CI, harmonic mean": "ci_harmonic",
    "S_c": "s_c",
    "D_max": "d_max",
    "D_a": "d_a",
    "HM-IoU": "hm_iou",
    "both empty": "empty_both",
    "only raters empty": "empty_raters",
    "only samples empty": "empty_samples",
}
VOLUMES = {
    "HD95 (mm)": "hd95",
    "mean surface distance (mm)": "msd",
    "NSD": "nsd",
    "volume error (ml)": "volume_error",
    "Dice, empty left out": "dice_left_out",
    "HD95, empty left out": "hd95_left_out",
}
PIXELS = {
    "DSC pooled": "dsc_pooled",
    "per image": "dice",
    "SE pooled": "se_pooled",
    "SE per image": "se",
    "SP pooled": "sp_pooled",
    "SP per image": "sp",
    "ACC pooled": "acc_pooled",
    "ACC per image": "acc",
}
SIZES = {"Spearman’s rho over regions": "size_rho", "over classes": "class_rho"}
KINDS = (  # title, note, columns, and the column without which a study has no such table
    (
        "Agreement with several raters",
        "Agreement of a segmenter’s samples with the masks of all raters, computed per image, then averaged. GED² is a"
        " distance; for the others higher is better. S_c and D_max can only grow with every sample that differs, and so"
        " favour segmenters that draw several; GED² compares the spread of the samples with that of the raters. Two"
        " empty masks agree fully. The printed form of CI, 3abc / (a + b + c), is the one in published tables; the"
        " harmonic mean is what their text describes. The last columns are shares of the images: in those no rater, no"
        " sample or neither marked anything, and conventions decide the scores.",
        RATERS,
        "ged",
    ),
    (
        "Volumes",
        "Distances in mm, between masks on the study’s grid. A structure that is missed, or predicted where there is"
        " none, counts as the diagonal of the volume; “empty left out” drops it from distances, and drops structures"
        " that are neither present nor predicted from Dice, as ImgX-DiffSeg scores.",
        VOLUMES,
        "msd",
    ),
    (
        "Pooled and per image",
        "Pooled: over all pixels of the test images at once, so that large lesions weigh more; per image: a mean over"
        " images.",
        PIXELS,
        "dsc_pooled",
    ),
    (
        "Dice and the size of regions",
        "Rank correlation of a region’s size with its Dice, over regions that are present; mean over seeds.",
        SIZES,
        "size_rho",
    ),
)


MEANINGS = {
    "GED²": "the squared generalised energy distance between samples and raters; lower is better",
    "CI, printed form": "3abc / (a + b + c) of S_c, D_max and D_a",
    "CI, harmonic mean": "3 / (1/a + 1/b + 1/c) of S_c, D_max and D_a",
    "S_c": "combined sensitivity: the share of the union of all raters that the union of the samples covers",
    "D_max": "the mean over raters of the Dice with the sample that fits best",
    "D_a": "how well the largest and the smallest difference within the samples agree with those within the raters",
    "HM-IoU": "the mean IoU of samples and raters, matched one to one",
    "HD95 (mm)": "the 95th percentile of the distances between the two surfaces",
    "mean surface distance (mm)": "the mean of these distances",
    "NSD": "the share of the surfaces that lie within the tolerance of each other",
    "volume error (ml)": "the absolute difference of the volumes",
    "both empty": "the share of images in which all masks of the raters and all samples are empty",
    "only raters empty": "the share of images in which all masks of the raters are empty, but not all samples",
    "only samples empty": "the share of images in which all samples are empty, but not all masks of the raters",
    "Dice, empty left out": "the mean Dice without structures that are neither present nor predicted",
    "HD95, empty left out": "HD95 without structures that are missed or predicted where there is none",
    "DSC pooled": "Dice over all pixels of the test images at once",
    "per image": "the mean Dice over images",
    "SE pooled": "sensitivity over all pixels at once",
    "SE per image": "the mean sensitivity over images",
    "SP pooled": "specificity over all pixels at once",
    "SP per image": "the mean specificity over images",
    "ACC pooled": "accuracy over all pixels at once",
    "ACC per image": "the mean accuracy over images",
    "Spearman’s rho over regions": "of the sizes of single regions with their Dice",
    "over classes": "of the mean sizes of the classes with their mean Dice",
}


@dataclass(frozen=True)
class ScoreTable:
    """One table of the page; a row per segmenter and training set, of all test images."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: list[tuple[str, str, list[float | None]]]

    @property
    def meanings(self) -> dict[str, str]:
        """What each column means."""
        return {column: MEANINGS[column] for column in self.columns}


def score_tables(study: str, segmenters: Iterable[str]) -> list[ScoreTable]:
    """Return the tables for which the segmenters of a study have scores."""
    lines = [line for name in segmenters for line in _lines(study, name)]
    tables = []
    for title, note, columns, needed in KINDS:
        scored = [line for line in lines if needed in line]
        shown = {label: column for label, column in columns.items() if any(column in line for line in scored)}
        rows = [(line["segmenter"], line["training_set"], _values(line, shown)) for line in scored]
        if rows:
            tables.append(ScoreTable(title, note, tuple(shown), rows))
    return tables


def _lines(study: str, segmenter: str) -> list[dict[str, str]]:
    path = paths.segmentation(study, segmenter) / "protocol.csv"
    return [row for row in read_table(path) if row["kind"] == "weighted"] if path.is_file() else []


def _values(line: Mapping[str, str], columns: Mapping[str, str]) -> list[float | None]:
    return [float(line[column]) if line.get(column) else None for column in columns.values()]
