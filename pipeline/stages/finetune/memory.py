"""Estimates before fine-tuning: parameters, arithmetic and memory of an entry, counted on the meta device.

Counted: every weight, operation and activation of the plug-in's own forward and backward pass. Assumed: RESERVE (what
the driver, kernels and fragmentation take), and the arithmetic per second of a device. Left out: networks that find
edges for a hint. docs/paper_studies.md compares the counted memory with measured peaks.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import paths, plugins
from pipeline.core.contracts import Generator
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime, Sharding
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, encode, no_control
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.blank_batches import META, base_of, blank_batch, blank_latents, blank_pixels
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.finetune.empty_base import empty_base
from pipeline.stages.finetune.generator import options
from pipeline.stages.finetune.meta_profiler import footprint, operations
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params
from pipeline.training.strategy import trainable_parameters

GB = 1e9
RESERVE = 1.2 * GB  # assumed: CUDA context, workspaces of kernels, fragmentation
STATES = {"adamw": 8, "adamw_8bit": 2}  # bytes of optimiser states per trained weight
MASTER = 4  # bytes of a weight
SIZES = (16, 8, 4, 2, 1)  # micro-batches that are tried
NOTHING_FITS = (
    "no micro-batch fits, not even with gradient_checkpointing; take a GPU with more memory, LAUNCH=gpu8_zero2 on"
    " several GPUs, or finetune.lora_rank, which is another method"
)
SMALL = 40  # of a U-Net so many times smaller than the memory, weights, gradients and states take a tenth of it


@dataclass(frozen=True)
class Memory:
    """Bytes of one device in training."""

    weights: float
    gradients: float
    optimizer: float
    frozen: float
    activations: float  # at the worst moment, short-lived tensors and weights cast to bf16 included
    reserve: float = RESERVE

    @property
    def total(self) -> float:
        """The sum."""
        return self.weights + self.gradients + self.optimizer + self.frozen + self.activations + self.reserve


class GeneratorProfiler:
    """Profiles one generator entry over an empty base, or over none where the method uses none."""

    def __init__(self, params: Params, generator: str) -> None:
        self.params, entry = params, params.generators[generator]
        self.uses_base = entry.uses_base(generator)
        self.method, self.method_params = entry.method_of(generator), options(generator, entry)

    def build(self, settings: Finetune, method_params: Section | None = None) -> Any:
        """Build the generator without weights, ready for training; None where the method trains nothing."""
        plain = settings.model_copy(update={"attention": "sdpa", "compile": False})  # neither changes what is counted
        spec = DatasetSpec(name=self.params.study, size=self.params.data.size, num_classes=self.params.data.num_classes)
        with META:
            base = empty_base(self.params.base, self.params.data.size) if self.uses_base else None
            hinted = _with_mask_hints(method_params or self.method_params)
            model = plugins.load("generators", self.method).build(hinted, base, spec)
            if not isinstance(model, Generator):
                return None
            model.prepare(plain)
        return model

    def cost(self) -> Cost | None:
        """Count parameters and arithmetic; None where the method trains nothing."""
        plain = self.params.finetune.model_copy(update={"gradient_checkpointing": False, "precision": "fp32"})
        model, size = self._build_worst_case(plain), self.params.data.size
        if model is None:
            return None
        trained = sum(weight.numel() for weight in trainable_parameters(model.objective))
        frozen = sum(weight.numel() for weight in _weights_on_device(model) if not weight.requires_grad)
        early = late = operations(lambda: _loss(model, size, 1, 0.0))
        share, switch = _late_steps(self.method_params)
        if share:
            share = _with_filling(share, self.params.finetune) if self.params.finetune.compile else share
            late += share * (operations(lambda: _loss(model, size, 1, 1.0)) - early)
        return Cost(trained, frozen, early, late, switch)

    def memory(self, settings: Finetune, world: int = 1, sharding: Sharding = "none") -> Memory | None:
        """Estimate the memory of one of `world` devices; None where the method trains nothing."""
        model = self._build_worst_case(settings)
        if model is None:
            return None
        trained = trainable_parameters(model.objective)
        weights = sum(weight.numel() for weight in trained)
        frozen = _bytes(weight for weight in _weights_on_device(model) if not weight.requires_grad)
        batch = settings.micro_batch or -(-settings.global_batch // world)
        batch = min(batch, -(-settings.global_batch // world))
        states = STATES[settings.optimizer] + (MASTER if settings.ema_decay is not None else 0)
        return Memory(*_model_bytes(weights, states, world, sharding), frozen, self.activations(settings, batch, model))

    def activations(self, settings: Finetune, batch: int, model: Any = None) -> int:
        """Return the most bytes beyond weights and gradients that a step on `batch` samples needs."""
        model = model or self._build_worst_case(settings)
        for weight in trainable_parameters(model.objective):
            weight.grad = torch.empty_like(weight)
        size = self.params.data.size
        return footprint(lambda: _loss(model, size, batch, 1.0), settings.precision == "bf16").peak

    def batch(self, samples: int) -> LatentBatch:
        """Return a batch of so many samples without content."""
        return blank_latents(empty_base(self.params.base, self.params.data.size), self.params.data.size, samples)

    def pass_operations(self) -> float:
        """Count the operations of one pass of the network of a method without a base, on one image."""
        model, images = self.build(self.params.finetune), blank_pixels(self.params.data.size, 1).image
        with META, torch.no_grad(), FlopCounterMode(display=False) as counter:
            mask = images[:, :1]
            model.network(torch.cat([images, mask], dim=1), torch.zeros(1, dtype=torch.long))
        return float(counter.get_total_flops())

    @property
    def worst_case(self) -> Section:
        """The entry's parameters where every sample of a late step is the most expensive."""
        has_late_steps = _late_steps(self.method_params)[0]
        return self.method_params.model_copy(update={"t_tau": 999}) if has_late_steps else self.method_params

    def _build_worst_case(self, settings: Finetune) -> Any:
        return self.build(settings, self.worst_case)


