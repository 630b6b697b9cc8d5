"""What a study takes, told before it starts: steps, arithmetic, memory, disk and time.

Counted: parameters, operations and memory of fine-tuning (estimates), operations of the base, of sampling and of
segmenters (stage_costs). Assumed: arithmetic per second of a device, bytes of an image on disk. Left out: scoring,
reading and writing. Real images are those of train; where the split is drawn, validation is taken from them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.decoding import Fault
from pipeline.stages.finetune.params import Finetune, GeneratorEntry
from pipeline.stages.finetune.presets import Preset, under
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params

if TYPE_CHECKING:  # they load torch
    from pipeline.stages.finetune.memory import Cost, Subject

PAIRS = {"pranet": 1450, "kvasir": 1000}  # training pairs of published sets, before validation is drawn from them
PAIRS_OF = {"isic2016": 900, "isic2018": 2594, "stain": 300, "faeces": 275}  # by study
PAIR_BYTES = 1.54  # of an image with its mask on disk, per pixel; measured at 384 pixels (docs/scaling.md)
WEIGHT_BYTES, CHECKPOINT_BYTES = 4, 12  # of a trained weight; with Adam's two states
COPIES = 2  # DVC's cache keeps an output a second time, where the file system cannot share files
CPU_TFLOPS = 0.05  # of one core, assumed; the demo's stages reach 0.02 to 0.08 on cores with AVX-512
GPU_TFLOPS = 60.0  # of one GPU in training, assumed where nothing else is told
GIB = 2**30


@dataclass(frozen=True)
class Work:
    """What one entry of one stage computes."""

    stage: str
    entry: str
    steps: int | None  # optimiser steps of all its trainings; of generation: images; None: known with the data
    operations: float | None  # floating-point operations, 2 per multiplication with addition; None: not counted


@dataclass(frozen=True)
class Disk:
    """Bytes."""

    base: float
    generators: float
    checkpoints: float  # while training
    images: float | None  # real and synthetic; None: known with the data

    @property
    def total(self) -> float:
        """All, with DVC's second copy of what is published."""
        return COPIES * (self.base + self.generators + (self.images or 0)) + self.checkpoints


@dataclass(frozen=True)
class Machine:
    """What a study may run on."""

    name: str
    devices: int
    memory: float  # bytes of one device
    tflops: float  # of one device, assumed
    sharding: Literal["none", "fsdp2", "zero2"] = "none"
    preset: Preset | None = None

    def settings(self, finetune: Finetune) -> Finetune:
        """The study's section as it would run here."""
        return finetune if self.preset is None else under(finetune, self.preset)


@dataclass(frozen=True)
class Fit:
    """A study on a machine."""

    machine: str
    devices: int
    memory: float  # bytes of one device
    needed: float | None  # bytes of the heaviest fine-tuning; None: nothing is fine-tuned
    hours: Mapping[str, float]  # by stage

    @property
    def fits(self) -> bool:
        """Whether fine-tuning fits its devices."""
        return self.needed is None or self.needed <= self.memory


@dataclass(frozen=True)
class Forecast:
    """All of it."""

    study: str
    pairs: int | None  # real training pairs
    costs: Mapping[str, "Cost | None"]  # by generator entry; None: nothing to train
    work: tuple[Work, ...]
    disk: Disk
    fits: tuple[Fit, ...]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        disk = asdict(self.disk) | {"total": self.disk.total}
        return asdict(self) | {"disk": disk, "fits": [asdict(fit) | {"fits": fit.fits} for fit in self.fits]}


def of_preset(name: str, preset: Preset) -> Machine:
    """The machine that a preset describes."""
    return Machine(name, preset.devices, preset.memory_gib * GIB, preset.tflops, preset.sharding, preset)


