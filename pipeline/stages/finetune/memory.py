"""Before anything starts: parameters, arithmetic and memory of fine-tuning an entry, counted on the meta device.

Counted: every weight, operation and activation of the plug-in's own forward and backward pass. Assumed: RESERVE (what
the driver, kernels and fragmentation take), and the arithmetic per second of a device. Left out: networks that find
edges for a hint. docs/paper_studies.md tells how far the counted memory is from measured peaks.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import paths, plugins
from pipeline.core.contracts import TrainingFreeGenerator
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime, Sharding
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import encode
from pipeline.stages.finetune.empty_base import empty_base
from pipeline.stages.finetune.generator import options
from pipeline.stages.finetune.meta_profiler import footprint, operations
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params

META = torch.device("meta")
GB = 1e9
RESERVE = 1.2 * GB  # assumed: CUDA context, workspaces of kernels, fragmentation
STATES = {"adamw": 8, "adamw_8bit": 2}  # bytes of optimiser states per trained weight
MASTER = 4  # bytes of a weight
SMALL = 40  # of a U-Net so many times smaller than the memory, weights, gradients and states take a tenth of it


@dataclass(frozen=True)
class Cost:
    """What one generator entry trains and computes."""

    trained: int  # parameters
    frozen: int  # parameters of the denoiser that stay on the device untrained
    early: float  # operations per sample of a training step
    late: float  # the same after K_tau, the mean over timesteps
    switch: float  # share of training that is early

    @property
    def mean(self) -> float:
        """Operations per sample over the whole training."""
        return self.switch * self.early + (1 - self.switch) * self.late


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
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.frozen + self.activations + self.reserve


class Subject:
    """One generator entry over an empty base."""

    def __init__(self, params: Params, generator: str) -> None:
        self.params, entry = params, params.generators[generator]
        self.method, self.own = entry.method_of(generator), options(generator, entry)

    def build(self, settings: Finetune, own: Section | None = None) -> Any:
        """The generator without weights, ready for training; None where the method trains nothing."""
        plain = settings.model_copy(update={"attention": "sdpa", "compile": False})  # neither changes what is counted
        spec = DatasetSpec(name=self.params.study, size=self.params.data.size, num_classes=self.params.data.num_classes)
        with META:
            base = empty_base(self.params.base, self.params.data.size)
            model = plugins.load("generators", self.method).build(_of_masks(own or self.own), base, spec)
            if isinstance(model, TrainingFreeGenerator):
                return None
            model.prepare(plain)
        return model

    def cost(self) -> Cost | None:
        """Parameters and arithmetic; None where the method trains nothing."""
        plain = self.params.finetune.model_copy(update={"gradient_checkpointing": False, "precision": "fp32"})
        model, size = self._worst(plain), self.params.data.size
        if model is None:
            return None
        trained = sum(weight.numel() for weight in _trained(model.objective))
        frozen = sum(weight.numel() for weight in _held(model) if not weight.requires_grad)
        early = late = operations(lambda: _loss(model, size, 1, 0.0))
        share, switch = _late(self.own)
        if share:
            late += share * (operations(lambda: _loss(model, size, 1, 1.0)) - early)
        return Cost(trained, frozen, early, late, switch)

    def memory(self, settings: Finetune, world: int = 1, sharding: Sharding = "none") -> Memory | None:
        """Memory of one of `world` devices; None where the method trains nothing."""
        model = self._worst(settings)
        if model is None:
            return None
        trained = _trained(model.objective)
        weights = sum(weight.numel() for weight in trained)
        frozen = _bytes(weight for weight in _held(model) if not weight.requires_grad)
        batch = settings.micro_batch or -(-settings.global_batch // world)
        batch = min(batch, -(-settings.global_batch // world))
        states = STATES[settings.optimizer] + (MASTER if settings.ema_decay is not None else 0)
        return Memory(*_dealt(weights, states, world, sharding), frozen, self.activations(settings, batch, model))

    def activations(self, settings: Finetune, batch: int, model: Any = None) -> int:
        """Most bytes beyond weights and gradients that a step on `batch` samples needs."""
        model = model or self._worst(settings)
        for weight in _trained(model.objective):
            weight.grad = torch.empty_like(weight)
        size = self.params.data.size
        return footprint(lambda: _loss(model, size, batch, 1.0), settings.precision == "bf16").peak

    def batch(self, samples: int) -> LatentBatch:
        """Shapes of a batch."""
        return _batch(Bare(empty_base(self.params.base, self.params.data.size)), self.params.data.size, samples)

    @property
    def worst(self) -> Section:
        """The entry's parameters where every sample of a late step is the most expensive."""
        return self.own.model_copy(update={"t_tau": 999}) if _late(self.own)[0] else self.own

    def _worst(self, settings: Finetune) -> Any:
        return self.build(settings, self.worst)


def _of_masks(own: Section) -> Section:
    """The entry with masks as hints: edges need real images and weights, and cost little beside the denoiser."""
    if "conditioning" not in type(own).model_fields:
        return own
    return own.model_copy(update={"conditioning": "mask", "conditioning_params": {}})


