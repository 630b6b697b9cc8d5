"""What a stage may run on: the GPUs that are there, and which studies no CPU should be asked for."""

import os
import sys
from pathlib import Path

from pipeline.core import gpus, paths
from pipeline.core.errors import UserError
from pipeline.stages.base.params import Base

ALLOW = "TWINSYNTH_ALLOW_CPU"
LARGE = 1e9  # bytes of a U-Net; that of Stable Diffusion 1.5 has 1.7e9 in half precision, one trained here 1e6 to 1e8
NO_GPU = "torch sees no GPU"


def announce_alone(stage: str) -> None:
    """Say what a stage of one process runs on, and why."""
    found = gpus.count_visible()
    place = "the visible GPU" if found == 1 else f"one of {found} visible GPUs: the stage takes one"
    sys.stdout.write(f"{stage}: one process on {place if found else f'the CPU: {NO_GPU}'}\n")
    sys.stdout.flush()


def check_alone(base: Base, study: str) -> None:
    """Raise UserError where a stage of one process would run a large base on the CPU."""
    if not gpus.count_visible():
        refuse_large(base, study, NO_GPU)


def refuse_large(base: Base, study: str, why: str) -> None:
    """Raise UserError where a base has the size of Stable Diffusion 1.5, unless the shell allows it on a CPU."""
    if os.environ.get(ALLOW) != "1" and is_large(base, study):
        raise UserError(
            f"base.source is {base.source}, which needs a GPU, but {why}; run the study on a GPU, write one for a CPU"
            f" (twinsynth init --device cpu), or set {ALLOW}=1 (twinsynth estimate says how long it would take)"
        )


def is_large(base: Base, study: str) -> bool:
    """Return whether a base has the size of Stable Diffusion 1.5, as one on a hub is taken to have until it is here."""
    if base.source == "scratch":
        return False
    for folder in (paths.base(study), Path(base.source)):
        if (folder / "unet").is_dir():
            weights = [*(folder / "unet").glob("*.safetensors"), *(folder / "unet").glob("*.bin")]
            return sum(file.stat().st_size for file in weights) > LARGE
    source = Path(base.source)
    return source.stat().st_size > LARGE if source.is_file() else True
