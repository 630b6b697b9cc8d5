"""Sampling of a controlled diffusion model: samplers, guidance, reuse of encoder features, compilation."""

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from torch import Tensor

from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.diffusion.schedule import Schedule, at_least_float32
from pipeline.methods.generators._known_latents import KnownLatents
from pipeline.networks.stable_diffusion import split_unet
from pipeline.networks.stable_diffusion.compilation import first_line
from pipeline.networks.stable_diffusion.split_unet import Encoded, UNetDecoder

Conditions = tuple[Tensor, list[Tensor]]  # text and embedded hints
EncoderFeatures = tuple[Encoded, list[Tensor]]  # of the encoder and the control branch, from noisy latents
WatchLatents = Callable[[int, Tensor, Tensor, int], None]  # step from 1, prediction, noisy latents, timestep
Predict = Callable[[Tensor, int, bool, bool], tuple[Tensor, Tensor | None]]  # as Predictor.__call__
Scheduler = DDIMScheduler | DPMSolverMultistepScheduler | UniPCMultistepScheduler
SCHEDULERS: dict[str, type[Scheduler]] = {
    "ddim": DDIMScheduler,  # Song et al. 2021
    "dpmpp_2m": DPMSolverMultistepScheduler,  # Lu et al. 2022, DPM-Solver++(2M)
    "unipc": UniPCMultistepScheduler,  # Zhao et al. 2023, order 2
}


def scheduler_of(base: DDIMScheduler, settings: Sampling) -> Scheduler:
    """Build a new scheduler (multistep ones hold state) with the base's betas, prediction type and timestep spacing."""
    scheduler = cast(Scheduler, SCHEDULERS[settings.sampler].from_config(base.config))
    scheduler.set_timesteps(settings.steps)
    return scheduler


def denoise(
    predict: Predict,
    base: DDIMScheduler,
    draw_noise: Callable[[], Tensor],
    settings: Sampling,
    known: KnownLatents | None = None,
    watch: WatchLatents | None = None,
    weaker: Predict | None = None,
) -> Tensor:
    """Denoise noise into latents, both [B, C, h, w]; or into the pixels of a model without latents.

    With classifier-free guidance, `predict` has a branch without a prompt. A `weaker` predictor guides instead
    (autoguidance, Karras et al. 2024, eq. 3). Guidance acts at the noise levels of `settings.guidance_interval`;
    elsewhere the prediction with the prompt counts alone.

    With `known`, the clean latents outside its holes are replaced in every step by those of real images; a strength
    skips the first steps. `watch` is called in every step. `draw_noise` returns the first noise and, with an eta, new
    noise in every step. Raises UserError where the networks cannot be compiled.
    """
    noise = latents = draw_noise()
    scheduler = scheduler_of(base, settings)
    timesteps = list(enumerate(scheduler.timesteps.tolist()))
    if known is not None:
        timesteps = timesteps[known.skipped(len(timesteps)) :]
        latents = known.start(noise, timesteps[0][1])
    for step, timestep in timesteps:
        low, high = settings.guidance_interval
        guided, reuse = low <= timestep / base.config["num_train_timesteps"] <= high, step in settings.reused
        predicted, without = predict(latents, timestep, reuse, guided)
        if weaker is not None and guided:
            without = weaker(latents, timestep, reuse, guided)[0]
        if without is not None:
            predicted = without + settings.guidance_scale * (predicted - without)
        with torch.autocast(noise.device.type, enabled=False):  # the samplers' own arithmetic stays in float32
            if known is not None:
                predicted = known.replace(predicted, latents, timestep)
            if watch is not None:
                watch(step + 1, predicted, latents, timestep)
            options: dict[str, Any] = {}
            if settings.eta:
                options = {"eta": settings.eta, "variance_noise": draw_noise()}
            latents = scheduler.step(predicted, timestep, latents, return_dict=False, **options)[0]
    return latents if known is None else known.finish(latents)


