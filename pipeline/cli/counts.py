"""What is counted of a study's networks: parameters, operations and bytes; torch is loaded only to count anew."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.kept_counts import kept
from pipeline.core import plugins
from pipeline.core.pair_limit import PairLimit
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.audit.costs import AttackCost
from pipeline.stages.audit.params import AUTOENCODER
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.finetune.params import Finetune, GeneratorEntry
from pipeline.stages.prepare.params import Data
from pipeline.study import Params

if TYPE_CHECKING:  # it loads torch
    from pipeline.core.runtime import Sharding

WEIGHT_BYTES = 4
HINTS = {"mask": 1, "mask_image": 2}  # passes of the control network per step and branch, by an entry's control
UNCOUNTED = {  # keys of `finetune` that change neither memory nor operations
    *("max_steps", "schedule_steps", "learning_rate", "weight_decay", "schedule", "max_grad_norm", "flip"),
    *("prompt_dropout", "checkpoint_every", "keep_checkpoints", "validate_every", "sample_every", "tracker"),
    *("snapshots", "privacy"),
}
UNCOUNTED_OF_BASE: dict[str, Any] = {
    **{part: {"batch_size", "learning_rate"} for part in ("autoencoder", "denoiser")},
    "decoder": True,
}
COUNTED_OF_DECODER = {"max_steps", "batch_size", "latents", "sampling_steps"}


@dataclass(frozen=True)
class GeneratorCounts:
    """The counts of one generator entry."""

    params: Params
    name: str

    def cost(self) -> Cost | None:
        """Return parameters and operations; None where the entry trains nothing."""

        def count() -> dict[str, Any] | None:
            from pipeline.stages.finetune.memory import GeneratorProfiler

            cost = GeneratorProfiler(self.params, self.name).cost()
            return None if cost is None else asdict(cost)

        about = self._networks(), _finetune(self.params.finetune, {"global_batch", "micro_batch"})
        values = kept("generator", about, count)
        return None if values is None else Cost(**values)

    def finetuning_bytes(self, settings: Finetune, world: int = 1, sharding: "Sharding" = "none") -> float | None:
        """Return the bytes that fine-tuning needs on one of `world` devices; None where the entry trains nothing."""

        def count() -> float | None:
            from pipeline.stages.finetune.memory import GeneratorProfiler

            memory = GeneratorProfiler(self.params, self.name).memory(settings, world, sharding)
            return None if memory is None else memory.total

        return kept("finetuning", (self._networks(), _finetune(settings), world, sharding), count)

    def image_operations(self) -> float:
        """Return the operations of drawing one image; guidance costs a second pass where it acts."""
        entry, common = self.params.generators[self.name], self.params.generate.guidance_scale
        scale = entry.guidance_scale(self.name, common)
        low, high = (0.0, 1.0) if entry.guidance is None else entry.guidance.interval
        if (low, high) == (0.0, 1.0):
            return self._drawing(scale)
        return self._drawing(1.0) + (high - low) * (self._drawing(scale) - self._drawing(1.0))

    def _drawing(self, scale: float) -> float:
        """Return the operations of one image with the same guidance at every step."""
        entry, params = self.params.generators[self.name], self.params
        if entry.uses_base(self.name):
            about = params.base, params.data.size, params.generate.steps
            return sampling_operations(*about, scale, HINTS[entry.control])
        return self.pass_operations() * params.generate.steps * (2 if scale > 1 else 1)

    def pass_operations(self) -> float:
        """Return the operations of one pass of the network of a method without a base, on one image."""

        def count() -> float:
            from pipeline.stages.finetune.memory import GeneratorProfiler

            return GeneratorProfiler(self.params, self.name).pass_operations()

        return kept("pass", self._networks(), count)

    def attack(self) -> AttackCost | None:
        """Return the cost of the membership attacks by the weights; None where the study has none on this entry."""
        settings, entry = self.params.audit.membership, self.params.generators[self.name]
        if settings is None or not entry.learns(self.name):
            return None
        scores = [name for name in settings.of_weights if name != AUTOENCODER or entry.uses_base(self.name)]
        if not scores:
            return None

        def count() -> dict[str, float]:
            from pipeline.stages.audit.attack_profile import attack_cost
            from pipeline.stages.finetune.memory import GeneratorProfiler

            return asdict(attack_cost(GeneratorProfiler(self.params, self.name), scores, settings))

        return AttackCost(**kept("attack", (self._networks(), scores, settings.noises, settings.timesteps), count))

    def _networks(self) -> list[Any]:
        """Return what decides about the networks."""
        entry, data = self.params.generators[self.name], self.params.data
        method = entry.method_of(self.name)
        options = plugins.read_params("generators", method, entry.options, f"generators.{self.name}")
        base = _base(self.params.base) if entry.uses_base(self.name) else []
        return [method, options, base, data.size, data.num_classes]


def attacks(entries: Iterable[GeneratorCounts]) -> dict[str, AttackCost]:
    """Return the cost of the membership attacks on every entry that is attacked by its weights."""
    found = {entry.name: entry.attack() for entry in entries}
    return {name: cost for name, cost in found.items() if cost is not None}


def sampling_operations(base: Base, size: int, steps: int, guidance_scale: float, hints: int = 1) -> float:
    """Return the operations of one synthetic image that so many hints control."""

    def count() -> float:
        from pipeline.stages.finetune import memory

        return memory.sampling_operations(base, size, steps, guidance_scale, hints)

    more = () if hints == 1 else (hints,)  # counts of one hint were kept before there were several
    return kept("sampling", (_base(base), size, steps, guidance_scale, *more), count)


def base_bytes(base: Base, size: int) -> float:
    """Return the bytes of a base's weights."""

    def count() -> float:
        from pipeline.stages.finetune.empty_base import empty_base

        empty = empty_base(base, size)
        parts = (*empty.helpers, empty.unet)
        return float(WEIGHT_BYTES * sum(weight.numel() for part in parts for weight in part.parameters()))

    return kept("base", (_base(base), size), count)


