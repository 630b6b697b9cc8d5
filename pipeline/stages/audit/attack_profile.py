"""What the membership attacks on one generator cost, counted on the meta device: arithmetic and memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.diffusion.membership import Denoiser
from pipeline.stages.audit.costs import AttackCost
from pipeline.stages.audit.membership import BATCH, score_functions
from pipeline.stages.audit.params import AUTOENCODER, Membership
from pipeline.stages.finetune.blank_batches import META, base_of, blank_latents, blank_pixels
from pipeline.stages.finetune.memory import RESERVE, GeneratorProfiler
from pipeline.stages.finetune.meta_profiler import StorageTracker, forward_operations


def attack_cost(profiler: GeneratorProfiler, scores: Sequence[str], settings: Membership) -> AttackCost:
    """Count what `scores`, scores of the weights, cost for one image. The prompts' text tower is not counted."""
    plain = profiler.params.finetune.model_copy(update={"lora_rank": None, "precision": "fp32"})
    model, size = profiler.build(plain), profiler.params.data.size
    base = base_of(model)
    batch: Any = blank_pixels(size, BATCH) if base is None else blank_latents(base, size, BATCH)
    if base is not None:
        base.embed = lambda prompts, size=None: batch.text
    tracker = StorageTracker()
    with META, tracker:
        denoiser, conditions = forward_operations(lambda: model.denoiser(batch.image, batch.mask, [""] * BATCH))
        _, one_pass = forward_operations(lambda: denoiser.noise(denoiser.clean, denoiser.first))
        _, decoding = forward_operations(denoiser.residual) if AUTOENCODER in scores else (None, 0)
    total = conditions + network_passes(denoiser, scores, settings) * one_pass + decoding
    parts = (model.objective,) if base is None else (base.vae, base.unet, model.objective)
    weights = {id(weight): weight.numel() * weight.element_size() for part in parts for weight in part.parameters()}
    return AttackCost(total / BATCH, float(sum(weights.values()) + tracker.peak + RESERVE))


def network_passes(denoiser: Denoiser, scores: Sequence[str], settings: Membership) -> int:
    """Return how often the network is asked about each image."""
    asked: list[int] = []

    def predict(noisy: Tensor, timestep: int) -> Tensor:
        asked.append(timestep)
        return noisy

    silent = replace(denoiser, predict=predict)
    noises = torch.stack([denoiser.clean[0]] * settings.noises)
    for name in scores:
        if name != AUTOENCODER:
            score_functions(settings, noises)[name](silent)
    return len(asked)