def forecast(params: Params, machines: Sequence[Machine], pairs: int | None = None) -> Forecast:
    """Counts a study for some machines; `pairs` where neither its name nor its data tells how many there are."""
    pairs = pairs or known_pairs(params) or listed_pairs(params)
    subjects = {names[0]: names for names in alike(params).values()}
    costs: dict[str, Cost | None] = {}
    heaviest: tuple[Subject, Cost] | None = None
    for first, names in subjects.items():
        subject, cost = counted(params, first)
        costs |= dict.fromkeys(names, cost)
        if cost is not None and (heaviest is None or cost.late > heaviest[1].late):
            heaviest = subject, cost
    ordered = {name: costs[name] for name in params.generators}
    work = tuple(works(params, ordered, pairs))
    fits = tuple(_fit(params, heaviest and heaviest[0], work, machine) for machine in machines)
    return Forecast(params.study, pairs, ordered, work, disk(params, ordered, pairs), fits)


def counted(params: Params, generator: str) -> "tuple[Subject, Cost | None]":
    """One entry's cost."""
    from pipeline.stages.finetune.memory import Subject

    subject = Subject(params, generator)
    return subject, subject.cost()


def known_pairs(params: Params) -> int | None:
    """Training pairs of a study without its data; None where only the data tells."""
    told = params.data.train_limit or params.data.own.get("train")
    return told or PAIRS_OF.get(params.study) or PAIRS.get(params.data.reader)


def listed_pairs(params: Params) -> int | None:
    """Training pairs that the reader lists, without decoding any; None where it cannot be read."""
    own = plugins.read_params("readers", params.data.reader, params.data.own, "data")
    try:
        items = list(plugins.load("readers", params.data.reader).read(params.data, own))
    except UserError:
        return None
    splits = [item.split or "train" for item in items if not isinstance(item, Fault)]
    drawn = sum({"val": params.data.val_share, "test": params.data.test_share}[s] for s in {"val", "test"} - {*splits})
    return round(splits.count("train") * (1 - drawn)) or None


def images(entry: GeneratorEntry, pairs: int | None) -> int | None:
    """Images that an entry generates; None where that depends on the data."""
    masks = entry.count or pairs
    return None if masks is None else masks * entry.copies


def alike(params: Params) -> dict[str, list[str]]:
    """Entries that cost the same: one method, and parameters that differ in the size of weights above 0 only."""
    groups: dict[str, list[str]] = {}
    for name, entry in params.generators.items():
        own = {key: value > 0 if isinstance(value, float) else value for key, value in entry.own.items()}
        relevant = {
            key: value for key, value in own.items() if key not in ("w_c", "w_m", "start") and value is not True
        }
        groups.setdefault(f"{entry.method or name} {sorted(relevant.items())}", []).append(name)
    return groups


def tuned(params: Params) -> dict[str, str]:
    """By entry the name of the first one with the same weights: itself, where it is fine-tuned."""
    first: dict[str, str] = {}
    shared = {}
    for name, entry in params.generators.items():
        key = f"{entry.method or name} {sorted(entry.own.items())} {entry.seed}"
        shared[name] = first.setdefault(key, name)
    return shared


def works(params: Params, costs: Mapping[str, "Cost | None"], pairs: int | None) -> Iterator[Work]:
    """Every stage's work in the order of the graph."""
    yield from _base(params)
    settings, shared = params.finetune, tuned(params)
    for name, cost in costs.items():
        if cost is not None and shared[name] == name:
            total = cost.mean * settings.max_steps * settings.global_batch
            yield Work("finetune", name, settings.max_steps, total)
    yield from _generation(params, pairs)
    yield from _segmenters(params, pairs)


def _base(params: Params) -> Iterator[Work]:
    from pipeline.cli.stage_costs import autoencoder_operations, denoiser_operations

    base = params.base
    if base is None or base.source != "scratch" or not base.autoencoder or not base.denoiser:
        return
    made, painted = base.autoencoder.max_steps, base.denoiser.max_steps
    yield Work("base", "autoencoder", made, autoencoder_operations(base) * made * base.autoencoder.batch_size)
    each = denoiser_operations(base, params.data.size)
    yield Work("base", "denoiser", painted, each * painted * base.denoiser.batch_size)


