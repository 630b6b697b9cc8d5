"""Weight files of the edge networks in the formats of their publisher, with random numbers."""

from pathlib import Path
from typing import Any

import torch

from pipeline.core import files
from pipeline.methods.conditioning import soft_edge_hed, soft_edge_pidinet


def write_edge_weights(folder: Path) -> dict[str, dict[str, Any]]:
    """Writes both files and returns the parameters that name them, by conditioning."""
    torch.manual_seed(0)
    hed, pidinet = folder / "ControlNetHED.pth", folder / "table5_pidinet.pth"
    halves = {name: weight.half() for name, weight in soft_edge_hed.network().state_dict().items()}
    halves["norm"] += 120  # of grey levels
    torch.save(halves, hed)
    state = {f"module.{name}": weight for name, weight in soft_edge_pidinet.network().state_dict().items()}
    state["module.classifier.weight"] = state["module.classifier.weight"] * 20 + 1  # edges that are not all 0.5
    torch.save({"epoch": 13, "state_dict": state}, pidinet)
    named = {"soft_edge_hed": hed, "soft_edge_pidinet": pidinet}
    return {name: {"file": str(path), "sha256": files.sha256(path)} for name, path in named.items()}