def _dealt(weights: int, states: int, world: int, sharding: Sharding) -> tuple[float, float, float]:
    """Bytes of trained weights, gradients and optimiser states on one of `world` devices.

    Sharded: whole weights beside a device's own share of them. ZeRO-2 deals gradients as they come; FSDP2 holds all
    weights as one group, so that whole gradients are there before they are dealt.
    """
    whole = float(weights * MASTER)
    if sharding == "none" or world == 1:
        return whole, whole, float(weights * states)
    gradients = whole * (1 + 1 / world) if sharding == "fsdp2" else whole / world
    return whole * (1 + 1 / world), gradients, weights * states / world


def _trained(objective: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in objective.parameters() if weight.requires_grad]


def _held(model: Any) -> Iterator[nn.Parameter]:
    """Weights on the device while the generator trains: the denoiser's and the objective's, each once."""
    seen: set[int] = set()
    for module in (model.model.unet, model.objective):
        for weight in module.parameters():
            if id(weight) not in seen:
                seen.add(id(weight))
                yield weight


def _bytes(weights: Iterator[nn.Parameter]) -> float:
    return float(sum(weight.numel() * weight.element_size() for weight in weights))


def _late(own: Section) -> tuple[float, float]:
    """Share of samples with the extra pass of a late step, and share of training before it; (0, 1) without one."""
    values: Mapping[str, Any] = own.model_dump()
    if not values.get("w_a") or "t_tau" not in values:
        return 0.0, 1.0
    return (values["t_tau"] + 1) / 1000, values["k_tau"]


def _loss(model: Any, size: int, batch: int, progress: float) -> Tensor:
    losses = model.objective(_batch(model, size, batch), progress)
    return torch.stack([value.float() for value in losses.values()]).sum()


def _batch(model: Any, size: int, batch: int) -> LatentBatch:
    """Samples without content, shaped as those that training sees."""
    base, side = model.model, size // model.model.factor
    channels = 2 * base.vae.config["latent_channels"]
    text = base.text_encoder.config
    with META:
        return LatentBatch(
            torch.empty(batch, channels, side, side),
            torch.empty(batch, text.max_position_embeddings, text.hidden_size),
            torch.empty(batch, 3, size, size),
            torch.zeros(batch, size, size, dtype=torch.long),
            tuple(map(str, range(batch))),
        )


def check_fits(subject: Subject, settings: Finetune, available: float, world: int, sharding: Sharding) -> Memory | None:
    """The memory needed. Raises UserError where a device has fewer bytes, naming settings that would fit."""
    needed = subject.memory(settings, world, sharding)
    if needed is None or needed.total <= available:
        return needed
    fits = next(
        (how for how, other in _lighter(settings) if _total(subject, other, world, sharding) <= available), None
    )
    advice = f"try {fits}" if fits else "try LAUNCH=gpu8_zero2 on several GPUs, a GPU with more memory, or lora_rank"
    raise UserError(
        f"fine-tuning needs about {needed.total / GB:.0f} GB per device with these settings,"
        f" the device has {available / GB:.0f}; {advice}"
    )


def _total(subject: Subject, settings: Finetune, world: int, sharding: Sharding) -> float:
    needed = subject.memory(settings, world, sharding)
    return 0.0 if needed is None else needed.total


def _lighter(settings: Finetune) -> Iterator[tuple[str, Finetune]]:
    """Settings that need less memory and leave the method as it is, the fastest first."""
    batch = settings.micro_batch or settings.global_batch
    for checkpointing in (False, True):
        for size in (4, 2, 1):
            changed = {"micro_batch": size, "gradient_checkpointing": checkpointing}
            if size <= batch and (checkpointing or not settings.gradient_checkpointing):
                told = f"micro_batch {size}" + (" with gradient_checkpointing true" if checkpointing else "")
                yield told, settings.model_copy(update=changed)


def sampling_operations(params: Params) -> float:
    """Operations of one synthetic image: denoiser and control at every step, twice under guidance, and one decoding."""
    base, size = empty_base(params.base, params.data.size), params.data.size
    batch, unet = _batch(Bare(base), size, 1), base.unet
    decode: Any = base.vae.decode  # diffusers asks for FloatTensor
    noisy = batch.moments[:, : batch.moments.shape[1] // 2]
    with META, torch.no_grad(), FlopCounterMode(display=False) as step:
        times = torch.zeros(1, dtype=torch.long)
        unet(noisy, times, batch.text)
        encode(unet, noisy, times, batch.text)  # a control branch is a copy of the encoder
    with META, torch.no_grad(), FlopCounterMode(display=False) as decoding:
        decode(noisy)
    passes = params.generate.steps * (2 if params.generate.guidance_scale > 1 else 1)
    return float(passes * step.get_total_flops() + decoding.get_total_flops())


@dataclass(frozen=True)
class Bare:
    """A base in the place of a generator."""

    model: StableDiffusion


def check_device(params: Params, generator: str, settings: Finetune, runtime: Runtime) -> None:
    """Raises UserError where training would not fit the GPU, before anything is put there, or the machine.

    On a CPU a base that is small beside the memory is not counted: it fits, and counting takes seconds.
    """
    available = runtime.memory()
    weights = sum(file.stat().st_size for file in (paths.base(params.study) / "unet").glob("*.safetensors"))
    if runtime.device.type == "cpu" and weights < available / SMALL:
        return
    published = params.base.model_copy(update={"source": str(paths.base(params.study))})
    subject = Subject(params.model_copy(update={"base": published}), generator)
    check_fits(subject, settings, available, runtime.world, runtime.sharding)
