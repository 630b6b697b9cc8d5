"""Files of FID-Inception with random weights in both official formats: clean-fid's TorchScript, torch-fidelity's dict.

The network is the true architecture (blocks of torch-fidelity), the interface that of inception-2015-12-05.pt:
`layers` takes 299-pixel images in [-1, 1]; the whole takes any size in [0, 255] and resizes inside as TensorFlow 1 did.
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3 as blocks

from pipeline.core import files

SIDE = 299


class Whole(nn.Module):
    """The published file's outer module."""

    def __init__(self, layers: nn.Module, output: nn.Linear) -> None:
        super().__init__()
        self.layers = layers
        self.output = output

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        """[B, 3, H, W] in [0, 255] -> [B, 2048], or class probabilities [B, 1008]."""
        height, width = float(img.shape[2]), float(img.shape[3])
        theta = torch.eye(2, 3, device=img.device)  # pixel k of the result looks at k * size / 299: TF 1's corners
        theta[0, 2] += 1 / width - 1 / 299
        theta[1, 2] += 1 / height - 1 / 299
        grid = F.affine_grid(theta.unsqueeze(0).repeat(img.shape[0], 1, 1), [img.shape[0], 3, 299, 299], False)
        wide = F.grid_sample(img.to(torch.float32), grid, "bilinear", "border", False)
        features = self.layers((wide - 128) / 128)
        if return_features:
            return features
        return F.softmax(self.output(features), dim=1)


def network() -> nn.Sequential:
    """FID-Inception up to its pooled 2048 features."""
    conv = blocks.BasicConv2d
    parts: list[tuple[str, nn.Module]] = [
        ("Conv2d_1a_3x3", conv(3, 32, kernel_size=3, stride=2)),
        ("Conv2d_2a_3x3", conv(32, 32, kernel_size=3)),
        ("Conv2d_2b_3x3", conv(32, 64, kernel_size=3, padding=1)),
        ("MaxPool_1", nn.MaxPool2d(kernel_size=3, stride=2)),
        ("Conv2d_3b_1x1", conv(64, 80, kernel_size=1)),
        ("Conv2d_4a_3x3", conv(80, 192, kernel_size=3)),
        ("MaxPool_2", nn.MaxPool2d(kernel_size=3, stride=2)),
        ("Mixed_5b", blocks.InceptionA(192, pool_features=32)),
        ("Mixed_5c", blocks.InceptionA(256, pool_features=64)),
        ("Mixed_5d", blocks.InceptionA(288, pool_features=64)),
        ("Mixed_6a", blocks.InceptionB(288)),
        ("Mixed_6b", blocks.InceptionC(768, channels_7x7=128)),
        ("Mixed_6c", blocks.InceptionC(768, channels_7x7=160)),
        ("Mixed_6d", blocks.InceptionC(768, channels_7x7=160)),
        ("Mixed_6e", blocks.InceptionC(768, channels_7x7=192)),
        ("Mixed_7a", blocks.InceptionD(768)),
        ("Mixed_7b", blocks.InceptionE_1(1280)),
        ("Mixed_7c", blocks.InceptionE_2(2048)),
        ("AvgPool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
    ]
    return nn.Sequential(OrderedDict(parts))


def random_network(seed: int) -> tuple[nn.Sequential, nn.Linear]:
    """Seeded weights that keep the size of activations, so that features differ from image to image."""
    rng = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        layers, output = network(), nn.Linear(2048, 1008)
    layers.to_empty(device="cpu"), output.to_empty(device="cpu")
    with torch.no_grad():
        for module in layers.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=rng)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
                module.bias.normal_(0, 0.1, generator=rng)
        output.weight.normal_(0, 0.02, generator=rng)
        output.bias.zero_()
    return layers.eval().requires_grad_(False), output.eval().requires_grad_(False)


def write_inception(path: Path, seed: int = 0) -> None:
    """Writes what clean-fid's InceptionV3W and our `inception` open in place of inception-2015-12-05.pt."""
    layers, output = random_network(seed)
    traced = torch.jit.trace(layers, torch.zeros(2, 3, SIDE, SIDE), check_trace=False)
    whole = torch.jit.script(Whole(traced, output).eval())  # type: ignore[arg-type]
    with files.replacing(path) as temporary:
        torch.jit.save(whole, str(temporary))


def write_fidelity_inception(path: Path, seed: int = 0) -> None:
    """Writes the same weights as `write_inception` as torch-fidelity's `feature_extractor_weights_path`."""
    layers, output = random_network(seed)
    weights = {**layers.state_dict(), **{f"fc.{name}": value for name, value in output.state_dict().items()}}
    with files.replacing(path) as temporary:
        torch.save(weights, temporary)
