"""Generators in the one-file layout of Siamese-Diffusion's authors: in to our folders, and out again."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import ldm_base, ldm_control, ldm_keys, ldm_shape, weight_file
from pipeline.networks.stable_diffusion.ldm_base import Part
from pipeline.networks.stable_diffusion.ldm_keys import Table
from pipeline.networks.stable_diffusion.sd15 import Layout

METHODS = {"dense": "siamese", "sparse": "controlnet"}
DECODER = ("up_blocks.", "conv_norm_out.", "conv_out.")  # the trained half of the U-Net
logger = logging.getLogger(__name__)


def import_checkpoint(path: Path, base: Path, generator: Path, layout: Layout | None = None) -> None:
    """Writes a checkpoint of the authors' layout as a base and a generator folder, manifests last.

    The checkpoint holds one U-Net, whose decoder is trained: the base's decoder is that one too. `layout` holds the
    sizes of the parts (default: SD 1.5). Raises UserError where the file is damaged or holds something else.
    """
    layout = layout or Layout()
    found = {ldm_base.inner(key): shape for key, shape in weight_file.shapes(path).items()}
    hint = ldm_control.hint_of(found)
    network = ldm_control.empty(layout, hint)
    table = ldm_keys.controlnet(network.state_dict(), layout.unet)
    models = ldm_base.empty(layout)
    tables = ldm_base.base_tables(models, layout)
    _check(path, found, ldm_base.wanted(models, tables), ldm_base.shapes_of(network, table))
    state = {ldm_base.inner(key): value for key, value in weight_file.read(path).items()}
    _check_schedule(path, state)
    _tell_left(path, state.keys() - ldm_control.buffers(1).keys(), tables, table)
    state = weight_file.float32(state)
    ldm_base.write_folder(state, models, tables, base)
    network.save_config(generator / "controlnet")
    weight_file.write({ours: state[theirs] for ours, theirs in table.items()}, generator / "controlnet.safetensors")
    decoder = {ours: state[theirs] for ours, theirs in tables["unet"].items() if ours.startswith(DECODER)}
    weight_file.write(decoder, generator / "decoder.safetensors")
    _write_manifests(path, base, generator, METHODS[hint])


def export_checkpoint(base: Path, generator: Path, path: Path) -> None:
    """Writes a base and a generator as one checkpoint of the authors' layout; .safetensors, .ckpt or .pth by suffix.

    Raises UserError where a folder lacks a file or the generator does not fit the base.
    """
    layout = _layout(base)
    control = weight_file.read(_there(generator / "controlnet.safetensors", "finetune"))
    decoder = weight_file.read(_there(generator / "decoder.safetensors", "finetune"))
    hint = "dense" if any(ours.startswith("controlnet_cond_embedding.layers.") for ours in control) else "sparse"
    _check_fits(generator, control, ldm_control.empty(layout, hint).state_dict())
    trained = weight_file.shapes(base / "unet" / ldm_base.FILES["unet"])
    _check_fits(generator, decoder, {ours: trained[ours] for ours in trained if ours.startswith(DECODER)})
    state = ldm_base.read_folder(base, layout) | ldm_base.renamed(decoder, ldm_keys.unet(decoder, layout.unet))
    state |= ldm_base.renamed(control, ldm_keys.controlnet(control, layout.unet))
    state |= ldm_control.buffers(layout.text["max_position_embeddings"])
    weight_file.write(weight_file.float32(state), path)


def _check(path: Path, found: weight_file.Shapes, base: weight_file.Shapes, control: weight_file.Shapes) -> None:
    if not any(key.startswith(ldm_keys.CONTROL) for key in found):
        raise UserError(f"{path} holds no ControlNet (no key starts with {ldm_keys.CONTROL!r}); a base is no generator")
    ldm_shape.check(path, found, base | control)


def _check_schedule(path: Path, state: dict[str, Tensor]) -> None:
    ours = ldm_control.buffers(1)["alphas_cumprod"]
    theirs = state.get("alphas_cumprod", ours).float()
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=0, atol=1e-5):
        raise UserError(f"{path} was trained with another noise schedule than Stable Diffusion 1.5 (alphas_cumprod)")


def _tell_left(path: Path, keys: set[str], tables: dict[Part, Table], control: Table) -> None:
    """Says which keys of the file go nowhere."""
    taken = {key for table in (*tables.values(), control) for key in table.values()}
    left = sorted(key for key in keys - taken - {ldm_keys.POSITIONS})
    if left:
        logger.warning("%s: %d keys are not taken: %s", path.name, len(left), ", ".join(left[:3]))


def _write_manifests(path: Path, base: Path, generator: Path, method: str) -> None:
    about = {"source": path.name, "file_sha256": files.sha256(path)}
    mark = files.fingerprint(about["file_sha256"])
    files.write_json(base / "manifest.json", {**about, "fingerprint": mark, "kind": "file", "unet_from": "trained"})
    files.write_json(generator / "manifest.json", {**about, "fingerprint": mark, "method": method})


def _layout(base: Path) -> Layout:
    for part, name in ldm_base.FILES.items():
        _there(base / part / "config.json", "base")
        _there(base / part / name, "base")
    return ldm_base.layout_of(base)


def _there(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise UserError(f"{path} does not exist; name the folder that stage {stage} published")
    return path


def _check_fits(generator: Path, found: dict[str, Tensor], wanted: Mapping[str, Any]) -> None:
    """Compares a generator's weights with what the base asks for: tensors or shapes by our names."""
    shapes = {ours: tuple(getattr(value, "shape", value)) for ours, value in wanted.items()}
    if faults := sorted(ours for ours in found.keys() | shapes.keys() if _shape(found, ours) != shapes.get(ours)):
        raise UserError(f"{generator} does not fit this base: {len(faults)} weights differ, as {faults[0]}")


def _shape(found: dict[str, Tensor], ours: str) -> tuple[int, ...] | None:
    return tuple(found[ours].shape) if ours in found else None