class Predictor:
    """What networks predict under fixed conditions: text [GB, L, D] and embedded hints [GB, ...].

    With G = 2, the samples of a branch without a prompt come first.
    """

    def __init__(self, networks: "DenoisingNetworks", conditions: Conditions) -> None:
        self.networks, self.conditions = networks, conditions
        self.features: EncoderFeatures | None = None

    def __call__(self, latents: Tensor, timestep: int, reuse: bool, guided: bool) -> tuple[Tensor, Tensor | None]:
        """Predict [B, C, h, w] with the prompt and, if `guided` and there is such a branch, without it.

        `reuse` takes the encoder's features of the last step, unless that had other branches.
        """
        text, embedded = self.conditions
        rows = len(text) if guided else len(latents)
        text, embedded = text[-rows:], [part[-rows:] for part in embedded]
        noisy = torch.cat([latents] * (rows // len(latents)))
        times = torch.full((rows,), timestep, device=latents.device)
        if reuse and self.features is not None and len(self.features[0][0]) == rows:
            self.features = self.networks.reuse_encoder(self.features, noisy, times, text)
        else:
            self.features = self.networks.encode(noisy, times, (text, embedded))
        predicted = at_least_float32(self.networks.decode(self.features, text))
        return predicted[-len(latents) :], predicted[: -len(latents)] if rows > len(latents) else None


class DenoisingNetworks:
    """The three networks of a denoising step, as they are or compiled; `scale` multiplies the control's residuals."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        control: ControlNetModel,
        decoder: UNetDecoder,
        compiled: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.unet, self.control, self.decoder, self.compiled, self.scale = unet, control, decoder, compiled, scale

    def encode(self, noisy: Tensor, times: Tensor, conditions: Conditions) -> EncoderFeatures:
        """Return the encoder's features and the control residuals of noisy latents [B, C, h, w] at timesteps [B]."""
        text, embedded = conditions
        residuals = scaled(self._call(split_unet.control, self.control, noisy, times, text, *embedded), self.scale)
        return self._call(split_unet.encode, self.unet, noisy, times, text), residuals

    def reuse_encoder(self, features: EncoderFeatures, noisy: Tensor, times: Tensor, text: Tensor) -> EncoderFeatures:
        """Return the features of an earlier step; only the decoder's time embedding is new (Li et al. 2024)."""
        (hidden, skips, _), residuals = features
        return (hidden, skips, split_unet.embed_time(self.unet, times, noisy, text)), residuals

    def decode(self, features: EncoderFeatures, text: Tensor) -> Tensor:
        """Predict [B, C, h, w]."""
        return self._call(_decode, self.decoder, *features, text)

    def _call(self, function: Callable[..., Any], *inputs: Any) -> Any:
        return called(function, self.compiled, *inputs)


class MaskImageDenoisingNetworks(DenoisingNetworks):
    """The networks with a second hint, the image: c_m + w c_i, in both branches of guidance; `scale` multiplies both.

    The conditions hold two embedded hints, of masks and of images. With the weight of the last step of training, this
    is the Image-Diffusion of Siamese-Diffusion (Qiu et al. 2025, eq. 5).
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        control: ControlNetModel,
        decoder: UNetDecoder,
        image_weight: float,
        compiled: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__(unet, control, decoder, compiled, scale)
        self.image_weight = image_weight

    def encode(self, noisy: Tensor, times: Tensor, conditions: Conditions) -> EncoderFeatures:
        """Return the encoder's features and the weighted sum of both hints' residuals."""
        text, (mask, image) = conditions
        encoded, of_mask = super().encode(noisy, times, (text, [mask]))
        of_image = self._call(split_unet.control, self.control, noisy, times, text, image)
        weighted = scaled(of_image, self.scale * self.image_weight)
        return encoded, [m + i for m, i in zip(of_mask, weighted, strict=True)]


class AdaptedDenoisingNetworks(DenoisingNetworks):
    """The networks of a U-Net whose encoder takes an adapter's features, without a control branch.

    `scale` multiplies the features.
    """

    def __init__(
        self, unet: UNet2DConditionModel, decoder: UNetDecoder, compiled: bool = False, scale: float = 1.0
    ) -> None:
        self.unet, self.decoder, self.compiled, self.scale = unet, decoder, compiled, scale

    def encode(self, noisy: Tensor, times: Tensor, conditions: Conditions) -> EncoderFeatures:
        """Return the encoder's features with the adapter's, and residuals of zero."""
        text, features = conditions
        encoded = self._call(split_unet.encode, self.unet, noisy, times, text, scaled(features, self.scale))
        return encoded, split_unet.no_control(encoded)


def scaled(features: list[Tensor], scale: float) -> list[Tensor]:
    """Multiply features, unless the factor is 1."""
    return features if scale == 1.0 else [scale * feature for feature in features]


def _decode(decoder: UNetDecoder, encoded: Encoded, residuals: list[Tensor], text: Tensor) -> Tensor:
    return decoder(encoded, residuals, text)


def watching(settings: Sampling, schedule: Schedule, decode: Callable[[Tensor], Tensor]) -> WatchLatents | None:
    """Return what hands the images that a step predicts to `settings.watch`, decoded where it asks for them."""
    watch = settings.watch
    if watch is None:
        return None

    def handed_on(step: int, predicted: Tensor, noisy: Tensor, timestep: int) -> None:
        times = torch.full((len(noisy),), timestep, device=noisy.device)
        watch(step, lambda: decode(schedule.predict_x0(predicted, noisy, times)))

    return handed_on


def called(function: Callable[..., Any], compiled: bool, *inputs: Any) -> Any:
    """Call a function as it is, or compiled for each shape alone: a batch's bytes do not depend on batches before it.

    Raises UserError where it cannot be compiled.
    """
    if not compiled:
        return function(*inputs)
    from torch._dynamo.exc import TorchDynamoException

    try:
        return _compile(function)(*inputs)
    except TorchDynamoException as error:
        raise _compile_error(error) from error


@cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return torch.compile(function, dynamic=False)
    except RuntimeError as error:  # a Python or a platform that torch.compile does not support
        raise _compile_error(error) from error


def _compile_error(error: Exception) -> UserError:
    return UserError(f"generate.compile: torch.compile does not work here ({first_line(error)}); set it to false")
