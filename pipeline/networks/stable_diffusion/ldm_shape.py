"""Whether a file in LDM layout is shaped like Stable Diffusion 1.5, and what it is where it is not."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import ldm_keys
from pipeline.networks.stable_diffusion.weight_file import Shapes

FIRST = "model.diffusion_model.input_blocks.0.0.weight"
ADVICE = "name a file of Stable Diffusion 1.5, for example v1-5-pruned.safetensors"
LORA = ("lora_unet_", "lora_te_", "lora_down", "lora_up", "lora.down", "lora_A", "lora_B", "hada_w1")
STRANGERS = (  # a part of a key, and what has it
    ("conditioner.embedders.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2 (its text tower is OpenCLIP's)"),
    ("diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("double_blocks.", "Flux"),
)
WIDTHS = {1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}


def check(path: Path, found: Shapes, wanted: Shapes) -> None:
    """Compares a file's shapes with those that its parts must have. Raises UserError saying what it is instead."""
    for reason in (_other_kind(found), _other_model(found, wanted), _difference(found, wanted)):
        if reason:
            raise UserError(f"{path} {reason}; {ADVICE}")


def _other_kind(found: Shapes) -> str | None:
    """Files that hold no whole model."""
    if any(mark in key for key in found for mark in LORA):
        return "holds a LoRA: small changes to a model, not a model"
    if any(key.startswith(ldm_keys.UNET) for key in found):
        return None
    if any(key.startswith(("control_model.", "controlnet_", "zero_convs.")) for key in found):
        return "holds a ControlNet without the model that it steers"
    if any(key.startswith(("down_blocks.", "encoder.down_blocks.")) for key in found):
        return "is one part of a diffusers folder: name the folder instead"
    return None


def _other_model(found: Shapes, wanted: Shapes) -> str | None:
    """Models of another kind, by the names and shapes that give them away."""
    named = next((model for mark, model in STRANGERS if any(mark in key for key in found)), None)
    if named:
        return f"is {named}, not Stable Diffusion 1.5"
    if not any(key.startswith(ldm_keys.UNET) for key in found):
        return f"is not in LDM layout: no key starts with {ldm_keys.UNET!r}, {_some(found)} do not"
    taken, channels = found.get(FIRST, (0, 0))[1], wanted[FIRST][1]
    if taken and taken != channels:
        kind = {9: "an inpainting model", 8: "an image-editing model"}.get(taken, "another model")
        return f"is {kind}: its U-Net takes {taken} channels, the autoencoder gives {channels}"
    return _other_width(found, wanted)


def _other_width(found: Shapes, wanted: Shapes) -> str | None:
    attending = [key for key in wanted if key.startswith(ldm_keys.UNET) and key.endswith("attn2.to_k.weight")]
    for key in attending:
        width, expected = found.get(key, wanted[key])[1], wanted[key][1]
        if width != expected:
            model = WIDTHS.get(width, "another model")
            return f"is {model}: its cross-attention has width {width}, Stable Diffusion 1.5 has {expected}"
    return None


def _difference(found: Shapes, wanted: Shapes) -> str | None:
    missing = wanted.keys() - found.keys()
    for prefix, part in ((ldm_keys.VAE, "autoencoder"), (ldm_keys.TEXT, "text tower")):
        own = {key for key in wanted if key.startswith(prefix)}
        if own and own <= missing:
            return f"holds no {part} (no key starts with {prefix!r})"
    if missing:
        return f"lacks {len(missing)} of the {len(wanted)} weights of Stable Diffusion 1.5: {_some(missing)}"
    wrong = {key: found[key] for key in wanted if found[key] != wanted[key]}
    if wrong:
        key = min(wrong)
        return f"has {len(wrong)} weights of other shapes: {key} is {list(wrong[key])}, must be {list(wanted[key])}"
    return None


def _some(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