def autoencoder_operations(base: Base) -> float:
    """Return the operations of one crop in training the autoencoder of a small base."""

    def count() -> float:
        from pipeline.cli import stage_costs

        return stage_costs.autoencoder_operations(base)

    return kept("autoencoder", _base(base), count)


def denoiser_operations(base: Base, size: int) -> float:
    """Return the operations of one image of `size` pixels in training the denoiser of a small base."""

    def count() -> float:
        from pipeline.cli import stage_costs

        return stage_costs.denoiser_operations(base, size)

    return kept("denoiser", (_base(base), size), count)


def decoder_operations(base: Base, size: int) -> float:
    """Return the operations of the whole further training of a small base's decoder, with those of its latents."""

    def count() -> float:
        from pipeline.cli import stage_costs

        return stage_costs.decoder_operations(base, size)

    counted = base.decoder and base.decoder.model_dump(include=COUNTED_OF_DECODER)
    return kept("decoder", (_base(base), size, counted), count)


def segmenter_operations(name: str, entry: SegmenterEntry, spec: DatasetSpec) -> float | None:
    """Return the operations of one image in training a segmenter; None where they cannot be counted."""

    def count() -> float | None:
        from pipeline.cli import stage_costs

        return stage_costs.segmenter_operations(name, entry, spec)

    method = entry.method_of(name)
    options = plugins.read_params("segmenters", method, entry.options, f"segmenters.{name}")
    return kept("segmenter", (method, options, spec.model_copy(update={"name": ""})), count)


def mask_operations(generators: Mapping[str, GeneratorEntry], num_classes: int) -> dict[str, tuple[float, float]]:
    """Return, by entry, the operations of training the model of its masks, and of drawing one; zeros without a model.

    Of entries with equal masks, which share a model, the first trains it. Further tries for a mask are not counted.
    """
    found: dict[str, tuple[float, float]] = {}
    trained: list[tuple[str, Section, PairLimit | None]] = []
    for name, entry in generators.items():
        params = plugins.read_params("masks", entry.masks, entry.mask_params, f"generators.{name}.mask_params")
        training, drawing = _mask_model(entry.masks, params, num_classes)
        model = entry.masks, params, entry.pair_limit
        found[name] = (0.0 if model in trained else training, drawing)
        trained.append(model)
    return found


def _mask_model(masks: str, params: Section, num_classes: int) -> tuple[float, float]:
    if not getattr(params, "learns", False):
        return 0.0, 0.0

    def count() -> list[float]:
        return [*plugins.load("masks", masks).operations(params, num_classes)]

    training, drawing = kept("masks", (masks, params, num_classes), count)
    return training, drawing


def dataset_spec(study: str, data: Data) -> DatasetSpec:
    """Return the specification of the images that stage prepare would write."""
    spec = DatasetSpec(name=study, size=data.size, channels=data.planes, num_classes=data.num_classes)
    if data.shape is None:
        return spec
    return spec.model_copy(update={"ndim": 3, "shape": data.shape, "spacing": data.spacing or (1.0, 1.0, 1.0)})


def _finetune(settings: Finetune, without: set[str] | None = None) -> Mapping[str, Any]:
    return settings.model_dump(mode="json", exclude=UNCOUNTED | (without or set()))


def _base(base: Base | None) -> list[Any]:
    """Return what decides about the networks of a base: its parameters and, of a folder, its files of shapes."""
    if base is None:
        return []
    configs = [Path(base.source) / part / "config.json" for part in ("unet", "vae", "text_encoder", "text_encoder_2")]
    shapes = [path.read_text(encoding="utf-8") if path.is_file() else "" for path in configs]
    return [base.model_dump(mode="json", exclude=UNCOUNTED_OF_BASE), shapes if any(shapes) else []]
