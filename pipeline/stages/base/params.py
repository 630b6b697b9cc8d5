"""The section `base` of a study: the base model and, where it is made from scratch, its sizes and training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.section import Section

Prediction = Literal["epsilon", "v_prediction", "sample"]
Weights = Literal["as_published", "ema", "non_ema"]
Precision = Literal["fp32", "bf16"]
LATER = "later"  # mark of keys that came later: left out of fingerprints at their defaults, so that earlier ones hold


class Part(Section):
    """A part of the base that is trained here."""

    def fingerprinted(self) -> dict[str, Any]:
        """Return the values that the weights depend on, for fingerprints."""
        later = {name for name, field in type(self).model_fields.items() if LATER in field.metadata}
        values = self.model_dump(mode="json", exclude=later)
        return values | self.model_dump(mode="json", include=later, exclude_defaults=True)


class Autoencoder(Part):
    """Pretraining of a small AutoencoderKL on random crops."""

    channels: tuple[int, ...] = (16, 48, 96)  # one per level; the latent grid is 2^(levels-1) times coarser
    latent_channels: int = Field(default=4, ge=3)  # three start as colours
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    crop: int = Field(gt=0, multiple_of=8)  # pixels
    learning_rate: float = Field(gt=0)
    kl_weight: float = Field(default=1e-6, ge=0)
    perceptual_weight: Annotated[float, LATER] = Field(default=0.0, ge=0)  # distance in features of EfficientNet-Lite0
    adversarial_weight: Annotated[float, LATER] = Field(default=0.0, ge=0)  # of a discriminator of patches; 0: none
    adversarial_start: Annotated[float, LATER] = Field(default=0.25, ge=0, lt=1)  # share of the steps without it
    discriminator_channels: Annotated[tuple[int, ...], LATER] = (48, 96, 192)  # one per convolution
    discriminator_learning_rate: Annotated[float, LATER] = Field(default=3e-4, gt=0)
    discriminator_betas: Annotated[tuple[float, float], LATER] = (0.5, 0.9)  # of its AdamW

    def check_discriminator(self, side: int) -> None:
        """Raise ValueError where images of `side` pixels, or the crop, are too small for the discriminator."""
        side, halvings = min(side, self.crop), len(self.discriminator_channels) - 1
        if self.adversarial_weight and side // 2**halvings < 3:
            raise ValueError(
                f"the discriminator sees crops of {side} pixels; {halvings + 1} discriminator_channels need"
                f" {3 * 2**halvings} or more"
            )

    @model_validator(mode="after")
    def discriminator_can_be_built(self) -> Self:
        _widths("discriminator_channels", self.discriminator_channels, 8)
        if not all(0 <= beta < 1 for beta in self.discriminator_betas):
            raise ValueError(f"discriminator_betas must lie in [0, 1), found {list(self.discriminator_betas)}")
        self.check_discriminator(self.crop)
        return self

    @model_validator(mode="after")
    def channels_fit_the_norms(self) -> Self:
        _widths("channels", self.channels, 16)
        factor = 2 ** (len(self.channels) - 1)
        if self.crop % factor:
            raise ValueError(f"crop is {self.crop}; {len(self.channels)} levels need a multiple of {factor}")
        return self


class Denoiser(Part):
    """Pretraining of a small UNet2DConditionModel on latents."""

    channels: tuple[int, ...] = (64, 128, 192)
    text_width: int = Field(default=64, gt=0, multiple_of=8)  # width of the CLIP text tower
    prediction: Prediction = "sample"  # epsilon in SD 1.5; sample learns fastest
    max_steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    prompt_dropout: float = Field(default=0.05, ge=0, le=1)
    ema_decay: Annotated[float | None, LATER] = Field(default=None, gt=0, lt=1)  # moving average; None: last weights
    min_snr: Annotated[float | None, LATER] = Field(default=None, gt=0)  # gamma of min-SNR weights; None: all are 1

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
    precision: Precision = "fp32"
    autoencoder: Autoencoder | None = None
    denoiser: Denoiser | None = None

    def fingerprinted(self) -> dict[str, Any]:
        """Return all values, for fingerprints; keys of its parts that came later are left out at their defaults."""
        parts = {"autoencoder": self.autoencoder, "denoiser": self.denoiser}
        values = {name: None if part is None else part.fingerprinted() for name, part in parts.items()}
        return self.model_dump(mode="json", exclude=set(parts)) | values

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
