"""A discriminator of image patches (PatchGAN, Isola et al. 2017), with group norms in place of batch norms."""

from collections.abc import Sequence

from torch import Tensor, nn

GROUPS = 8  # of every norm
SLOPE = 0.2  # of leaky ReLUs below zero
SPREAD = 0.02  # standard deviation of the initial weights, as in pix2pix


class PatchDiscriminator(nn.Sequential):
    """4 x 4 convolutions: one per width, of stride 2 but for the last, and one that gives a logit per patch."""

    def __init__(self, widths: Sequence[int] = (48, 96, 192)) -> None:
        layers: list[nn.Module] = []
        for place, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=1 if place == len(widths) - 1 else 2, padding=1))
            layers += [nn.GroupNorm(GROUPS, outputs)] if place else []
            layers.append(nn.LeakyReLU(SLOPE))
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=SPREAD)

    def forward(self, input: Tensor) -> Tensor:
        """Return logits [B, 1, h, w] of images [B, 3, H, W] in [-1, 1]: positive for patches that seem real."""
        return super().forward(input)
