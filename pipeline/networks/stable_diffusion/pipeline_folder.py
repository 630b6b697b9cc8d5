"""A fine-tuned model as a diffusers folder: all parts of the pipeline with a ControlNet, and remote code."""

import ast
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, SchedulerMixin

from pipeline.core import files
from pipeline.networks.stable_diffusion import dense_hint_controlnet, dense_hint_input
from pipeline.networks.stable_diffusion.dense_hint_controlnet import DenseHintControlNetModel
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.networks.stable_diffusion.families import family_of_unet
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.model_index import CONTROL_PIPELINES, index_path

STOCK: dict[str, Any] = {"requires_safety_checker": False, "safety_checker": [None, None]}
XL: dict[str, Any] = {"add_watermarker": False}  # which would change the images where its package is installed
MODULE = "dense_hint_controlnet"  # name of the code file in the folder controlnet/
HEADER = '''# SPDX-License-Identifier: Apache-2.0
"""ControlNet with a Dense Hint Input, for diffusers: loaded with trust_remote_code=True. Written by twinsynth."""
'''


def write(folder: Path, model: StableDiffusion, network: ControlNetModel, scheduler: SchedulerMixin) -> None:
    """Write the pipeline. `model` holds the trained decoder in its U-Net; configs name no path of this machine."""
    dense, second = is_dense(network), model.second
    parts: dict[str, Any] = {
        "vae": model.vae,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer,
        **({} if second is None else {"text_encoder_2": second.text_encoder, "tokenizer_2": second.tokenizer}),
        "unet": model.unet,
        "scheduler": scheduler,
        "controlnet": with_dense_hint(network, model.factor) if dense else network,
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    if dense:
        files.write_bytes(folder / "controlnet" / f"{MODULE}.py", remote_code().encode())
    remove_origin(folder)
    own = STOCK if second is None else {**XL, "force_zeros_for_empty_prompt": second.zeros_for_empty}
    files.write_json(index_path(folder), _index(parts) | own)


def is_dense(network: ControlNetModel) -> bool:
    """Return whether the hint enters through the Dense Hint Input, which stock diffusers does not have."""
    return isinstance(network.controlnet_cond_embedding, DenseHintInput)


def with_dense_hint(network: ControlNetModel, factor: int) -> DenseHintControlNetModel:
    """Wrap the network in the class that has its hint input; weights are shared, not copied."""
    config = {key: value for key, value in network.config.items() if not key.startswith("_")}
    del config["mid_block_type"]
    with torch.device("meta"):
        named = DenseHintControlNetModel(hint_factor=factor, **config)
    named.load_state_dict(network.state_dict(), assign=True)
    return named.eval()


def remote_code() -> str:
    """Return one Python file without imports of this package: the Dense Hint Input and the ControlNet around it."""
    sources = [Path(str(module.__file__)) for module in (dense_hint_input, dense_hint_controlnet)]
    imports, bodies = zip(*map(_split_module, sources), strict=True)
    return HEADER + "\n" + "\n".join(sorted({line for lines in imports for line in lines})) + "".join(bodies)


def _split_module(source: Path) -> tuple[list[str], str]:
    """Split a module into import statements, without this package's, and everything below them."""
    text = source.read_text(encoding="utf-8")
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    foreign = [ast.unparse(node) for node in nodes if not (getattr(node, "module", None) or "").startswith("pipeline")]
    return foreign, "\n" + "\n".join(text.splitlines()[max(node.end_lineno or 0 for node in nodes) :]) + "\n"


def remove_origin(folder: Path) -> None:
    """Remove from each part's config the path from which diffusers loaded it."""
    for path in folder.glob("*/*config.json"):
        config = files.read_json(path)
        kept = {key: value for key, value in config.items() if key not in ("_name_or_path", "name_or_path")}
        if kept != config:
            files.write_json(path, kept)


def _index(parts: dict[str, Any]) -> dict[str, Any]:
    """Return model_index.json: library and class of every part; remote code is named by its file."""
    index: dict[str, Any] = {
        name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()
    }
    if isinstance(parts["controlnet"], DenseHintControlNetModel):
        index["controlnet"][0] = MODULE
    return {
        **index,
        "_class_name": CONTROL_PIPELINES[family_of_unet(parts["unet"].config)],
        "_diffusers_version": version("diffusers"),
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
