"""Files of weights in the official formats of every extractor, with seeded random numbers in them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.core import plugins
from tests.inception_file import write_inception

CLIP = {"clip_b32": "ViT-B-32-quickgelu", "clip_l14_336": "ViT-L-14-336-quickgelu"}
DINO = {f"dinov2_{size[0]}": f"vit_{size}_patch14_dinov2.lvd142m" for size in ("small", "base", "large")}
TRUNK = {"lpips_alex": "alexnet", "lpips_vgg": "vgg16"}


def write(extractor: str, folder: Path) -> Path | None:
    """The file under its official name, made once per folder; None: the extractor needs none."""
    published = plugins.load("features", extractor).WEIGHTS
    if published is None:
        return None
    path = folder / published.place
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(extractor)(path)
    return path


def writer(extractor: str) -> Callable[[Path], None]:
    if extractor in CLIP:
        return lambda path: save_file(clip(CLIP[extractor]), path)
    if extractor in DINO:
        return lambda path: save_file(dino(DINO[extractor]), path)
    if extractor in TRUNK:
        return lambda path: torch.save(trunk(TRUNK[extractor]), path)
    return write_inception


def clip(architecture: str) -> dict[str, Tensor]:
    """open_clip's names; of the text side only a token, for nothing reads it."""
    import open_clip

    with torch.device("meta"):
        network = open_clip.CLIP(**open_clip.get_model_config(architecture))  # type: ignore[arg-type]
    tower = {name: tensor for name, tensor in network.state_dict().items() if name.startswith("visual.")}
    return drawn(tower) | {"logit_scale": torch.tensor(4.6)}


def dino(architecture: str) -> dict[str, Tensor]:
    """timm's names and the published size of 518 pixels."""
    import timm

    with torch.device("meta"):
        network = timm.create_model(architecture, num_classes=0)
    return drawn(network.state_dict())


def trunk(architecture: str, whole: bool = False) -> dict[str, Tensor]:
    """torchvision's names; of the classifier only one tensor, unless the whole is wanted."""
    import torchvision

    with torch.device("meta"):
        state = torchvision.models.get_model(architecture, weights=None).state_dict()
    kept = {
        name: tensor for name, tensor in state.items() if whole or "features" in name or name == "classifier.6.bias"
    }
    return drawn(kept)


def drawn(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Random tensors of these shapes that keep activations and their differences alive through a deep network."""
    rng = torch.Generator().manual_seed(0)
    return {name: _drawn(name, tensor.shape, rng) for name, tensor in state.items()}


def _drawn(name: str, shape: torch.Size, rng: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=rng)
    if len(shape) > 1:
        return noise * (2 / max(1, noise[0].numel())) ** 0.5
    return 1 + noise / 10 if name.endswith(("weight", "gamma")) else noise / 10
