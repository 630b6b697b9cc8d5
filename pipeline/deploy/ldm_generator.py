"""Import and export of generators in the single-file layout of the authors of Siamese-Diffusion and ADC.

ADC's files hold the teacher beside the student. The student alone draws images, so it alone is read and written.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import families, ldm_base, ldm_control, ldm_keys, ldm_shape, weight_file
from pipeline.networks.stable_diffusion.ldm_base import Part
from pipeline.networks.stable_diffusion.ldm_keys import Table
from pipeline.networks.stable_diffusion.sd15 import PartConfigs

METHODS = {"dense": "siamese", "sparse": "controlnet"}
# Of ADC: the ControlNet that sees the image, and the decoder that goes with it.
TEACHER = ("image_control_model.", "model.diffusion_model.image_output_blocks.", "model.diffusion_model.image_out.")
DECODER = ("up_blocks.", "conv_norm_out.", "conv_out.")  # the trained half of the U-Net
logger = logging.getLogger(__name__)


def import_checkpoint(path: Path, base: Path, generator: Path, configs: PartConfigs | None = None) -> None:
    """Write a checkpoint of the authors' layout as a base and a generator folder, manifests last.

    The checkpoint holds one U-Net with a trained decoder, which becomes the base's decoder too. `configs` are those of
    the parts (default: SD 1.5). Raises UserError where the file is damaged or holds something else.
    """
    configs = configs or PartConfigs()
    everything = weight_file.shapes(path)
    shapes = {ldm_base.inner(key): shape for key, shape in everything.items() if not key.startswith(TEACHER)}
    hint = ldm_control.hint_input_of(shapes)
    network = ldm_control.empty_controlnet(configs, hint)
    table = ldm_keys.controlnet(network.state_dict(), configs.unet)
    models = ldm_base.empty_parts(configs)
    tables = ldm_base.base_tables(models, configs)
    _check(path, shapes, ldm_base.expected_shapes(models, tables), ldm_base.shapes_of(network, table))
    tensors = weight_file.read(path, lambda key: not key.startswith(TEACHER))
    state = {ldm_base.inner(key): value for key, value in tensors.items()}
    _check_schedule(path, state)
    _warn_unused(path, state.keys() - ldm_control.buffers(1).keys(), tables, table)
    state = weight_file.float32(state)
    ldm_base.write_folder(state, models, tables, base)
    network.save_config(generator / "controlnet")
    weight_file.write({name: state[ldm_name] for name, ldm_name in table.items()}, generator / "controlnet.safetensors")
    decoder = {name: state[ldm_name] for name, ldm_name in tables["unet"].items() if name.startswith(DECODER)}
    weight_file.write(decoder, generator / "decoder.safetensors")
    _write_manifests(path, base, generator, METHODS[hint] if len(shapes) == len(everything) else "adc")


def export_checkpoint(base: Path, generator: Path, path: Path) -> None:
    """Write a base and a generator as one checkpoint of the authors' layout; .safetensors, .ckpt or .pth by suffix.

    Raises UserError where a folder lacks a file or the generator does not fit the base.
    """
    configs = _read_configs(base)
    control = weight_file.read(_published_file(generator / "controlnet.safetensors", "finetune"))
    decoder = weight_file.read(_published_file(generator / "decoder.safetensors", "finetune"))
    hint = "dense" if any(name.startswith("controlnet_cond_embedding.layers.") for name in control) else "sparse"
    _check_shapes(generator, control, ldm_control.empty_controlnet(configs, hint).state_dict())
    trained = weight_file.shapes(base / "unet" / ldm_base.FILES["unet"])
    _check_shapes(generator, decoder, {name: trained[name] for name in trained if name.startswith(DECODER)})
    state = ldm_base.read_folder(base, configs) | ldm_base.to_ldm(decoder, ldm_keys.unet(decoder, configs.unet))
    state |= ldm_base.to_ldm(control, ldm_keys.controlnet(control, configs.unet))
    state |= ldm_control.buffers(configs.text["max_position_embeddings"])
    weight_file.write(weight_file.float32(state), path)


def _check(path: Path, shapes: weight_file.Shapes, base: weight_file.Shapes, control: weight_file.Shapes) -> None:
    if not any(key.startswith(ldm_keys.CONTROL) for key in shapes):
        raise UserError(
            f"{path} holds no ControlNet (no key starts with {ldm_keys.CONTROL!r}); a base is not a generator"
        )
    ldm_shape.check(path, shapes, base | control)


def _check_schedule(path: Path, state: dict[str, Tensor]) -> None:
    expected = ldm_control.buffers(1)["alphas_cumprod"]
    found = state.get("alphas_cumprod", expected).float()
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=1e-5):
        raise UserError(f"{path} was trained with another noise schedule than Stable Diffusion 1.5 (alphas_cumprod)")


def _warn_unused(path: Path, keys: set[str], tables: dict[Part, Table], control: Table) -> None:
    """Warn of keys of the file that are not used."""
    used = {key for table in (*tables.values(), control) for key in table.values()}
    unused = sorted(key for key in keys - used - {ldm_keys.POSITIONS})
    if unused:
        logger.warning("%s: %d keys are not taken: %s", path.name, len(unused), ", ".join(unused[:3]))


def _write_manifests(path: Path, base: Path, generator: Path, method: str) -> None:
    about = {"source": path.name, "file_sha256": files.sha256(path)}
    mark = files.fingerprint(about["file_sha256"])
    files.write_json(base / "manifest.json", {**about, "fingerprint": mark, "kind": "file", "unet_from": "trained"})
    files.write_json(generator / "manifest.json", {**about, "fingerprint": mark, "method": method})


def _read_configs(base: Path) -> PartConfigs:
    for part, name in ldm_base.FILES.items():
        _published_file(base / part / "config.json", "base")
        _published_file(base / part / name, "base")
    family = families.family_of_unet(files.read_json(base / "unet" / "config.json"))
    if family != families.SD1:
        raise UserError(
            f"{base} is of the family {family}, but the layout of the authors holds Stable Diffusion 1.5 only; export a"
            " diffusers folder instead: twinsynth export generator"
        )
    return ldm_base.read_configs(base)


def _published_file(path: Path, stage: str) -> Path:
    if not path.is_file():
        raise UserError(f"{path} does not exist; name the folder that stage {stage} published")
    return path


def _check_shapes(generator: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Any]) -> None:
    """Compare a generator's weights with what the base needs: tensors or shapes by their diffusers names."""
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    needed = {name: tuple(getattr(value, "shape", value)) for name, value in expected.items()}
    if faults := sorted(name for name in shapes.keys() | needed.keys() if shapes.get(name) != needed.get(name)):
        raise UserError(f"{generator} does not fit this base: {len(faults)} weights differ, for example {faults[0]}")
