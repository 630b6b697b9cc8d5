"""The GPUs of this machine; where it has no driver for one, torch is not loaded to find that out."""

import shutil
from pathlib import Path

DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/kfd"), Path("/dev/dxg"))  # NVIDIA's, AMD's, Windows' under WSL


def has_driver() -> bool:
    """Return whether a driver is installed, with which torch may or may not see a GPU."""
    return shutil.which("nvidia-smi") is not None or any(path.exists() for path in DRIVERS)


def count_visible() -> int:
    """Return how many GPUs torch sees; CUDA_VISIBLE_DEVICES hides the others."""
    if not has_driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
