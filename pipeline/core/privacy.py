"""The keys `privacy` of a study (differentially private fine-tuning), and what cannot be combined with them."""

from typing import Any, Protocol

from pydantic import Field

from pipeline.core.section import Section

METHODS = ("controlnet",)  # whose loss is a mean over samples that share no pass through a layer
CONDITIONING = "mask"  # other hints show the real image when images are drawn
REASONS = {
    "max_grad_norm": "privacy.max_grad_norm clips the gradient of every sample instead",
    "schedule_steps": "a run that went on later would spend more than epsilon",
    "precision": "the norms of the gradients need float32",
    "gradient_checkpointing": "a layer that runs twice has no gradient per sample",
    "compile": "compiled layers have no gradient per sample",
    "channels_last": "the gradients per sample need the usual memory format",
}  # keys of finetune that must keep their defaults


class Privacy(Section):
    """Differentially private fine-tuning (DP-SGD, Abadi et al. 2016)."""

    epsilon: float = Field(gt=0)
    """Budget of the whole fine-tuning. The smaller it is, the less the weights reveal of any one training pair, and the
    more noise they get.
    """
    delta: float = Field(gt=0, lt=1)
    """Probability with which the bound may fail. It must lie below 1 / training pairs; a tenth of this is usual."""
    max_grad_norm: float = Field(gt=0)
    """Limit to which the norm of the gradient of each sample is clipped."""


class PrivateEntry(Protocol):
    """What the check reads of an entry of `generators`."""

    @property
    def privacy(self) -> Privacy | None: ...
    @property
    def control(self) -> str: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def needs_real_images(self) -> bool: ...
    def method_of(self, name: str) -> str: ...
    def learns(self, name: str) -> bool: ...


def check_private(name: str, entry: PrivateEntry, settings: Any, base: str | None, sensor_noise: bool = False) -> None:
    """Raise ValueError where an entry is to be trained privately and something in the study stands against it.

    `settings` are those of the entry's fine-tuning (a section Finetune), `base` is base.source, and `sensor_noise` is
    generate.sensor_noise.
    """
    where, method = f"generators.{name}", entry.method_of(name)
    if entry.privacy is not None and not entry.learns(name):
        raise ValueError(f"{where}.privacy: {method} is not fine-tuned; remove it")
    if settings.privacy is None or not entry.learns(name):
        return
    if method not in METHODS:
        raise ValueError(
            f"{where}: privacy needs a method whose samples share nothing, found {method!r}; use"
            f" {' or '.join(METHODS)}, or set privacy at other entries only"
        )
    if base == "scratch":
        raise ValueError(
            f"{where}: privacy says nothing where base.source is scratch, because the base sees the same training"
            " images without noise; set base.source to a base of other images, such as the one of another study"
        )
    hint = entry.options.get("conditioning", CONDITIONING)
    if hint != CONDITIONING:
        raise ValueError(f"{where}.conditioning {hint!r} shows real images when drawing; with privacy use mask")
    if entry.needs_real_images or entry.control != "mask":
        raise ValueError(
            f"{where}: with privacy no pixel of a training image may reach the drawn images; remove keep_background,"
            " from_image and control"
        )
    if sensor_noise:
        raise ValueError(
            f"{where}: generate.sensor_noise measures the noise of the training images, which epsilon does not cover;"
            " with privacy set it to false"
        )
    check_settings(settings)


def check_settings(settings: Any) -> None:
    """Raise ValueError where a private fine-tuning cannot have these settings (a section Finetune)."""
    if settings.privacy is None:
        return
    if settings.lora_rank is None:
        raise ValueError("finetune.lora_rank is null; privacy needs low-rank updates, so set it, for example to 4")
    for key, reason in REASONS.items():
        value, needed = getattr(settings, key), type(settings).model_fields[key].default
        if value != needed:
            shown = "null" if needed is None else str(needed).lower()
            raise ValueError(f"finetune.{key} is {value}, but with privacy {reason}; set it to {shown}")
