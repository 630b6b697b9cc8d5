"""The section `base` of a study: the base model and, where it is made from scratch, its sizes and training."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.section import Section

Prediction = Literal["epsilon", "v_prediction", "sample"]
Weights = Literal["as_published", "ema", "non_ema"]
Precision = Literal["fp32", "bf16"]
STRENGTHS = (0.0, 0.2, 0.4)  # shares of the sampling steps that noised images pass through
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

    channels: tuple[int, ...] = (16, 48, 96)
    """Channels of each level, multiples of 16. With L levels the latent grid is 2^(L-1) times coarser than the image.
    """
    latent_channels: int = Field(default=4, ge=3)
    """Channels of the latent grid. Three of them start as colours."""
    max_steps: int = Field(gt=0)
    """Optimiser steps."""
    batch_size: int = Field(gt=0)
    """Crops per optimiser step."""
    crop: int = Field(gt=0, multiple_of=8)
    """Side of the random crops in pixels."""
    learning_rate: float = Field(gt=0)
    """Learning rate of AdamW."""
    kl_weight: float = Field(default=1e-6, ge=0)
    """Weight of the Kullback-Leibler term of the loss."""
    perceptual_weight: Annotated[float, LATER] = Field(default=0.0, ge=0)
    """Weight of a distance in the features of the packaged EfficientNet-Lite0; 0 switches it off."""
    adversarial_weight: Annotated[float, LATER] = Field(default=0.0, ge=0)
    """Weight of a discriminator of patches in the decoder's loss; 0 means no discriminator."""
    adversarial_start: Annotated[float, LATER] = Field(default=0.25, ge=0, lt=1)
    """Share of the steps after which the discriminator counts for the decoder."""
    discriminator_channels: Annotated[tuple[int, ...], LATER] = (48, 96, 192)
    """Channels of the discriminator's convolutions, one number per convolution, multiples of 8."""
    discriminator_learning_rate: Annotated[float, LATER] = Field(default=3e-4, gt=0)
    """Learning rate of the discriminator's own AdamW."""
    discriminator_betas: Annotated[tuple[float, float], LATER] = (0.5, 0.9)
    """The two decay rates of the discriminator's AdamW."""

    def check_discriminator(self, side: int) -> None:
        """Raise ValueError where images of `side` pixels, or the crop, are too small for the discriminator."""
        side, halvings = min(side, self.crop), len(self.discriminator_channels) - 1
        if self.adversarial_weight and side // 2**halvings < 3:
            raise ValueError(
                f"the discriminator sees crops of {side} pixels, but {halvings + 1} discriminator_channels need"
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
    """Channels of each level of the U-Net, multiples of 32."""
    text_width: int = Field(default=64, gt=0, multiple_of=8)
    """Width of the text encoder (CLIP)."""
    prediction: Prediction = "sample"
    """What the network predicts. Stable Diffusion 1.5 predicts the noise (`epsilon`); `sample`, the clean latents,
    learns fastest.
    """
    max_steps: int = Field(gt=0)
    """Optimiser steps."""
    batch_size: int = Field(gt=0)
    """Images per optimiser step."""
    learning_rate: float = Field(gt=0)
    """Learning rate of AdamW."""
    prompt_dropout: float = Field(default=0.05, ge=0, le=1)
    """Share of the prompts that are replaced by the empty one."""
    ema_decay: Annotated[float | None, LATER] = Field(default=None, gt=0, lt=1)
    """Decay of the moving average of the weights that is saved; `null` saves the last weights."""
    min_snr: Annotated[float | None, LATER] = Field(default=None, gt=0)
    """Gamma of the min-SNR loss weights (Hang et al. 2023), 5 in that paper; `null` weights all levels equally."""

    @model_validator(mode="after")
    def channels_fit_the_norms(self) -> Self:
        _widths("channels", self.channels, 32)
        return self


class Decoder(Part):
    """Further training of the autoencoder's decoder, on latents that the denoiser made."""

    max_steps: int = Field(gt=0)
    """Optimiser steps."""
    batch_size: int = Field(default=4, gt=0)
    """Latents of noised training images per optimiser step, and as many latents that were sampled from noise."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Learning rate of AdamW."""
    latents: int = Field(default=320, gt=0)
    """How many latents of either kind are made before the training. The discriminator sees at most as many training
    images.
    """
    sampling_steps: int = Field(default=25, gt=0, le=500)
    """Steps of the DDIM sampler that makes the latents. With more than 500 of 1000 the leading timesteps would not
    reach the noisy end.
    """
    eta: float = Field(default=1.0, ge=0, le=1)
    """Share of the noise that the sampler adds again in every step; 0 adds none."""
    pixel_weight: float = Field(default=0.2, ge=0)
    """Weight of the absolute and squared differences from the training images."""
    perceptual_weight: float = Field(default=0.5, ge=0)
    """Weight of the distance from the training images in the features of the packaged EfficientNet-Lite0."""
    adversarial_weight: float = Field(default=0.2, gt=0)
    """Weight of the discriminator in the decoder's loss."""
    discriminator_learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the discriminator's own AdamW."""
    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    """Decay of the moving average of the weights that is saved."""

    def kept_steps(self, strength: float) -> int:
        """Return how many of the sampling steps a strength in [0, 1] runs."""
        return round(strength * self.sampling_steps)

    @property
    def denoiser_passes(self) -> float:
        """Passes of one latent through the denoiser that make all latents."""
        paired = sum(map(self.kept_steps, STRENGTHS)) / len(STRENGTHS)
        return self.latents * (self.sampling_steps + paired)


class Base(Section):
    """The base model: trained from scratch on the training images, or taken from elsewhere."""

    source: str = Field(default="scratch", min_length=1)
    """`scratch`, a folder in diffusers' layout, a single weights file, or an id of the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; `null` for the main branch."""
    weights: Weights = "as_published"
    """Weights of the U-Net: those that are there, the moving average over training (EMA), or the weights that were
    averaged.
    """
    variant: str | None = None
    """Variant of all weight files of a hub id or folder, for example `fp16`."""
    precision: Precision = "fp32"
    """Arithmetic of the pretraining; `bf16` is autocast over float32 weights."""
    autoencoder: Autoencoder | None = None
    """Pretraining of the autoencoder, with `source: scratch`."""
    denoiser: Denoiser | None = None
    """Pretraining of the denoising U-Net, with `source: scratch`."""
    decoder: Decoder | None = None
    """Further training of the autoencoder's decoder on latents of the denoiser, with `source: scratch`, for sharper
    images; `null` keeps the decoder as it is.
    """

    def fingerprinted(self) -> dict[str, Any]:
        """Return all values, for fingerprints; keys of its parts that came later are left out at their defaults."""
        parts = {"autoencoder": self.autoencoder, "denoiser": self.denoiser}
        values = {name: None if part is None else part.fingerprinted() for name, part in parts.items()}
        if self.decoder is not None:
            values["decoder"] = self.decoder.fingerprinted()
        return self.model_dump(mode="json", exclude={*parts, "decoder"}) | values

    @model_validator(mode="after")
    def scratch_needs_sizes(self) -> Self:
        if self.source == "scratch" and (self.autoencoder is None or self.denoiser is None):
            raise ValueError("source scratch needs the sections autoencoder and denoiser")
        if self.source != "scratch" and self.decoder is not None:
            raise ValueError("the section decoder needs source scratch; the decoder of another base stays as it is")
        return self

    @model_validator(mode="after")
    def one_choice_of_weights(self) -> Self:
        if self.weights != "as_published" and self.variant is not None:
            raise ValueError(
                f"weights {self.weights} and variant {self.variant} both choose files; set only one of them"
            )
        if self.weights != "as_published" and self.source == "scratch":
            raise ValueError(f"weights is {self.weights}, but a base made from scratch has one set of weights")
        return self


def _widths(name: str, widths: tuple[int, ...], multiple: int) -> None:
    """Group norms need every width to be a multiple of their number of groups."""
    if len(widths) < 2 or any(width <= 0 or width % multiple for width in widths):
        raise ValueError(f"{name} must be two or more multiples of {multiple}, found {list(widths)}")
