"""Colours, augmentation and encoders of the segmenters."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers import DropPath

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _colour_exchange, _mit, _structure_objective, polyp_pvt, sanet, unet_plain32
from pipeline.study import Params


def test_images_of_the_plain_unet_are_stretched_one_by_one() -> None:
    image = torch.stack([torch.linspace(0.2, 0.7, 12).view(3, 2, 2), torch.full((3, 2, 2), 0.4)])
    found = unet_plain32.min_max_normalize(image)
    torch.testing.assert_close(found[0], torch.linspace(0, 1, 12).view(3, 2, 2))
    assert float(found[1].abs().max()) == 0


def test_lab_of_known_colours() -> None:
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]).T[..., None]
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    torch.testing.assert_close(
        _colour_exchange.rgb_to_lab(colours)[..., 0].T, torch.tensor(expected), atol=0.05, rtol=0
    )


def test_lab_and_back_is_the_same_image() -> None:
    image = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(
        _colour_exchange.lab_to_rgb(_colour_exchange.rgb_to_lab(image)), image, atol=1e-4, rtol=0
    )


def test_an_image_takes_mean_and_spread_of_the_reference() -> None:
    rng = torch.Generator().manual_seed(7)
    image, reference = 0.4 + 0.1 * torch.rand(3, 9, 9, generator=rng), 0.4 + 0.2 * torch.rand(3, 9, 9, generator=rng)
    wanted = _colour_exchange.colour_statistics(_colour_exchange.rgb_to_lab(reference))
    found = _colour_exchange.colour_statistics(
        _colour_exchange.rgb_to_lab(_colour_exchange.transfer_colours(image, *wanted))
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=0)


def test_colours_out_of_range_are_cut_off_and_one_colour_takes_the_mean() -> None:
    mean, spread = torch.tensor([50.0, 10, 10]).view(3, 1, 1), torch.full((3, 1, 1), 60.0)
    wild = _colour_exchange.transfer_colours(
        torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(8)), mean, spread
    )
    assert float(wild.min()) == 0
    assert float(wild.max()) == 1
    plain = _colour_exchange.transfer_colours(torch.full((3, 4, 4), 0.3), mean, spread)
    torch.testing.assert_close(_colour_exchange.rgb_to_lab(plain).mean((1, 2)), mean.flatten(), atol=0.01, rtol=0)


def mixed(real: ImageSet) -> ImageSet:
    """The training images, every second of them marked as synthetic or as of another source."""
    marks = [{"synthetic": k % 2 == 1, "source": "even" if k % 4 == 0 else "other"} for k in range(8)]
    return real.select({**row, **mark} for row, mark in zip(real.split("train"), marks, strict=True))


def test_references_of_colour_exchange_are_real_and_of_the_named_source(toy_study: Params) -> None:
    train = mixed(ImageSet.open(paths.real("toy")))
    exchange = _colour_exchange.ColourExchange(train, {"even": 1.0}, None)
    image, mask = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(9)), torch.zeros(32, 32)
    for step in range(20):
        found, same = exchange(image, mask, np.random.default_rng(step))
    assert set(exchange.colours) == {row["id"] for row in list(train)[::4]}
    assert same is mask
    assert not torch.equal(found, image)


def test_colour_exchange_follows_its_chances(toy_study: Params) -> None:
    train = mixed(ImageSet.open(paths.real("toy")))
    exchange = _colour_exchange.ColourExchange(train, {"even": 3.0, "other": 1.0}, None)
    image, counts = torch.rand(3, 4, 4), Counter()
    for step in range(200):
        found, _ = exchange(image, image, np.random.default_rng(step))
        counts[float(found.sum())] += 1
    assert len(counts) == 4  # references: two of each source
    assert sum(sorted(counts.values())[2:]) == pytest.approx(150, abs=20)


def test_colour_exchange_names_the_sources_there_are(toy_study: Params) -> None:
    train = mixed(ImageSet.open(paths.real("toy")))
    with pytest.raises(UserError, match=r"from 'Kvasir'; real sources here: even, other"):
        _colour_exchange.ColourExchange(train, {"Kvasir": 1.0}, None)


def test_augmentation_follows_the_parameters(spec: DatasetSpec, toy_study: Params) -> None:
    train = ImageSet.open(paths.real("toy")).split("train")
    segmenter = sanet.build(sanet.Params(weights="none", colour_exchange=False), spec)
    assert segmenter.augment(train) is dihedral
    exchange = sanet.SANet(segmenter.network, sanet.Params(), spec, {}).augment(train)
    assert isinstance(exchange, _colour_exchange.ColourExchange)
    assert exchange.then is dihedral
    for choice, expected in (("dihedral", dihedral), ("none", None)):
        polyp = _structure_objective.PolypSegmenter(segmenter.network, spec, {}, segmenter.objective, choice)
        assert polyp.augment(train) is expected


def test_the_mixed_transformer_equals_that_of_the_authors() -> None:
    """smp's encoder is NVIDIA's own code; transformers' network with its tensors gives the same features."""
    theirs = smp.encoders.get_encoder("mit_b0", weights=None).eval().double()
    ours = _mit.MiTEncoder(_mit.SIZES["b0"], 0.0).eval().double()
    ours.transformer.load_state_dict(_mit.rename_tensors(theirs.state_dict()))
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(ours(image), theirs(image)[2:], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)  # in float64: the rest is not rounding


def test_names_of_older_files_of_transformers() -> None:
    state = {
        "segformer.encoder.block.3.1.attention.self.sr.weight": torch.zeros(1),
        "segformer.encoder.block.0.2.mlp.dense1.bias": torch.zeros(1),
        "segformer.encoder.patch_embeddings.1.layer_norm.weight": torch.zeros(1),
        "decode_head.classifier.bias": torch.zeros(1),
    }
    assert set(_mit.rename_tensors(state)) == {
        "stages.3.blocks.1.attention.sequence_reduction.sequence_reduction.weight",
        "stages.0.blocks.2.mlp.fc1.bias",
        "stages.1.patch_embeddings.layer_norm.weight",
        "decode_head.classifier.bias",
    }


@pytest.mark.parametrize(("module", "architecture"), [(sanet, "res2net50d"), (polyp_pvt, "pvt_v2_b2")])
def test_a_file_of_the_whole_classifier_gives_the_encoder_its_weights(
    module: object, architecture: str, spec: DatasetSpec, tmp_path: Path
) -> None:
    whole = timm.create_model(architecture, pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    segmenter = module.build(module.Params(weights=tmp_path / "whole.pth"), spec)  # type: ignore[attr-defined]
    assert segmenter.about["weights"]["source"] == "file"
    assert segmenter.about["params"]["weights"] == "file"
    theirs = dict(whole.named_parameters())
    ours = {name.replace("stages_", "stages."): p for name, p in segmenter.network.network.encoder.named_parameters()}
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_the_pyramid_transformer_drops_paths_as_its_authors_do() -> None:
    rates = [layer.drop_prob for layer in polyp_pvt._encoder(False).modules() if isinstance(layer, DropPath)]
    assert max(rates) == pytest.approx(0.1)
    assert len(rates) == 2 * 15  # 16 blocks, of which the first drops nothing
