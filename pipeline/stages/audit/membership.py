"""Membership inference: can it be told which images a generator was trained on, from its weights or from its images?

Each score is an attack of its own. Scores of the weights show the network each image under its own mask and prompt;
`released` sees the synthetic images alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.core import files, paths, seeding
from pipeline.core.contracts import Denoises, Generator
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet, Row
from pipeline.diffusion import membership
from pipeline.diffusion.membership import Denoiser
from pipeline.diffusion.schedule import noise_of
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.metrics.images import copies
from pipeline.metrics.statistics.membership import Attack, evaluate
from pipeline.metrics.statistics.resampling import Array
from pipeline.stages.audit.attacked import Attacked, nearest_share
from pipeline.stages.audit.copy_search import HASHES, PIXELS
from pipeline.stages.audit.params import AUTOENCODER, RELEASED, Membership
from pipeline.stages.finetune.generator import build
from pipeline.stages.finetune.params import GeneratorEntry

BATCH = 32  # images that the network sees at once
Sides = tuple[Array, Array]  # scores of members, scores of controls


@dataclass(frozen=True)
class Inference:
    """The attacks on one generator."""

    attacked: Attacked
    scores: Mapping[str, Sides]
    attacks: Mapping[str, Attack]
    absent: Mapping[str, str]  # scores that cannot be computed, with the reason


@dataclass(frozen=True)
class Trained:
    """A generator of a study, to be loaded where a score needs its weights."""

    study: str
    seed: int
    name: str
    entry: GeneratorEntry
    runtime: Runtime

    def missing(self, score: str) -> str | None:
        """Return why a score of the weights cannot be computed; None where it can."""
        method = self.entry.method_of(self.name)
        if not self.entry.learns(self.name):
            return f"{method} has no trained weights"
        if score == AUTOENCODER and not self.entry.uses_base(self.name):
            return f"{method} works on pixels, without an autoencoder"
        return None

    def load(self, images: ImageSet) -> Denoises:
        """Return the trained generator. Raises UserError where its folder is damaged or does not fit the study."""
        model = build(self.study, self.seed, self.name, self.entry, images.spec, self.runtime)
        folder = paths.generator(self.study, self.name)
        files.check(folder)
        model.load(folder)
        assert isinstance(model, Generator) and isinstance(model, Denoises)  # as all trained ones are
        model.objective.to(self.runtime.device)
        return model


def infer(
    attacked: Attacked, synthetic: ImageSet, cache: FeatureCache, settings: Membership, trained: Trained
) -> Inference:
    """Try every attack of the settings on members and controls."""
    absent = {name: reason for name in settings.of_weights if (reason := trained.missing(name))}
    usable = [name for name in settings.of_weights if name not in absent]
    scores: dict[str, Sides] = {}
    if usable:
        model = trained.load(attacked.members)
        members, controls = (weight_scores(model, images, usable, settings, trained.seed) for images in attacked.sets)
        scores = {name: (members[name], controls[name]) for name in usable}
    if RELEASED in settings.scores:
        scores[RELEASED] = released_scores(attacked, synthetic, cache)
    for name in [name for name, sides in scores.items() if not np.isfinite(np.concatenate(sides)).all()]:
        del scores[name]
        absent[name] = "some scores are not finite numbers; the training of the generator may have diverged"
    attacks = {
        name: evaluate(*attacked.sides(sides), settings.bootstrap, seeding.numpy_rng(trained.seed, "attack", name))
        for name, sides in scores.items()
    }
    return Inference(attacked, scores, attacks, absent)


def weight_scores(
    model: Denoises, images: ImageSet, names: Sequence[str], settings: Membership, seed: int
) -> dict[str, Array]:
    """Return the scores [n] of images by name, each image under its own mask and prompt."""
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    windows = [images.rows[start : start + BATCH] for start in range(0, len(images), BATCH)]
    for rows in track(windows, "attack", len(windows)):
        denoiser = _denoiser(model, images, rows)
        noises = _noises(denoiser, settings.noises, seed)
        for name in names:
            parts[name].append(score_functions(settings, noises)[name](denoiser).cpu())
    return {name: torch.cat(part).numpy() for name, part in parts.items()}


def score_functions(settings: Membership, noises: Tensor) -> dict[str, Callable[[Denoiser], Tensor]]:
    """Return the scores of the weights by name; `noises` are those of `loss` [N, C, h, w]."""
    return {
        "loss": lambda denoiser: membership.loss(denoiser, noises, settings.timesteps),
        "pia": lambda denoiser: membership.pia(denoiser, settings.timesteps),
        "pian": lambda denoiser: membership.pia(denoiser, settings.timesteps, normalised=True),
        "secmi": membership.secmi,
        AUTOENCODER: membership.autoencoder,
    }


def _denoiser(model: Denoises, images: ImageSet, rows: Sequence[Row]) -> Denoiser:
    pictures = torch.from_numpy(np.stack([images.picture(row) for row in rows])).float() / 255
    masks = torch.from_numpy(np.stack([images.mask(row) for row in rows])).long()
    return model.denoiser(pictures, masks, [row["prompt"] for row in rows])


def _noises(denoiser: Denoiser, count: int, seed: int) -> Tensor:
    """Return [N, C, h, w], the same for every image and every generator of a study."""
    rngs = [seeding.torch_rng(seed, "membership", number) for number in range(count)]
    return noise_of(rngs, tuple(denoiser.clean.shape[1:])).to(denoiser.clean)


def released_scores(attacked: Attacked, synthetic: ImageSet, cache: FeatureCache) -> Sides:
    """Return minus the distance to the nearest synthetic image, as a mean over the spaces of the audit."""
    spaces = []
    for name in cache.probes:
        if name == HASHES:
            continue
        made = cache.features(synthetic, name)
        rows = [cache.features(images, name) for images in attacked.sets]
        if name == PIXELS:
            members, controls = (copies.nearest_pixels(one, made) for one in rows)
        else:
            members, controls = (copies.nearest_features(one, made, neighbours=1) for one in rows)
        spaces.append((members.distance, controls.distance))
    return nearest_share(spaces)
