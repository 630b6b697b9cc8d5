"""The Python API: ten names for scripts and notebooks, on top of the files that a study leaves in its folder.

Paths such as outputs/<study> start at the current folder, as for the commands. Heavy libraries are loaded by the
functions that need them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.data.image_set import ImageSet
from pipeline.metrics.images.frechet import frechet_distance
from pipeline.metrics.segmentation.overlap import dice
from pipeline.metrics.statistics.paired import by_cluster, membership, seed_noise
from pipeline.stages.compare.paired_difference import Evidence, PairedDifference, weigh_evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.verdict import Verdict, conclude
from pipeline.study import Params, load_params

if TYPE_CHECKING:
    from pipeline.core.contracts import Generator, Segmenter, TrainingFreeGenerator
    from pipeline.metrics.images.score import ScoreResult

__all__ = [
    "compare_scores",
    "dice",
    "draw_images",
    "frechet_distance",
    "load_generator",
    "load_segmenter",
    "load_study",
    "open_images",
    "predict_folder",
    "score_images",
]


def load_study(path: str | Path = "params.yaml") -> Params:
    """Read and check the parameters of a study.

    Returns the parameters as a frozen object whose attributes have the names of the keys. Raises UserError, which
    names every fault by its dotted path.

    >>> study = load_study("params.yaml")
    >>> study.study, study.data.size, list(study.generators)
    ('toy', 32, ['siamese'])
    """
    return load_params(Path(path))


def open_images(folder: str | Path) -> ImageSet:
    """Open a set of images and masks that a stage has published.

    An image set behaves like a sequence of rows. `split(name)` selects one split, `image(row)` returns the pixels
    [C, H, W] as uint8 and `mask(row)` the labels [H, W] as uint8. Raises UserError if the folder holds no finished
    set, or if a file is not the one that was published.

    >>> real = open_images("outputs/toy/real")
    >>> train = real.split("train")
    >>> row = train.rows[0]
    >>> len(train), train.image(row).shape, train.mask(row).shape
    (8, (3, 32, 32), (32, 32))
    """
    return ImageSet.open(Path(folder))


def load_generator(study: Params, name: str) -> "Generator | TrainingFreeGenerator":
    """Load the trained generator of an entry of a study, from the outputs of the stages base and finetune.

    The weights are put on the GPU if there is one. Raises UserError if the study has no such entry, if the entry brings
    images of another program (method `folder`), or if its stages have not run.

    >>> generator = load_generator(load_study("params.yaml"), "siamese")
    """
    from pipeline.core import files, paths
    from pipeline.core.contracts import ImportedImages, TrainingFreeGenerator
    from pipeline.core.errors import UserError
    from pipeline.core.runtime import Runtime
    from pipeline.data.limited import training_pairs
    from pipeline.stages.finetune.generator import build
    from pipeline.stages.finetune.params import OUTSIDE

    if name not in study.generators:
        raise UserError(f"there is no generator {name!r}; the available ones are: {', '.join(study.generators)}")
    if study.generators[name].method_of(name) in OUTSIDE:
        raise UserError(f"generators.{name} brings images of another program and draws none; choose a trained entry")
    folder, real, runtime = paths.generator(study.study, name), ImageSet.open(paths.real(study.study)), Runtime.alone()
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; run dvc repro finetune@{name}")
    files.check(folder)
    generator = build(study.study, study.seed, name, study.generators[name], real.spec, runtime)
    assert not isinstance(generator, ImportedImages)  # refused above
    generator.load(folder)
    if isinstance(generator, TrainingFreeGenerator):
        where = f"generators.{name}"
        generator.set_training_pairs(training_pairs(real, study.generators[name].pair_limit, study.seed, where))
    else:
        generator.objective.to(runtime.device)
    return generator


def draw_images(
    generator: "Generator | TrainingFreeGenerator",
    masks: NDArray[np.uint8],
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 50,
    guidance_scale: float = 9.0,
    eta: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw one image for each mask.

    `masks` are label maps [B, H, W] at the size of the study, and `prompts` are B texts. The noise of image k depends
    only on `seed` and k. `steps`, `guidance_scale` and `eta` are those of DDIM; the defaults are the paper's. Returns
    pixels [B, 3, H, W] as uint8.

    >>> generator = load_generator(load_study("params.yaml"), "siamese")
    >>> train = open_images("outputs/toy/real").split("train")
    >>> masks = np.stack([train.mask(row) for row in train.rows[:2]])
    >>> images = draw_images(generator, masks, ["A photo of a blob."] * 2, steps=2, guidance_scale=1.0)
    >>> images.shape, images.dtype
    ((2, 3, 32, 32), dtype('uint8'))
    """
    import torch

    from pipeline.core import seeding
    from pipeline.core.contracts import Sampling

    rngs = [seeding.torch_rng(seed, "api", number) for number in range(len(masks))]
    drawn = generator.sample(torch.from_numpy(masks), list(prompts), rngs, Sampling(steps, guidance_scale, eta=eta))
    return (drawn * 255).round().clamp(0, 255).byte().cpu().numpy()