def _with_mask_hints(method_params: Section) -> Section:
    """Return the parameters with masks as hints: edges need real images and weights, and cost little."""
    if "conditioning" not in type(method_params).model_fields:
        return method_params
    return method_params.model_copy(update={"conditioning": "mask", "conditioning_params": {}})


def _model_bytes(weights: int, states: int, world: int, sharding: Sharding) -> tuple[float, float, float]:
    """Return the bytes of trained weights, gradients and optimiser states on one of `world` devices.

    Sharded: full weights beside a device's shard of them. ZeRO-2 partitions gradients as they come; FSDP2 holds all
    weights as one group, so that full gradients exist before they are sharded.
    """
    full = float(weights * MASTER)
    if sharding == "none" or world == 1:
        return full, full, float(weights * states)
    gradients = full * (1 + 1 / world) if sharding == "fsdp2" else full / world
    return full * (1 + 1 / world), gradients, weights * states / world


def _weights_on_device(model: Any) -> Iterator[nn.Parameter]:
    """Yield the weights on the device in training: the base's denoiser's and the objective's, each once."""
    ids, base = set[int](), base_of(model)
    for module in (model.objective,) if base is None else (base.unet, model.objective):
        for weight in module.parameters():
            if id(weight) not in ids:
                ids.add(id(weight))
                yield weight


def _bytes(weights: Iterator[nn.Parameter]) -> float:
    return float(sum(weight.numel() * weight.element_size() for weight in weights))


def _late_steps(method_params: Section) -> tuple[float, float]:
    """Return the share of samples with a late step's extra pass, and of training before it; (0, 1) without one."""
    values: Mapping[str, Any] = method_params.model_dump()
    if not values.get("w_a") or "t_tau" not in values:
        return 0.0, 1.0
    return (values["t_tau"] + 1) / 1000, values["k_tau"]


