"""The computation of every stage of a study, in steps and floating-point operations, counted without weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.cli import counts
from pipeline.cli.counts import GeneratorCounts
from pipeline.cli.plan import (
    attacked_images,
    confirmations,
    fresh_seeds,
    image_count,
    set_size,
    unlabelled_images,
    weight_sources,
)
from pipeline.segmentation.params import Segment, entry_settings
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.judge.params import FOLDS, Judge
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params

MEAN_TEACHER = 7 / 3  # operations of a step with as many unlabelled images: theirs, and a forward pass of the teacher
PRIVATE = 1.6  # time of a private step of fine-tuning in that of a plain one, measured on phantoms (docs/privacy.md)


@dataclass(frozen=True)
class StageWork:
    """The computation of one entry of one stage."""

    stage: str
    entry: str
    steps: int | None  # optimiser steps of all its trainings; of generate, audit: images; None: known with the data
    operations: float | None  # floating-point operations, 2 per multiplication with addition; None: not counted


def stage_work(params: Params, costs: Mapping[str, Cost | None], pairs: int | None) -> Iterator[StageWork]:
    """Yield every stage's work in the order of the graph."""
    yield from _base(params.base, params.data.size)
    settings, sources = params.finetune, weight_sources(params.generators)
    for name, cost in costs.items():
        if cost is not None and sources[name] == name:
            slower = 1 if params.generators[name].settings(settings).privacy is None else PRIVATE
            total = slower * cost.mean * settings.max_steps * settings.global_batch
            yield StageWork("finetune", name, settings.max_steps, total)
    masks = counts.mask_operations(params.generators, params.data.num_classes)
    unlabelled = unlabelled_images(params.data)
    for name, entry in params.generators.items():
        images = image_count(entry, pairs, unlabelled)
        each = GeneratorCounts(params, name).image_operations() if entry.learns(name) else 0.0
        training, drawing = masks[name]
        yield StageWork("generate", name, images, None if images is None else images * (each + drawing) + training)
    for name, attack in counts.attacks(GeneratorCounts(params, name) for name in params.generators).items():
        images = attacked_images(params.generators[name], params.data, pairs)
        yield StageWork("audit", name, images, _product(attack.operations, images, 1))
    yield from _segmenters(params, pairs)


def _base(base: Base | None, size: int) -> Iterator[StageWork]:
    if base is None or base.source != "scratch" or not base.autoencoder or not base.denoiser:
        return
    autoencoder, denoiser = counts.autoencoder_operations(base), counts.denoiser_operations(base, size)
    for name, part, each in (("autoencoder", base.autoencoder, autoencoder), ("denoiser", base.denoiser, denoiser)):
        yield StageWork("base", name, part.max_steps, each * part.max_steps * part.batch_size)
    if base.decoder is not None:
        yield StageWork("base", "decoder", base.decoder.max_steps, counts.decoder_operations(base, size))


def _segmenters(params: Params, pairs: int | None) -> Iterator[StageWork]:
    """Yield the work of judge, pseudo_labels, segment and confirm; of confirm that on the arm with the most work."""
    unlabelled = unlabelled_images(params.data)
    sizes = {name: set_size(one, params.generators, pairs, unlabelled) for name, one in params.training_sets.items()}
    possible: list[StageWork] = []
    for name, entry in params.segmenters.items():
        settings = entry_settings(params.segment, name, entry)
        each = counts.segmenter_operations(name, entry, counts.dataset_spec(params.study, params.data))
        if params.judge is not None and name == params.judge.segmenter:
            steps = _judge_steps(params.judge, settings, pairs)
            yield StageWork("judge", name, steps, _product(each, steps, settings.batch_size))
        if params.pseudo_labels is not None and name == params.pseudo_labels.segmenter:
            one = params.pseudo_labels.max_steps or _steps(settings, pairs)
            steps = one and params.pseudo_labels.rounds * params.pseudo_labels.networks * one
            yield StageWork("pseudo_labels", name, steps, _product(each, steps, settings.batch_size))
        cells = [(params.training_sets[one], size) for one, size in sizes.items()]
        yield _cells_work("segment", name, each, settings, cells, len(settings.seeds))
        for names in confirmations(params):
            cells = [(params.training_sets[one], sizes[one]) for one in names]
            possible.append(_cells_work("confirm", name, each, settings, cells, fresh_seeds(params)))
    if possible:
        yield max(possible, key=lambda work: (work.operations or 0, work.steps or 0))


def _cells_work(
    stage: str,
    name: str,
    each: float | None,
    settings: Segment,
    cells: Sequence[tuple[TrainingSet, int | None]],
    seeds: int,
) -> StageWork:
    """Return the work on training sets of these sizes with every seed; None where a size is unknown and matters."""
    total, weighted = 0, 0.0
    for arm, size in cells:
        steps = _steps(settings, size)
        if steps is None:
            return StageWork(stage, name, None, None)
        total += arm.total_steps(steps)
        weighted += arm.total_steps(steps) * (MEAN_TEACHER if arm.unlabelled == "mean_teacher" else 1)
    operations = None if each is None else each * seeds * weighted * settings.batch_size
    return StageWork(stage, name, seeds * total, operations)


def _judge_steps(judge: Judge, settings: Segment, pairs: int | None) -> int | None:
    """Return the optimiser steps of the judge, or of both judges on half of the pairs each."""
    count, learnt = (FOLDS, pairs and -(-pairs // FOLDS)) if judge.cross_fit else (1, pairs)
    steps = judge.max_steps or _steps(settings, learnt)
    return steps and count * steps


def _steps(settings: Segment, size: int | None) -> int | None:
    """Return the optimiser steps on a training set of this size; None where it is unknown and matters."""
    return settings.max_steps or (settings.steps(size) if size else None)


def _product(each: float | None, steps: int | None, batch: int) -> float | None:
    return None if each is None or steps is None else each * steps * batch
