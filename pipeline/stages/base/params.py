"""The section `base` of a study: the base model and, where it is made from scratch, its sizes and training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.core.section import Section

Prediction = Literal["epsilon", "v_prediction", "sample"]
Weights = Literal["as_published", "ema", "non_ema"]


class Autoencoder(Section):
    """Pretraining of a small AutoencoderKL on random crops."""

    channels: tuple[int, ...] = (16, 48, 96)  # one per level; the latent grid is 2^(levels-1) times coarser
    latent_channels: int = Field(default=4, ge=3)  # three start as colours
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    crop: int = Field(gt=0, multiple_of=8)  # pixels
    learning_rate: float = Field(gt=0)
    kl_weight: float = Field(default=1e-6, ge=0)

    @model_validator(mode="after")
    def channels_fit_the_norms(self) -> Self:
        _widths("channels", self.channels, 16)
        factor = 2 ** (len(self.channels) - 1)
        if self.crop % factor:
            raise ValueError(f"crop is {self.crop}; {len(self.channels)} levels need a multiple of {factor}")
        return self


class Denoiser(Section):
    """Pretraining of a small UNet2DConditionModel on latents."""

    channels: tuple[int, ...] = (64, 128, 192)
    text_width: int = Field(default=64, gt=0, multiple_of=8)  # width of the CLIP text tower
    prediction: Prediction = "sample"  # epsilon in SD 1.5; sample learns fastest
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    prompt_dropout: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def channels_fit_the_norms(self) -> Self:
        _widths("channels", self.channels, 32)
        return self


class Base(Section):
    """The base model: trained from scratch on the training images, or taken from elsewhere."""

    source: str = Field(default="scratch", min_length=1)  # "scratch", a diffusers folder, a single file, or a hub id
    revision: str | None = None  # of a hub id: branch, tag or commit
    weights: Weights = "as_published"  # of the U-Net: the moving average (EMA), the weights averaged, or what is there
    variant: str | None = None  # of all weight files, for example fp16
    precision: Literal["fp32", "bf16"] = "fp32"
    autoencoder: Autoencoder | None = None
    denoiser: Denoiser | None = None

    @model_validator(mode="after")
    def scratch_needs_sizes(self) -> Self:
        if self.source == "scratch" and (self.autoencoder is None or self.denoiser is None):
            raise ValueError("source scratch needs the sections autoencoder and denoiser")
        return self

    @model_validator(mode="after")
    def one_choice_of_weights(self) -> Self:
        if self.weights != "as_published" and self.variant is not None:
            raise ValueError(f"weights {self.weights} and variant {self.variant} both choose files; set one of them")
        if self.weights != "as_published" and self.source == "scratch":
            raise ValueError(f"weights is {self.weights}, but a base made from scratch has one set of weights")
        return self


def _widths(name: str, widths: tuple[int, ...], multiple: int) -> None:
    """Group norms need every width to be a multiple of their number of groups."""
    if len(widths) < 2 or any(width <= 0 or width % multiple for width in widths):
        raise ValueError(f"{name} must be two or more multiples of {multiple}, found {list(widths)}")