def _generation(params: Params, pairs: int | None) -> Iterator[Work]:
    from pipeline.stages.finetune.memory import sampling_operations

    each = sampling_operations(params) if params.generators else 0.0
    for name, entry in params.generators.items():
        number = images(entry, pairs)
        drawn = 0.0 if entry.method == "copy_paste" or name == "copy_paste" else each
        yield Work("generate", name, number, None if number is None else number * drawn)


def _segmenters(params: Params, pairs: int | None) -> Iterator[Work]:
    from pipeline.cli.stage_costs import segmenter_operations

    for name in params.segmenters:
        chosen, each = params.segment_for(name), segmenter_operations(params, name)
        if params.judge is not None and name == params.judge.segmenter:
            judged = params.judge.max_steps or chosen.max_steps or (chosen.steps(pairs) if pairs else None)
            yield Work("judge", name, judged, _product(each, judged, chosen.batch_size))
        sizes = [_arm(params, arm, pairs) for arm in params.training_sets.values()]
        steps = [chosen.max_steps or (chosen.steps(size) if size else None) for size in sizes]
        total = None if None in steps else sum(step or 0 for step in steps) * len(chosen.seeds)
        yield Work("segment", name, total, _product(each, total, chosen.batch_size))


def _arm(params: Params, arm: TrainingSet, pairs: int | None) -> int | None:
    """Images of a training set before screening."""
    if pairs is None or arm.generator is None:
        return pairs and pairs * arm.repeat
    masks = params.generators[arm.generator].count or pairs
    return pairs * arm.repeat + masks * arm.multiplier


def _product(each: float | None, steps: int | None, batch: int) -> float | None:
    return None if each is None or steps is None else each * steps * batch


def disk(params: Params, costs: Mapping[str, "Cost | None"], pairs: int | None) -> Disk:
    """Bytes that the outputs take; the training sets are links."""
    shared = tuned(params)
    trained = [cost.trained for name, cost in costs.items() if cost is not None and shared[name] == name]
    kept, checkpoints = (1 + len(params.finetune.snapshots), params.finetune.keep_checkpoints) if trained else (0, 0)
    numbers = [images(entry, pairs) for entry in params.generators.values()]
    known = pairs is not None and None not in numbers
    pixels = ((pairs or 0) + sum(number or 0 for number in numbers)) * prod(
        params.data.shape or (params.data.size,) * 2
    )
    return Disk(
        _base_bytes(params),
        WEIGHT_BYTES * kept * sum(trained),
        CHECKPOINT_BYTES * checkpoints * max(trained, default=0),
        PAIR_BYTES * pixels if known else None,
    )


def _base_bytes(params: Params) -> float:
    """Of the base's weights; 0 where the study has none."""
    if params.base is None:
        return 0.0
    from pipeline.networks.stable_diffusion.empty_base import empty_base

    base = empty_base(params.base, params.data.size)
    parts = (base.vae, base.text_encoder, base.unet)
    return float(WEIGHT_BYTES * sum(weight.numel() for part in parts for weight in part.parameters()))


def _fit(params: Params, subject: "Subject | None", work: Sequence[Work], machine: Machine) -> Fit:
    memory = None
    if subject is not None:
        memory = subject.memory(machine.settings(params.finetune), machine.devices, machine.sharding)
    rate = machine.tflops * 1e12 * 3600
    hours: dict[str, float] = {}
    for part in work:
        devices = 1 if part.stage in ("base", "judge") else machine.devices  # these stages run on one device
        hours[part.stage] = hours.get(part.stage, 0.0) + (part.operations or 0.0) / rate / devices
    return Fit(machine.name, machine.devices, machine.memory, None if memory is None else memory.total, hours)
