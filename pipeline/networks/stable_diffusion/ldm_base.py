"""A base between its two layouts: one file in LDM layout, and a diffusers folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import ldm_keys, ldm_shape, sd15, weight_file
from pipeline.networks.stable_diffusion.ldm_keys import Table
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, index_path
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.networks.stable_diffusion.weight_file import Shapes
from pipeline.stages.base.params import Weights

Part = Literal["unet", "vae", "text_encoder"]
FILES: dict[Part, str] = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
BARE_TEXT = "cond_stage_model.transformer."  # some files leave out the text tower's inner prefix


def unpack(path: Path, weights: Weights, folder: Path, configs: PartConfigs) -> str:
    """Write a file in LDM layout as a diffusers folder; return the prefix of the U-Net's keys that were taken.

    Raises UserError where the file is damaged, not SD 1.5-shaped, or does not say whether its weights are EMA.
    """
    shapes = {inner(key): shape for key, shape in weight_file.shapes(path).items()}
    models = empty_parts(configs)
    tables = base_tables(models, configs)
    ldm_shape.check(path, shapes, expected_shapes(models, tables))
    prefix = _unet_prefix(path, weights, any(key.startswith(ldm_keys.EMA) for key in shapes))
    tensors = weight_file.read(path, lambda key: key.startswith((prefix, ldm_keys.VAE, BARE_TEXT)))
    state = {inner(key): value for key, value in tensors.items()}
    if prefix == ldm_keys.EMA:
        state |= {key: state[ldm_keys.ema(key)] for key in tables["unet"].values()}
    write_folder(weight_file.float32(state), models, tables, folder)
    return prefix


def inner(key: str) -> str:
    """Return a key with the inner prefix of the text tower, whether the file has it or not."""
    if key.startswith(BARE_TEXT) and not key.startswith(ldm_keys.TEXT):
        return ldm_keys.TEXT + key.removeprefix(BARE_TEXT)
    return key


def _unet_prefix(path: Path, weights: Weights, has_ema: bool) -> str:
    """Return the prefix of the U-Net's weights."""
    if weights == "as_published" or (has_ema and weights == "non_ema"):
        return ldm_keys.UNET
    if has_ema:
        return ldm_keys.EMA
    raise UserError(
        f"base.weights is {weights}, but {path} holds one set of weights (no {ldm_keys.EMA}* beside {ldm_keys.UNET}*)"
        " and does not say which: name a file with both (v1-5-pruned) or set base.weights: as_published"
    )


def base_tables(models: Mapping[Part, nn.Module], configs: PartConfigs) -> dict[Part, Table]:
    """Return the tables of keys of all parts."""
    return {
        "unet": ldm_keys.unet(models["unet"].state_dict(), configs.unet),
        "vae": ldm_keys.vae(models["vae"].state_dict(), configs.vae),
        "text_encoder": ldm_keys.text(models["text_encoder"].state_dict()),
    }


def empty_parts(configs: PartConfigs) -> dict[Part, nn.Module]:
    """Build all parts on the meta device."""
    text: Any = sd15.empty_text_tower(configs)
    return {"unet": sd15.empty_unet(configs), "vae": sd15.empty_vae(configs), "text_encoder": text}


def expected_shapes(models: Mapping[Part, nn.Module], tables: Mapping[Part, Table]) -> Shapes:
    """Return the shape that every weight must have in the file."""
    return {k: v for part, model in models.items() for k, v in shapes_of(model, tables[part]).items()}


def shapes_of(model: nn.Module, table: Table) -> Shapes:
    """Return the shapes of a module's weights by their names in the file."""
    state = model.state_dict()
    return {theirs: tuple(_to_ldm_shape(theirs, state[ours]).shape) for ours, theirs in table.items()}


def write_folder(
    state: Mapping[str, Tensor], models: Mapping[Part, nn.Module], tables: Mapping[Part, Table], folder: Path
) -> None:
    """Write weights with LDM names as a diffusers folder, configurations and tokenizer included."""
    for part, model in models.items():
        _save_config(part, model, folder / part)
        weights = {ours: _to_diffusers(theirs, state[theirs]) for ours, theirs in tables[part].items()}
        weight_file.write(weights, folder / part / FILES[part])
    text: Any = models["text_encoder"].config
    sd15.tokenizer(text.max_position_embeddings).save_pretrained(folder / "tokenizer")
    sd15.scheduler().save_pretrained(folder / "scheduler")
    files.write_json(index_path(folder), MODEL_INDEX)


def _save_config(part: Part, model: Any, folder: Path) -> None:
    if part == "text_encoder":
        model.config.architectures = ["CLIPTextModel"]
        model.config.save_pretrained(folder)
    else:
        model.save_config(folder)


def read_folder(folder: Path, configs: PartConfigs) -> dict[str, Tensor]:
    """Read the weights of a diffusers folder under their LDM names, in 32 bits."""
    unet, vae, text = (weight_file.read(folder / part / name) for part, name in FILES.items())
    vae = {_current_name(key): value for key, value in vae.items()}
    text = {key: value for key, value in text.items() if not key.endswith("position_ids")}
    state = to_ldm(unet, ldm_keys.unet(unet, configs.unet)) | to_ldm(vae, ldm_keys.vae(vae, configs.vae))
    return weight_file.float32(state | to_ldm(text, ldm_keys.text(text)))


def to_ldm(weights: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Return weights with diffusers names under their LDM names."""
    return {theirs: _to_ldm_shape(theirs, weights[ours]) for ours, theirs in table.items()}


def read_configs(folder: Path) -> PartConfigs:
    """Read the configurations of the parts of a diffusers folder."""
    unet, vae, text = (files.read_json(folder / part / "config.json") for part in FILES)
    return PartConfigs(unet, vae, text)


def _current_name(key: str) -> str:
    """Return the current name of an autoencoder's weight; files of 2022 name those of its attention differently."""
    for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items():
        key = key.replace(f"attentions.0.{old}.", f"attentions.0.{new}.")
    return key


def _to_diffusers(key: str, value: Tensor) -> Tensor:
    return value.flatten(1) if ldm_keys.is_vae_attention(key) else value


def _to_ldm_shape(key: str, value: Tensor) -> Tensor:
    return value[:, :, None, None] if ldm_keys.is_vae_attention(key) else value
