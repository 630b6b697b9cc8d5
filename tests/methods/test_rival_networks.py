"""Att-UNet and TransUNet: sizes of the public networks, the attention gate by hand, positions and names of weights."""

import math

import pytest
import timm
import torch
from torch import Tensor, nn

from pipeline.core import seeding
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import att_unet, transunet
from pipeline.methods.segmenters._transunet_params import Params

SPEC = DatasetSpec(name="blobs", size=32, channels=3)
SMALL = {"layers": (1, 1, 1), "width": 32, "depth": 2, "heads": 4, "middle": 32, "decoder": (32, 16, 8, 8)}


def weights(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_att_unet_has_as_many_weights_as_the_public_network():
    """AttU_Net(img_ch=3, output_ch=2) of LeeJunHyun/Image_Segmentation."""
    with torch.device("meta"):
        assert weights(att_unet.AttentionUNet(64, 3, 2)) == 34_878_638


def test_transunet_has_as_many_weights_as_the_authors():
    """VisionTransformer of Beckschen/TransUNet, R50-ViT-B_16 with three skips, 224 pixels, two classes."""
    with torch.device("meta"):
        segmenter = transunet.build(Params(), SPEC.model_copy(update={"size": 224}))
        assert weights(segmenter.objective.network.network) == 105_276_066
        assert weights(segmenter.objective.network.network.encoder.backbone) == 11_894_848


def test_a_gate_weighs_every_position_by_additive_attention():
    seeding.seed_everything("gate")
    gate = att_unet.AttentionGate(4).double().eval()
    for layer in gate.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    x, g = torch.randn(2, 1, 4, 3, 5, dtype=torch.float64)
    found = gate(x, g)

    def projected(layers: nn.Sequential, values: list[float]) -> list[float]:
        convolution, norm = layers
        result = []
        for row, (weight, bias) in enumerate(
            zip(convolution.weight[..., 0, 0].tolist(), convolution.bias, strict=True)
        ):
            total = sum(w * v for w, v in zip(weight, values, strict=True)) + bias.item()
            deviation = math.sqrt(float(norm.running_var[row]) + norm.eps)
            result.append((total - float(norm.running_mean[row])) / deviation)
        return result

    for row in range(3):
        for column in range(5):
            own, other = x[0, :, row, column].tolist(), g[0, :, row, column].tolist()
            sums = [a + b for a, b in zip(projected(gate.of_skip, own), projected(gate.of_gate, other), strict=True)]
            (score,) = projected(gate.psi, [max(value, 0.0) for value in sums])
            expected = [value / (1 + math.exp(-score)) for value in own]
            assert found[0, :, row, column].tolist() == pytest.approx(expected, rel=1e-12)


def test_a_closed_gate_hides_the_skip_connection():
    network = att_unet.AttentionUNet(8, 3, 2).eval()
    for gate in network.gates:
        nn.init.constant_(gate.psi[1].bias, -1e4)
    image, seen = torch.rand(1, 3, 32, 32), []
    network.up[0].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    network(image)
    assert not seen[0][:, :8].any() and seen[0][:, 8:].any()


def encoder(side: int = 2) -> transunet.HybridEncoder:
    seeding.seed_everything("transunet")
    return transunet.HybridEncoder(parse(Params, SMALL), side).eval()


def test_the_decoder_sees_an_eighth_a_quarter_and_a_half_of_the_image():
    maps, features = encoder()(torch.rand(1, 3, 32, 48))
    assert maps.shape == (1, 32, 2, 3)
    assert [tuple(one.shape[1:]) for one in features] == [(512, 4, 6), (256, 8, 12), (64, 16, 24)]


def test_weights_of_timm_have_the_encoders_names_and_shapes():
    with torch.device("meta"):
        ours = transunet.HybridEncoder(Params(), 14).state_dict()
        theirs = timm.create_model(transunet.ARCHITECTURE, pretrained=False).state_dict()
    renamed = transunet.encoder_names(theirs, 14)
    assert {name: tensor.shape for name, tensor in renamed.items() if name in ours} == {
        name: tensor.shape for name, tensor in ours.items()
    }


def test_positions_of_another_size_are_interpolated_without_the_class_token():
    positions = torch.arange(4.0).view(1, 4, 1).expand(1, 4, 3)
    state = {
        "pos_embed": torch.cat([torch.full((1, 1, 3), 99.0), positions], 1),
        "patch_embed.proj.bias": torch.ones(1),
    }
    assert torch.equal(transunet.encoder_names(state, 2)["pos_embed"], positions)
    larger = transunet.encoder_names(state, 4)
    assert larger["pos_embed"].shape == (1, 16, 3) and larger["pos_embed"].max() < 5
    assert list(larger) == ["pos_embed", "proj.bias"]


def test_the_transformer_sees_the_positions():
    found, image = encoder(), torch.full((1, 3, 32, 32), 0.5)
    maps: Tensor = found(image)[0]
    nn.init.zeros_(found.pos_embed)
    assert (maps - found(image)[0]).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(UserError, match=r"width is 30; it must be a multiple of heads \(4\)"):
        parse(Params, SMALL | {"width": 30})
