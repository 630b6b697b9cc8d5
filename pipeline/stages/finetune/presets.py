"""Hardware presets: how the same training fits a device. Chosen by the shell variable PRESET, not by params.yaml.

A preset (configs/presets/<name>.yaml) may set the switches of `finetune` that do not change the method: results stay
equal up to rounding. So it is not a parameter of the study, changes no stage, and a run may go on under another preset.
What changes the method (adamw_8bit, lora_rank, ema_decay, precision) belongs to the study and is refused.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.section import Section, parse, read_yaml
from pipeline.stages.finetune.params import Finetune

FOLDER = Path("configs/presets")
VARIABLE = "PRESET"
NOTES = "presets.json"
FITTED = "fitted"  # in the place of a name: chosen by predicted memory


class Switches(Section):
    """Keys of `finetune` that hardware decides; the others keep the study's values."""

    micro_batch: int | None = Field(default=None, gt=0)
    gradient_checkpointing: bool | None = None
    channels_last: bool | None = None
    compile: bool | None = None
    attention: Literal["sdpa", "xformers"] | None = None


class Preset(Section):
    """A kind of machine, and the settings with which training fits it."""

    launch: str  # the value of LAUNCH that goes with it, a file of configs/accelerate
    devices: int = Field(gt=0)
    memory_gib: float = Field(gt=0)  # of one device
    tflops: float = Field(gt=0)  # assumed arithmetic per second and device in training, for estimates of time only
    finetune: Switches = Switches()

    @property
    def sharding(self) -> Literal["none", "fsdp2", "zero2"]:
        """How its launch shards trained weights."""
        return sharding_of(self.launch)


def sharding_of(launch: str) -> Literal["none", "fsdp2", "zero2"]:
    """Return how a launch (a file of configs/accelerate) shards trained weights, by its name."""
    return "zero2" if "zero2" in launch else "fsdp2" if "fsdp2" in launch else "none"


def names(folder: Path = FOLDER) -> list[str]:
    """List the names of the presets."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load(name: str, folder: Path = FOLDER) -> Preset:
    """Load a preset. Raises UserError listing the presets, or naming a key that belongs to the study."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise UserError(
            f"{VARIABLE} is {name!r}; the available ones are: {', '.join(names(folder)) or f'none in {folder}'}"
        )
    values = read_yaml(path)
    _refuse_method(path, values)
    try:
        return parse(Preset, values)
    except UserError as error:
        raise UserError(str(error).replace("params.yaml", str(path), 1)) from None


def chosen() -> str | None:
    """Return the preset that the shell asks for."""
    return os.environ.get(VARIABLE) or None


def fitted(settings: Finetune, name: str | None = None) -> Finetune:
    """Return the settings under a preset (None: the shell's; without one, unchanged). Raises UserError."""
    name = name or chosen()
    return settings if name is None else under(settings, load(name))


def leaves_open(settings: Finetune) -> bool:
    """Return whether a study says nothing of micro-batches and checkpointing, which may then follow the memory."""
    return settings.micro_batch is None and not settings.gradient_checkpointing


def differences(study: Finetune, settings: Finetune) -> dict[str, Any]:
    """Return the switches in which settings differ from the study's, with their values."""
    values = settings.model_dump(include=set(Switches.model_fields))
    return {key: value for key, value in values.items() if value != getattr(study, key)}


def note(work: Path, fitted: Mapping[str, Any] | None = None) -> None:
    """Record beside a run's checkpoints that it goes on under the shell's preset, switches that fit, or neither."""
    name, before, switches = chosen(), _noted(work), dict(fitted or {})
    if name is not None:
        switches = load(name).finetune.model_dump(exclude_none=True)
    now = {"name": name or (FITTED if switches else None), **switches}
    if before[-1:] != [now]:
        files.write_json(work / NOTES, [*before, now])


def record(work: Path) -> dict[str, Any]:
    """Return the manifest's entry of the presets that a run was under, in their order; nothing without any."""
    under = _noted(work)
    return {"presets": under} if any(one["name"] for one in under) else {}


def _noted(work: Path) -> list[dict[str, Any]]:
    return files.read_json(work / NOTES) if (work / NOTES).is_file() else []


def under(settings: Finetune, preset: Preset) -> Finetune:
    """Return the settings with a preset's switches."""
    return settings.model_copy(update=preset.finetune.model_dump(exclude_none=True))


def _refuse_method(path: Path, values: Any) -> None:
    section = values.get("finetune") if isinstance(values, dict) else None
    asked = set(section or ()) & (set(Finetune.model_fields) - set(Switches.model_fields))
    if asked:
        keys = ", ".join(sorted(asked))
        raise UserError(f"{path}: finetune.{keys} changes the method, not the hardware; set it in params.yaml")
