"""The forecast of a study before it starts: steps, arithmetic, memory, disk and time.

Counted (counts.py): parameters, operations and memory of fine-tuning, operations of the base, of sampling and of
segmenters, operations and memory of membership attacks. Assumed: arithmetic per second of a device, bytes of an image
on disk. Left out: scoring, the search for copies, reading, writing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from pipeline.cli import counts
from pipeline.cli.counts import GeneratorCounts
from pipeline.cli.plan import (
    equal_costs,
    image_count,
    training_pairs,
    unlabelled_images,
    weight_sources,
)
from pipeline.cli.stage_work import StageWork, stage_work
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.finetune.params import Finetune
from pipeline.stages.finetune.presets import Preset, under
from pipeline.study import Params

if TYPE_CHECKING:  # it loads torch
    from pipeline.core.runtime import Sharding

PAIR_BYTES = 1.54  # of an image with its mask on disk, per pixel; measured at 384 pixels (docs/scaling.md)
MAP_BYTES = 1  # at most, of a plane of the judge's map of a synthetic image, per pixel: compression is not counted on
CHECKPOINT_BYTES = 12  # of a trained weight with Adam's two states
COPIES = 2  # DVC's cache keeps an output a second time, where the file system cannot share files
CPU_TFLOPS = 0.05  # of one core, assumed; the demo's stages reach 0.02 to 0.08 on cores with AVX-512
GPU_TFLOPS = 60.0  # of one GPU in training, assumed where the user gives no number
GIB = 2**30
SINGLE_DEVICE = ("base", "pseudo_labels", "judge", "audit")  # stages that run on one device whatever the launch


@dataclass(frozen=True)
class DiskUsage:
    """Bytes on disk."""

    base: float
    generators: float
    checkpoints: float  # while training
    images: float | None  # real and synthetic, with the judge's maps; None: known with the data

    @property
    def total(self) -> float:
        """Bytes of everything, with DVC's second copy of what is published."""
        return COPIES * (self.base + self.generators + (self.images or 0)) + self.checkpoints


@dataclass(frozen=True)
class Machine:
    """A machine that a study may run on."""

    name: str
    devices: int
    memory: float  # bytes of one device
    tflops: float  # of one device, assumed
    sharding: Literal["none", "fsdp2", "zero2"] = "none"
    preset: Preset | None = None

    def settings(self, finetune: Finetune) -> Finetune:
        """Return the study's section as it would run here."""
        return finetune if self.preset is None else under(finetune, self.preset)


@dataclass(frozen=True)
class MachineFit:
    """Memory and time of a study on a machine."""

    machine: str
    devices: int
    memory: float  # bytes of one device
    needed: float | None  # bytes of the heaviest fine-tuning; None: nothing is fine-tuned
    hours: Mapping[str, float]  # by stage, of what was counted
    uncounted: tuple[str, ...] = ()  # stages with entries whose operations are unknown
    conflict: str | None = None  # why the settings of fine-tuning cannot run under the machine's launch
    attacks: float | None = None  # bytes of the heaviest membership attacks; None: there are none

    @property
    def fits(self) -> bool:
        """Whether fine-tuning can run and fits its devices, and the attacks fit one."""
        return self.conflict is None and max(self.needed or 0.0, self.attacks or 0.0) <= self.memory


@dataclass(frozen=True)
class Forecast:
    """Everything that is known of a study before it starts."""

    study: str
    pairs: int | None  # real training pairs
    costs: Mapping[str, Cost | None]  # by generator entry; None: nothing to train
    work: tuple[StageWork, ...]
    disk: DiskUsage
    fits: tuple[MachineFit, ...]

    def record(self) -> dict[str, Any]:
        """Return the forecast as JSON values."""
        disk = asdict(self.disk) | {"total": self.disk.total}
        return asdict(self) | {"disk": disk, "fits": [asdict(fit) | {"fits": fit.fits} for fit in self.fits]}


def preset_machine(name: str, preset: Preset) -> Machine:
    """Return the machine that a preset describes."""
    title = f"PRESET={name} LAUNCH={preset.launch}"
    return Machine(title, preset.devices, preset.memory_gib * GIB, preset.tflops, preset.sharding, preset)