def _with_filling(share: float, settings: Finetune) -> float:
    """Return the share of samples in a late step's extra passes, all of one size, the last filled up (compile).

    So many passes as it takes for n samples of a batch, n binomial.
    """
    batch = settings.micro_batch or settings.global_batch
    size = -(-batch * round(1000 * share) // 1000)
    chances = (math.comb(batch, n) * share**n * (1 - share) ** (batch - n) for n in range(batch + 1))
    return sum(chance * -(-n // size) * size for n, chance in enumerate(chances)) / batch


def _loss(model: Any, size: int, batch: int, progress: float) -> Tensor:
    losses = model.objective(blank_batch(model, size, batch), progress)
    return torch.stack([value.float() for value in losses.values()]).sum()


def check_fits(
    profiler: GeneratorProfiler, settings: Finetune, available: float, world: int, sharding: Sharding
) -> Memory | None:
    """Estimate the memory. Raises UserError where a device has fewer bytes, naming settings that would fit."""
    estimate = profiler.memory(settings, world, sharding)
    if estimate is None or estimate.total <= available:
        return estimate
    lighter = lighter_settings(profiler, settings, available, world, sharding)
    advice = f"try {described(lighter)}" if lighter else NOTHING_FITS
    raise UserError(
        f"fine-tuning needs about {estimate.total / GB:.0f} GB per device with these settings,"
        f" the device has {available / GB:.0f}; {advice}"
    )


def _total_bytes(profiler: GeneratorProfiler, settings: Finetune, world: int, sharding: Sharding) -> float:
    estimate = profiler.memory(settings, world, sharding)
    return 0.0 if estimate is None else estimate.total


def lighter_settings(
    profiler: GeneratorProfiler, settings: Finetune, available: float, world: int, sharding: Sharding
) -> Finetune | None:
    """Return the fastest settings that fit so many bytes and do not change the method; None where none do.

    A large micro-batch comes before a small one, and checkpointing, which adds arithmetic, comes last.
    """

    def fits(other: Finetune) -> bool:
        return _total_bytes(profiler, other, world, sharding) <= available

    most = settings.micro_batch or -(-settings.global_batch // world)
    for checkpointing in (True,) if settings.gradient_checkpointing else (False, True):
        changes = [{"micro_batch": size, "gradient_checkpointing": checkpointing} for size in SIZES if size <= most]
        options = [settings.model_copy(update=changed) for changed in changes]
        if fits(options[-1]):  # of one sample; else no larger one is worth the count
            return next(option for option in options if fits(option))
    return None


def described(settings: Finetune) -> str:
    """Return the settings that decide about memory in words."""
    more = " with gradient_checkpointing true" if settings.gradient_checkpointing else ""
    return f"micro_batch {settings.micro_batch}{more}"


def sampling_operations(base: Base, size: int, steps: int, guidance_scale: float, hints: int = 1) -> float:
    """Count the operations of one synthetic image: denoiser and control per step and branch, and one decoding.

    The control branch runs once for each of the hints.
    """
    model = empty_base(base, size)
    batch, unet = blank_latents(model, size, 1), model.unet
    decode: Any = model.vae.decode  # diffusers asks for FloatTensor
    noisy, decoder = batch.moments[:, : batch.moments.shape[1] // 2], UNetDecoder(unet)
    with META, torch.no_grad(), FlopCounterMode(display=False) as step:
        times = torch.zeros(1, dtype=torch.long)
        encoded = encode(unet, noisy, times, batch.text)
        decoder(encoded, no_control(encoded), batch.text)
        for _ in range(hints):
            encode(unet, noisy, times, batch.text)  # a control branch is a copy of the encoder
    with META, torch.no_grad(), FlopCounterMode(display=False) as decoding:
        decode(noisy)
    passes = steps * (2 if guidance_scale > 1 else 1)
    return float(passes * step.get_total_flops() + decoding.get_total_flops())


def fit_device(params: Params, generator: str, settings: Finetune, runtime: Runtime, free: bool = False) -> Finetune:
    """Return the settings with which training fits the GPU, or the machine; `free`: those of memory may be chosen.

    Raises UserError where none do, before anything is moved to the GPU. On a CPU nothing is chosen, and a base that is
    small beside the memory is not counted: it fits, and counting takes seconds.
    """
    available = runtime.memory()
    if params.generators[generator].uses_base(generator):
        weights = sum(file.stat().st_size for file in (paths.base(params.study) / "unet").glob("*.safetensors"))
        if runtime.device.type == "cpu" and weights < available / SMALL:
            return settings
        published = params.base.model_copy(update={"source": str(paths.base(params.study))})
        params = params.model_copy(update={"base": published})
    profiler = GeneratorProfiler(params, generator)
    if free and runtime.device.type == "cuda":
        if _total_bytes(profiler, settings, runtime.world, runtime.sharding) <= available:
            return settings
        if lighter := lighter_settings(profiler, settings, available, runtime.world, runtime.sharding):
            return lighter
    check_fits(profiler, settings, available, runtime.world, runtime.sharding)
    return settings
