"""The content of a study's page, for its template; pictures apart, because the page chooses their size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pipeline.core import paths
from pipeline.data.image_set import ImageSet
from pipeline.segmentation.params import Segment, SegmenterEntry, entry_settings
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.compare.comparison import read_comparison, read_output
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.params import Compare, common_training_set
from pipeline.stages.pseudo_labels.output import read_record
from pipeline.stages.report import (
    attention_maps,
    audit,
    bench_table,
    boundary_weights,
    claimed_and_measured,
    extra_tables,
    frontier,
    gallery,
    identity,
    losses,
    pictures,
    rater_samples,
    screening,
    segmenter_comparison,
    subgroups,
    training_history,
)
from pipeline.stages.report.attention_maps import Heatmap
from pipeline.stages.report.audit import GeneratorAudit
from pipeline.stages.report.bench_table import BenchRow
from pipeline.stages.report.boundary_weights import BoundaryWeight
from pipeline.stages.report.charts import Charts
from pipeline.stages.report.claimed_and_measured import ClaimTable, ScoredStudy
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.extra_tables import ScoreTable
from pipeline.stages.report.frontier import FrontierRow
from pipeline.stages.report.gallery import Example, JudgedImage
from pipeline.stages.report.legend import Key
from pipeline.stages.report.rater_samples import RaterSamples
from pipeline.stages.report.score_table import GeneratorScores, extractor_in_losses, read_scores
from pipeline.stages.report.screening import ScreenedSet
from pipeline.stages.report.training_history import Strip
from pipeline.study import Params

Record = dict[str, Any]


@dataclass(frozen=True)
class ShownFigure:
    """A figure of the page: its caption, its <svg>, and what its marks mean."""

    caption: str
    figure: Markup
    key: Key


@dataclass(frozen=True)
class PageContent:
    """The content of the page without its pictures; the template escapes everything but Markup."""

    study: str
    title: str
    reader: str  # of the data set
    generators: Sequence[str]
    compare: Compare
    training_set: str  # on which segmenters are compared
    seeds: int
    verdict: str
    verdicts: Mapping[str, str]  # by segmenter
    headline: Record | None  # the numbers behind the verdict
    shown_generator: str | None  # of which the first screen shows an image; None: the study has none
    data_summary: str
    training_lengths: str
    confidence: str
    charts: Mapping[str, list[ShownFigure]]  # by section
    classes: list[tuple[str, str]]  # colours and names of the labels of a mask
    curve: list[Record]
    arms: list[Record]
    bench: list[BenchRow]
    frontier: list[FrontierRow]  # nothing where no generator has been attacked
    choice: list[Record]
    trend: list[Record]
    generator_seeds: list[Record]
    exchange: list[Record]  # exchange rates; nothing where no training sets differ in `limit`
    learning_curve: list[Record]
    test_sets: list[str]
    segmenters: Mapping[str, list[Record]]  # rows of their comparison by metric
    segmenters_verdict: str | None
    subgroups: Mapping[str, list[Record]]  # rows of their comparison by column
    subgroups_summary: str
    claims: list[ClaimTable]  # of papers; nothing where the study is none of a paper
    extra_tables: list[ScoreTable]
    judge_dice: float | None
    cross_fitted: bool  # several judges, each image judged by one that has not seen the pair of its mask
    scores: GeneratorScores
    extractor_in_losses: str | None  # whose network losses of the base use
    screenings: list[ScreenedSet]
    strips: Mapping[str, list[Strip]]
    loss_summary: list[tuple[str, str, int, float, float, float]]
    hashes: list[identity.Line]
    versions: list[tuple[str, str]]
    yaml: str  # all parameters

    @property
    def references(self) -> set[str]:
        """The training sets that others are compared with: one, unless arms have limits of their own."""
        return {arm["reference"] for arm in self.arms if arm.get("reference")}

    @property
    def required_sizes(self) -> list[Record]:
        """Rows of the arms for which it is known how many images or seeds would settle them."""
        return [arm for arm in self.arms if arm["role"] == "arm" and arm["detectable"] is not None]


@dataclass(frozen=True)
class PagePictures:
    """The pictures of the page, all brought to one size."""

    gallery: Mapping[str, list[Example]]
    extremes: Mapping[str, Mapping[str, list[JudgedImage]]]
    audits: list[GeneratorAudit]
    raters: Mapping[str, list[RaterSamples]]
    heatmaps: Mapping[str, list[Heatmap]]
    weights: list[BoundaryWeight]


def page_content(params: Params, drawn: Charts) -> PageContent:
    """Collect what the page shows. Raises UserError where a stage has left no results."""
    study, generators = params.study, list(params.generators)
    comparison = read_comparison(study)
    judge = paths.judge(study) / "metrics.json"
    yaml = identity.as_yaml(params)
    design = Design(params.compare, params.training_sets, len(params.segmenters), params.seed)
    scored = ScoredStudy(study, params.segmenters, params.segment.seeds, design)
    return PageContent(
        study=study,
        title=params.report.title,
        reader=params.data.reader,
        generators=generators,
        compare=params.compare,
        training_set=common_training_set(params.compare),
        seeds=len(params.segment.seeds),
        verdict=comparison["verdict"],
        verdicts=comparison.get("verdicts", {}),
        headline=comparison.get("headline"),
        shown_generator=shown_generator(params, comparison.get("headline")),
        data_summary=data_summary(study, params.data.reader),
        training_lengths=training_lengths(params.segment, params.segmenters),
        confidence=f"{params.compare.confidence:.0%}",
        charts={section: [_shown(one) for one in drawn[section]] for section in drawn},
        classes=pictures.classes(ImageSet.open(paths.real(study)).spec.num_classes),
        curve=comparison["curve"],
        arms=comparison["arms"],
        bench=bench_table.bench_rows(study, params.generators, params.score.extractors, comparison),
        frontier=frontier.shown_rows(study, params.generators, comparison),
        choice=comparison["choice"],
        trend=comparison["trend"],
        generator_seeds=comparison["generator_seeds"],
        exchange=comparison.get("exchange", []),
        learning_curve=comparison.get("learning_curve", []),
        test_sets=sorted({name for arm in comparison["arms"] for name in arm["test_sets"]}),
        segmenters=segmenter_comparison.rows_by_metric(params.compare.segmenters, comparison.get("segmenters", ())),
        segmenters_verdict=comparison.get("segmenters_verdict"),
        subgroups=subgroups.rows_by_column(comparison.get("subgroups", ())),
        subgroups_summary=subgroups.summary(comparison.get("subgroups", ())),
        claims=claimed_and_measured.claim_tables(scored),
        extra_tables=extra_tables.score_tables(study, params.segmenters),
        judge_dice=read_output(judge).get("dice"),
        cross_fitted=params.judge is not None and params.judge.cross_fit,
        scores=read_scores(study, generators),
        extractor_in_losses=extractor_in_losses(study, params.score.extractors),
        screenings=screening.screenings(study, params.training_sets),
        strips=training_history.strips(study, generators),
        loss_summary=losses.summarize(
            [*losses.read_runs(study, generators), *losses.read_arms(study, params.segmenters)]
        ),
        hashes=identity.hashes(study, generators, params.training_sets, yaml),
        versions=identity.versions(),
        yaml=yaml,
    )


def page_pictures(params: Params, side: int) -> PagePictures:
    """Collect the pictures of the page, each `side` pixels high or less."""
    study, generators, training_set = params.study, list(params.generators), common_training_set(params.compare)
    return PagePictures(
        gallery=gallery.examples(study, generators, params.report.samples, side),
        extremes=gallery.extremes(study, generators, side),
        audits=audit.audits(study, generators, params.audit.pictures, side),
        raters=rater_samples.galleries(study, params.segmenters, training_set, side),
        heatmaps=attention_maps.heatmaps(study, params.segmenters, training_set, side),
        weights=boundary_weights.boundary_weights(study, params.segmenters, side),
    )


def _shown(one: Drawing) -> ShownFigure:
    return ShownFigure(one.caption, Markup(one.inline()), one.key)


def shown_generator(params: Params, headline: Record | None) -> str | None:
    """Return the generator whose images the verdict speaks of, or the first one; None where the study has none."""
    names = headline["training_sets"] if headline else ()
    spoken_of = (params.training_sets[name].generator for name in names if name in params.training_sets)
    return next((name for name in spoken_of if name), next(iter(params.generators), None))


def data_summary(study: str, reader: str) -> str:
    """Return the sizes of the real image set in words."""
    real = ImageSet.open(paths.real(study))
    counts = [f"{len(real.split(name))} {name}" for name in ("train", "val", "test")]
    extent = " x ".join(map(str, real.spec.spatial))
    if real.spec.spacing is not None:
        size = f"{extent} voxels of {' x '.join(f'{side:g}' for side in real.spec.spacing)} mm"
    else:
        size = f"{extent} pixels"
    unlabelled = unlabelled_images(study)
    without_masks = f" The base was pretrained on {unlabelled} images without masks too." if unlabelled else ""
    without_masks += pseudo_label_summary(study)
    return (
        f"Real pairs: {', '.join(counts)}; {size},"
        f" {real.spec.num_classes} classes with background, data read by “{reader}”.{without_masks}"
    )


def pseudo_label_summary(study: str) -> str:
    """Return in words how masks were predicted for the images without masks; nothing where they were not."""
    found = read_record(study)
    if found is None:
        return ""
    again = f", in {found['rounds']} rounds," if found["rounds"] > 1 else ""
    dice = "" if found["val_dice"] is None else f" Their Dice on the validation images is {found['val_dice']:.3f}."
    return (
        f" {found['networks']} trainings of {found['segmenter']} on the real training pairs predicted masks{again}"
        f" (pseudo-labels) for {found['images']} of {found['images'] + found['left_out']} images without masks.{dice}"
    )


def training_lengths(segment: Segment, segmenters: Mapping[str, SegmenterEntry]) -> str:
    """Return in words how long segmenters train."""
    names_by_length: dict[str, list[str]] = {}
    for name, entry in segmenters.items():
        settings = entry_settings(segment, name, entry)
        epochs = f"{settings.epochs} epochs of its training set, so more steps on more images"
        length = f"{settings.max_steps} optimiser steps" if settings.max_steps else epochs
        names_by_length.setdefault(length, []).append(name)
    if len(names_by_length) == 1:
        return next(iter(names_by_length))
    return "; ".join(f"{length} ({', '.join(names)})" for length, names in names_by_length.items())