def forecast(params: Params, machines: Sequence[Machine], pairs: int | None = None) -> Forecast:
    """Count a study for some machines; `pairs` where neither the study's name nor its data tells how many there are."""
    pairs = pairs or training_pairs(params.study, params.data)
    costs, heaviest = generator_costs(params)
    work = tuple(stage_work(params, costs, pairs))
    attacked = counts.attacks(GeneratorCounts(params, name) for name in params.generators)
    attacks = max((cost.bytes for cost in attacked.values()), default=None)
    fits = tuple(_fit(params.finetune, heaviest, work, machine, attacks) for machine in machines)
    return Forecast(params.study, pairs, costs, work, disk_usage(params, costs, pairs), fits)


def generator_costs(params: Params) -> tuple[dict[str, Cost | None], tuple[GeneratorCounts, ...]]:
    """Return the cost of every generator entry (None: nothing to train), and the entries that may need most memory.

    These are the one with the most operations, which has the most activations, and the one with the most weights.
    Which of them needs more depends on the micro-batch. Often they are one.
    """
    costs: dict[str, Cost | None] = {}
    trained: dict[str, Cost] = {}  # by the first of the entries that cost the same
    for names in equal_costs(params.generators):
        cost = GeneratorCounts(params, names[0]).cost()
        costs |= dict.fromkeys(names, cost)
        trained |= {} if cost is None else {names[0]: cost}
    by_work = max(trained, key=lambda name: (trained[name].late, trained[name].trained), default=None)
    by_weights = max(trained, key=lambda name: (trained[name].trained, trained[name].late), default=None)
    heaviest = [name for name in dict.fromkeys((by_work, by_weights)) if name is not None]
    return (
        {name: costs[name] for name in params.generators},
        tuple(GeneratorCounts(params, name) for name in heaviest),
    )


def needed_memory(
    heaviest: Sequence[GeneratorCounts], settings: Finetune, devices: int, sharding: "Sharding"
) -> tuple[GeneratorCounts, float] | None:
    """Return the entry that needs most memory, and its bytes per device; None where nothing is fine-tuned."""
    found = [(one, one.finetuning_bytes(settings, devices, sharding)) for one in heaviest]
    known = [(one, needed) for one, needed in found if needed is not None]
    return max(known, key=lambda pair: pair[1], default=None)


def disk_usage(params: Params, costs: Mapping[str, Cost | None], pairs: int | None) -> DiskUsage:
    """Return the bytes that the outputs take; the training sets are links."""
    sources = weight_sources(params.generators)
    trained = [cost.trained for name, cost in costs.items() if cost is not None and sources[name] == name]
    kept, checkpoints = (1 + len(params.finetune.snapshots), params.finetune.keep_checkpoints) if trained else (0, 0)
    unlabelled = unlabelled_images(params.data)
    numbers = [image_count(entry, pairs, unlabelled) for entry in params.generators.values()]
    known = pairs is not None and None not in numbers
    pixels = prod(params.data.shape or (params.data.size,) * 2)
    synthetic = sum(number or 0 for number in numbers)
    total_pixels = ((pairs or 0) + unlabelled + synthetic) * pixels
    planes = 1 if params.data.num_classes == 2 else params.data.num_classes
    maps = MAP_BYTES * planes * synthetic * pixels if params.score.judge_maps else 0
    return DiskUsage(
        0.0 if params.base is None else counts.base_bytes(params.base, params.data.size),
        counts.WEIGHT_BYTES * kept * sum(trained),
        CHECKPOINT_BYTES * checkpoints * max(trained, default=0),
        PAIR_BYTES * total_pixels + maps if known else None,
    )


def _fit(
    finetune: Finetune,
    heaviest: Sequence[GeneratorCounts],
    work: Sequence[StageWork],
    machine: Machine,
    attacks: float | None,
) -> MachineFit:
    needed, conflict = None, None
    if heaviest:
        settings = machine.settings(finetune)
        found = needed_memory(heaviest, settings, machine.devices, machine.sharding)
        needed = found and found[1]
        if settings.optimizer == "adamw_8bit" and machine.sharding != "none":
            conflict = "adamw_8bit cannot be sharded"
    rate = machine.tflops * 1e12 * 3600
    hours: dict[str, float] = {}
    for part in work:
        devices = 1 if part.stage in SINGLE_DEVICE else machine.devices
        hours[part.stage] = hours.get(part.stage, 0.0) + (part.operations or 0.0) / rate / devices
    uncounted = tuple(dict.fromkeys(part.stage for part in work if part.operations is None))
    return MachineFit(machine.name, machine.devices, machine.memory, needed, hours, uncounted, conflict, attacks)
