"""The trained model of masks, kept in `work` by everything that it depends on: made once, by one process at a time."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core import files, locks, paths, seeding
from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks import _learnt_network as network
from pipeline.methods.masks import random
from pipeline.methods.masks._learnt_fields import fields_of, flags_of, hints_of
from pipeline.methods.masks._learnt_params import Params
from pipeline.methods.masks._learnt_regions import Nesting, shapes_of, spread_rows

log = logging.getLogger(__name__)
VERSION = 1  # raised when results change
FEWEST, MOST = 1000, 4000  # varied training masks that are learnt
CHANGES = {"scale": (0.85, 1.2), "rotate": 30.0, "shift": 0.08}  # of the training masks, at most
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class MaskModel:
    """A trained model of the masks of one training set."""

    network: network.MaskDenoiser
    digest: str  # of the weights


def mask_model(params: Params, train: ImageSet, nesting: Nesting, seed: str) -> MaskModel:
    """Return the model of a training set, trained at the first call; a damaged or half-written one is trained again."""
    learning = params.model_dump(include={"steps", "width", "grid", "flips"})
    masks = [row["mask_sha256"] for row in train]
    key = files.fingerprint(VERSION, learning, masks, train.spec.num_classes, seed, torch.get_num_threads())
    folder = paths.work("masks", key)
    model = _network(params, nesting, seed)
    with locks.wait_for(folder.name):
        if not files.is_intact(folder):
            _train(model, params, train, nesting, seed)
            _keep(model, folder)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return MaskModel(model.eval(), files.sha256(folder / WEIGHTS)[:16])


def _network(params: Params, nesting: Nesting, seed: str) -> network.MaskDenoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.number(seed, "learnt", "weights"))
        return network.MaskDenoiser(len(nesting.labels), params.width)


def _train(model: network.MaskDenoiser, params: Params, train: ImageSet, nesting: Nesting, seed: str) -> None:
    started = time.monotonic()
    network.train(model, *varied_masks(params, train, nesting, seed), params.steps, f"{seed}/learnt")
    log.info("learnt the masks of %s training images in %.0f s", len(train), time.monotonic() - started)


def _keep(model: network.MaskDenoiser, folder: Path) -> None:
    with files.writing_to(folder):
        with files.replacing(folder / WEIGHTS) as temporary:
            save_file(model.state_dict(), temporary)
        files.seal(folder)


def varied_masks(params: Params, train: ImageSet, nesting: Nesting, seed: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances and ellipses [N, L, G, G] and flags [N, 4 L] of training masks moved as `random` moves them.

    What is asked for is measured after the move, so the changes do not show in what is drawn.
    """
    chosen = train.select(train.rows[row] for row in spread_rows(len(train), MOST))
    changes = random.Params(flip_vertical=params.flips, flip_horizontal=params.flips, **CHANGES)  # type: ignore[arg-type]
    varied = random.build(changes, chosen, max(FEWEST, len(chosen)), f"{seed}/learnt")
    rows = []
    for mask in track(varied, "vary masks", len(varied)):
        shapes = shapes_of(mask.pixels, nesting)
        if shapes:
            field, hint = fields_of(mask.pixels, nesting, params.grid), hints_of(shapes, nesting, params.grid)
            rows.append((field, hint, flags_of(shapes, nesting)))
    fields, hints, flags = (torch.from_numpy(np.array(part, np.float32)) for part in zip(*rows, strict=True))
    return fields, hints, flags
