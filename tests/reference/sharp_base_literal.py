"""Losses of a sharp base as their papers write them, number by number, in float64."""

import math

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.networks import packaged_efficientnet as packaged

AFTER = (0, 1, 2, 4)  # groups of blocks of EfficientNet-Lite0 that end the strides 2, 4, 8 and 16


def perceptual(made: Tensor, image: Tensor) -> float:
    """Vectors of length 1 at every pixel; squares over channels, mean over pixels and images, sum over four maps."""
    total = 0.0
    for ours, theirs in zip(maps(made), maps(image), strict=True):
        distances = []
        for n in range(ours.shape[0]):
            for y in range(ours.shape[2]):
                for x in range(ours.shape[3]):
                    a, b = ours[n, :, y, x], theirs[n, :, y, x]
                    gap = a / math.sqrt((a**2).sum()) - b / math.sqrt((b**2).sum())
                    distances.append(float((gap**2).sum()))
        total += sum(distances) / len(distances)
    return total


def maps(image: Tensor) -> list[NDArray[np.float64]]:
    """The network for classification, block by block."""
    network = timm.create_model(packaged.ARCHITECTURE, pretrained=False)
    network.load_state_dict(packaged.packaged_weights())
    network.double().eval()
    found = []
    with torch.no_grad():
        x = network.bn1(network.conv_stem(image.double()))
        for number, group in enumerate(network.blocks):
            x = group(x)
            if number in AFTER:
                found.append(x.numpy())
    return found


def discriminator(real: list[float], made: list[float]) -> float:
    """Half the sum of two hinges (Esser et al. 2021)."""
    over = [max(0.0, 1.0 - logit) for logit in real]
    under = [max(0.0, 1.0 + logit) for logit in made]
    return 0.5 * (sum(over) / len(over) + sum(under) / len(under))


def decoder(made: list[float]) -> float:
    """The decoder wants high logits."""
    return -sum(made) / len(made)


def min_snr(alpha: float, gamma: float, prediction: str) -> float:
    """Hang et al. 2023, section 3.4, from alpha^2 / sigma^2."""
    signal, sigma = math.sqrt(alpha), math.sqrt(1 - alpha)
    ratio = signal**2 / sigma**2
    least = min(ratio, gamma)
    return {"sample": least, "epsilon": least / ratio, "v_prediction": least / (ratio + 1)}[prediction]
