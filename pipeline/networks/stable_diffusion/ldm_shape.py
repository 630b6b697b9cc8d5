"""Checks that a file in LDM layout is shaped like Stable Diffusion 1.5; errors name what it is instead."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import ldm_keys
from pipeline.networks.stable_diffusion.weight_file import Shapes

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
ADVICE = (
    "name a file of Stable Diffusion 1.5, for example v1-5-pruned.safetensors; Stable Diffusion 2 and XL are read from"
    " a diffusers folder or the hub"
)
LORA = ("lora_unet_", "lora_te_", "lora_down", "lora_up", "lora.down", "lora_A", "lora_B", "hada_w1")
OTHER_MODELS = (  # a part of a key, and the model that has it
    ("conditioner.embedders.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2 (its text tower is OpenCLIP's)"),
    ("diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("double_blocks.", "Flux"),
)
WIDTHS = {1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}


def check(path: Path, shapes: Shapes, expected: Shapes) -> None:
    """Compare a file's shapes with those that its parts must have. Raises UserError saying what it is instead."""
    for reason in (_other_kind(shapes), _other_model(shapes, expected), _difference(shapes, expected)):
        if reason:
            raise UserError(f"{path} {reason}; {ADVICE}")


def _other_kind(shapes: Shapes) -> str | None:
    """Return why a file does not hold a full model; None where it does."""
    if any(mark in key for key in shapes for mark in LORA):
        return "holds a LoRA: small changes to a model, not a model"
    if any(key.startswith(ldm_keys.UNET) for key in shapes):
        return None
    if any(key.startswith(("control_model.", "controlnet_", "zero_convs.")) for key in shapes):
        return "holds a ControlNet without the model that it steers"
    if any(key.startswith(("down_blocks.", "encoder.down_blocks.")) for key in shapes):
        return "is one part of a diffusers folder: name the folder instead"
    return None


def _other_model(shapes: Shapes, expected: Shapes) -> str | None:
    """Return which other model a file holds, by names and shapes that only that model has."""
    named = next((model for mark, model in OTHER_MODELS if any(mark in key for key in shapes)), None)
    if named:
        return f"is {named}, not Stable Diffusion 1.5"
    if not any(key.startswith(ldm_keys.UNET) for key in shapes):
        return f"is not in LDM layout: no key starts with {ldm_keys.UNET!r}, {_first_names(shapes)} do not"
    inputs, channels = shapes.get(FIRST, (0, 0))[1], expected[FIRST][1]
    if inputs and inputs != channels:
        kind = {9: "an inpainting model", 8: "an image-editing model"}.get(inputs, "another model")
        return f"is {kind}: its U-Net takes {inputs} channels, the autoencoder gives {channels}"
    return _other_width(shapes, expected)


def _other_width(shapes: Shapes, expected: Shapes) -> str | None:
    keys = [key for key in expected if key.startswith(ldm_keys.UNET) and key.endswith("attn2.to_k.weight")]
    for key in keys:
        width, expected_width = shapes.get(key, expected[key])[1], expected[key][1]
        if width != expected_width:
            model = WIDTHS.get(width, "another model")
            return f"is {model}: its cross-attention has width {width}, Stable Diffusion 1.5 has {expected_width}"
    return None


def _difference(shapes: Shapes, expected: Shapes) -> str | None:
    missing = expected.keys() - shapes.keys()
    for prefix, part in ((ldm_keys.VAE, "autoencoder"), (ldm_keys.TEXT, "text tower")):
        part_keys = {key for key in expected if key.startswith(prefix)}
        if part_keys and part_keys <= missing:
            return f"holds no {part} (no key starts with {prefix!r})"
    if missing:
        return f"lacks {len(missing)} of the {len(expected)} weights of Stable Diffusion 1.5: {_first_names(missing)}"
    wrong = {key: shapes[key] for key in expected if shapes[key] != expected[key]}
    if wrong:
        key = min(wrong)
        return f"has {len(wrong)} weights of other shapes: {key} is {list(wrong[key])}, must be {list(expected[key])}"
    return None


def _first_names(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