def score_images(
    real: ImageSet,
    synthetic: ImageSet,
    metrics: Sequence[str] = ("frechet", "kernel", "prdc"),
    extractors: Sequence[str] = ("efficientnet_lite0",),
    *,
    seed: int = 0,
) -> "list[ScoreResult]":
    """Score a synthetic image set against the training and test images of a real one.

    `metrics` and `extractors` are the values of `score.metrics` and `score.extractors`; metrics that need a judge or
    ratings are not available here. Each result has `name`, `variant` ("train" or "heldout"), `value`, a 95 % interval
    (`low`, `high`) and, if the value is None, the `reason`. Features are kept below work/features. Raises UserError if
    the two sets do not belong together.

    >>> real, synthetic = open_images("outputs/toy/real"), open_images("outputs/toy/synthetic/siamese")
    >>> scores = score_images(real, synthetic, ["frechet"], ["gradient_histograms"])
    >>> [(score.name, score.variant, score.n) for score in scores][:2]
    [('frechet.gradient_histograms', 'train', 8), ('frechet.gradient_histograms', 'train_half', 4)]
    """
    from pipeline.core.runtime import Runtime
    from pipeline.evaluation.feature_cache import open_cache
    from pipeline.evaluation.image_set_scores import score_set
    from pipeline.stages.score.params import Score

    settings = Score(metrics=tuple(metrics), extractors=tuple(extractors))
    return score_set(real, synthetic, open_cache(settings, seed, "", None, Runtime.alone()))


@dataclass(frozen=True)
class ScoreComparison:
    """The difference of two tables of scores, with its p-values, and the verdict on it."""

    evidence: Evidence
    verdict: Verdict
    reason: str | None  # why there can be no verdict


def compare_scores(
    scores: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    groups: Sequence[str] | None = None,
    margin: float = 0.01,
    confidence: float = 0.95,
    seed: int = 0,
) -> ScoreComparison:
    """Compare the scores of two training sets as a study does, for one comparison without correction.

    Both tables are [seeds, images], with the same seeds and test images in the same order, and more is better. `groups`
    names the patient or sequence of each image. `margin` is the difference below which the two count as equivalent.
    The interval holds for new seeds and new images. See docs/statistics.md for the method.

    >>> rng = np.random.default_rng(0)
    >>> reference = rng.normal(0.80, 0.10, (5, 200))
    >>> found = compare_scores(reference + rng.normal(0.03, 0.05, (5, 200)), reference)
    >>> print(found.verdict, round(found.evidence.difference, 3))
    better 0.03
    """
    from pipeline.core.errors import UserError

    one, other = np.asarray(scores, np.float64), np.asarray(reference, np.float64)
    if one.ndim != 2 or one.shape != other.shape or not np.isfinite(one - other).all():
        raise UserError(
            f"scores and reference must be finite tables [seeds, images] of one shape, found {list(one.shape)} and"
            f" {list(other.shape)}; leave out images that one of them has no score of"
        )
    if groups is not None and len(groups) != one.shape[1]:
        raise UserError(
            f"groups names {len(groups)} images, but the tables have {one.shape[1]}; give one name for each"
        )
    images, compare = one - other, Compare(margin=margin, confidence=confidence)
    units = images if groups is None else by_cluster(images, groups)
    sums = images.mean(0) if groups is None else images.mean(0) @ membership(tuple(groups))
    difference = PairedDifference(images, units, sums, float(units.mean()), seed_noise([units]))
    evidence = weigh_evidence(difference, compare, margin, seed)
    conclusion = conclude([evidence], compare)[0]
    return ScoreComparison(evidence, conclusion.verdict, conclusion.reason)


def load_segmenter(folder: str | Path) -> "Segmenter":
    """Load a segmenter that a study has kept (`segment.keep`).

    `segmenter.predict(images)` takes a tensor [B, C, H, W] in [0, 1] and returns class probabilities [B, S, K, H, W] of
    S samples. Raises UserError if the folder holds no kept segmenter.

    >>> import torch
    >>> segmenter = load_segmenter("outputs/toy/segmentation/unet/kept/real/seed_0")
    >>> tuple(segmenter.predict(torch.zeros(1, 3, 32, 32)).shape)
    (1, 1, 2, 32, 32)
    """
    from pipeline.segmentation.saved_model import load_model

    return load_model(Path(folder))[0]


def predict_folder(segmenter: str | Path, images: str | Path, target: str | Path) -> int:
    """Write masks and overlays of all pictures or volumes in a folder, and return their number.

    `segmenter` is the folder of a kept segmenter. `target` receives masks/ (labels 0 ... K-1 at the size of each image)
    and overlays/. Raises UserError; images that cannot be read are named after the others are done.

    >>> predict_folder("outputs/toy/segmentation/unet/kept/real/seed_0", "outputs/toy/real/images", "predicted")
    15
    """
    from pipeline.deploy import prediction

    return prediction.predict_folder(Path(segmenter), Path(images), Path(target))
