"""What every file of pipeline/methods/segmenters promises; and facts of those with packaged weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor

from pipeline.core import files, plugins, seeding
from pipeline.core.contracts import IGNORED, Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _supervised
from pipeline.networks import packaged_efficientnet

NAMES = plugins.names("segmenters")
STRIDES = {
    "unet_plain32": 8,
    "deeplabv3plus": 16,
    "dermosegdiff": 8,
    "recycling": 8,
    "recycling_ensemble": 8,
    "cimd": 8,
    "probabilistic_unet": 8,
    "att_unet": 16,
    "transunet": 16,
}  # 32: others
DIFFUSION = {"dermosegdiff", "recycling", "recycling_ensemble", "cimd"}
FROM_SCRATCH = {"unet_plain32", "att_unet", "probabilistic_unet", *DIFFUSION}
BINARY = {"cimd"}  # two classes only
FILES = [name for name in NAMES if name not in FROM_SCRATCH]  # can start from a file of weights
COUNTS = {  # published, or those of the library; CTNet's with its contrast head
    "unet_plain32": 1_946_914,
    "sanet": 23_899_497,
    "polyp_pvt": 25_107_604,
    "ctnet": 44_290_657,
}

QUICK = {"channels": [8, 16, 32, 64], "blocks": 1}
SMALLER: dict[str, dict[str, object]] = {  # of as many levels
    "recycling": QUICK,
    "recycling_ensemble": QUICK,
    "cimd": {"steps": 3},
    "att_unet": {"width": 8},
    "transunet": {"layers": [1, 1, 1], "width": 32, "depth": 2, "heads": 4, "middle": 32, "decoder": [32, 16, 8, 8]},
}


def build(name: str, spec: DatasetSpec, **values: object) -> Segmenter:
    seeding.seed_everything("test")
    values = {"weights": "none", **SMALLER.get(name, {}), **values}
    own = plugins.read_params("segmenters", name, values, f"segmenters.{name}")
    return plugins.load("segmenters", name).build(own, spec)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_is_a_probability_per_class_and_sample(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    classes = 2 if name in BINARY else 3
    spec = spec.model_copy(update={"num_classes": classes})
    chance = build(name, spec).predict(toy_batch.image, num_samples=2)
    assert chance.shape == (4, 2, classes, 32, 32)
    assert (chance >= 0).all()
    torch.testing.assert_close(chance.sum(2), torch.ones(4, 2, 32, 32))


@pytest.mark.parametrize("name", COUNTS)
def test_the_network_has_as_many_weights_as_the_authors(name: str, spec: DatasetSpec) -> None:
    assert sum(weight.numel() for weight in build(name, spec).objective.parameters()) == COUNTS[name]


def test_an_unknown_name_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"no 'nnunet' .* ctnet, .*, segformer, transunet, unet, "):
        plugins.load("segmenters", "nnunet")


def total(objective: torch.nn.Module, batch: Batch) -> Tensor:
    """The sum of the losses, with the same dropout each time."""
    seeding.seed_everything("dropout")
    return torch.stack(list(objective(batch, progress=0.0).values())).sum()


@pytest.mark.parametrize("name", NAMES)
def test_grey_images_are_taken(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    grey = spec.model_copy(update={"channels": 1})
    own: dict[str, object] = {"colour_exchange": False} if name == "sanet" else {}
    assert build(name, grey, **own).predict(toy_batch.image[:2, :1]).shape == (2, 1, 2, 32, 32)


@pytest.mark.parametrize("name", NAMES)
def test_several_contrasts_are_taken_or_refused(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    contrasts, image = spec.model_copy(update={"channels": 4}), torch.cat([toy_batch.image, toy_batch.image[:, :1]], 1)
    if name in FROM_SCRATCH:
        assert build(name, contrasts).predict(image).shape == (4, 1, 2, 32, 32)
    else:
        with pytest.raises(UserError, match="blobs has 4 channels, but this segmenter takes 1 or 3"):
            build(name, contrasts)


def test_colours_of_grey_images_cannot_be_exchanged(spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match="blobs is grey and has no colours to exchange"):
        build("sanet", spec.model_copy(update={"channels": 1}))


@pytest.mark.parametrize("name", NAMES)
def test_a_small_step_down_the_gradient_lowers_the_loss(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    """By what the gradient promises.

    CTNet contrasts pixels that it chooses by its prediction. For the choice to stay, its step is a hundredth of that of
    the others and its weights are in float64, where rounding moves no pixel over a border.
    """
    objective, share = build(name, spec).objective.train(), 1e-3
    if name == "ctnet":
        objective, share = objective.double(), 1e-5
        toy_batch = replace(toy_batch, image=toy_batch.image.double())
    before = total(objective, toy_batch)
    before.backward()
    weights = list(objective.parameters())
    steepness = sum(float((weight.grad**2).sum()) for weight in weights if weight.grad is not None)
    wanted = share * float(before.detach())
    with torch.no_grad():
        for weight in weights:
            weight -= wanted / steepness * weight.grad
        gained = float(before - total(objective, toy_batch))
    assert gained == pytest.approx(wanted, rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights_and_losses(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    first, second = (total(build(name, spec).objective.train(), toy_batch) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_named_finite_and_reach_every_weight(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    objective = build(name, spec).objective.train()
    losses = objective(toy_batch, progress=0.0)
    assert losses
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert [key for key, weight in objective.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pixels_are_left_out_or_refused(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    """And what the parameters say of it, before torch is loaded, is what the segmenter does."""
    segmenter, values = build(name, spec), {"weights": "none", **SMALLER.get(name, {})}
    params = plugins.read_params("segmenters", name, values, f"segmenters.{name}")
    takes = getattr(segmenter, "takes_ignored", False)
    assert takes != getattr(params, "needs_every_label", False)
    if takes:
        ignoring = replace(toy_batch, mask=toy_batch.mask.clone(), ignores=True)
        ignoring.mask[..., 20:] = IGNORED
        losses = segmenter.objective.train()(ignoring, progress=0.0)
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in segmenter.objective.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_predicts_the_same_when_loaded(
    name: str, toy_batch: Batch, spec: DatasetSpec, tmp_path: Path
) -> None:
    first = build(name, spec)
    total(first.objective.train(), toy_batch).backward()  # moves batch-norm statistics
    torch.optim.SGD(first.objective.parameters(), 1e-2).step()
    first.save(tmp_path)
    second = build(name, spec)
    assert not torch.equal(second.predict(toy_batch.image), first.predict(toy_batch.image))
    second.load(tmp_path)
    assert torch.equal(second.predict(toy_batch.image), first.predict(toy_batch.image))
    assert json.loads((tmp_path / "segmenter.json").read_text())["weights"] == {"source": "none"}


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_another_data_set_are_refused(name: str, spec: DatasetSpec, tmp_path: Path) -> None:
    files.write_json(tmp_path / "segmenter.json", {"spec": spec.model_copy(update={"num_classes": 3}).model_dump()})
    with pytest.raises(UserError, match="was trained for"):
        build(name, spec).load(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_smaller_than_the_stride_is_refused_with_both_figures(name: str, spec: DatasetSpec) -> None:
    stride = STRIDES.get(name, 32)
    with pytest.raises(UserError, match=rf"{stride - 1} pixels .* stride of {stride}"):
        build(name, spec.model_copy(update={"size": stride - 1}))


@pytest.mark.parametrize("name", NAMES)
def test_a_size_that_is_no_multiple_of_the_stride_is_padded(name: str, spec: DatasetSpec) -> None:
    segmenter = build(name, spec.model_copy(update={"size": 40}))
    assert segmenter.predict(torch.rand(1, 3, 40, 40)).shape == (1, 1, 2, 40, 40)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_weights_file_is_named(name: str, spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth does not exist"):
        build(name, spec, weights="nowhere.pth")


@pytest.mark.parametrize("name", FILES)
def test_a_weights_file_of_another_network_is_refused(name: str, spec: DatasetSpec, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth lacks \d+ of \d+ tensors of the encoder"):
        build(name, spec, weights=tmp_path / "other.pth")


@pytest.mark.parametrize("name", FILES)
def test_a_hub_out_of_reach_is_told_with_what_would_do(name: str, spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match=r"weights of \S+ are not in the cache .* set weights to a file, or to none"):
        build(name, spec, weights="hub")


def test_dice_loss_counts_over_the_batch() -> None:
    mask = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    certain = torch.where(torch.tensor([[[1, 0, 0, 0]], [[1, 0, 0, 0]]]).bool(), 50.0, -50.0)
    logits = torch.stack([-certain, certain], 1)
    # Foreground found: 2 pixels, true: 2, in common: 1.
    assert float(_supervised.soft_dice_loss(logits, mask)) == pytest.approx(1 - (2 * 1 + 1) / (2 + 2 + 1))


def test_a_perfect_prediction_costs_nothing() -> None:
    mask = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(0))
    logits = 100 * torch.nn.functional.one_hot(mask, 3).movedim(-1, 1).float()
    assert float(_supervised.soft_dice_loss(logits, mask)) == pytest.approx(0, abs=1e-6)


def packaged_classifier() -> torch.nn.Module:
    network = timm.create_model(packaged_efficientnet.ARCHITECTURE, pretrained=False).eval()
    network.load_state_dict(packaged_efficientnet.packaged_weights(), strict=True)
    return network


def photograph(name: str) -> Tensor:
    image = torch.from_numpy(np.array(load_sample_image(name))).movedim(-1, 0)[None].float() / 255
    small = torch.nn.functional.interpolate(image, size=(256, 384), mode="bicubic", antialias=True)
    return small.clamp(0, 1)[..., 16:240, 80:304]


@pytest.mark.parametrize(("name", "label"), [("china.jpg", 698), ("flower.jpg", 985)])  # ImageNet: palace, daisy
def test_packaged_weights_know_a_palace_and_a_daisy(name: str, label: int) -> None:
    with torch.no_grad():
        assert int(packaged_classifier()((photograph(name) - 0.5) / 0.5).argmax()) == label


def test_the_unet_with_packaged_weights_sees_what_the_classifier_sees(spec: DatasetSpec) -> None:
    network = build("unet", spec, weights="packaged").objective.eval().network.double()
    classifier, image = packaged_classifier().double(), photograph("flower.jpg").double()
    with torch.no_grad():
        expected = classifier.blocks(classifier.bn1(classifier.conv_stem((image - 0.5) / 0.5)))
        found = network.network.encoder((image - network.mean) / network.std)[-1]
    # the same layers in float64: some 100 roundings of 2^-53, each of a sum of at most 10^4 products
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_packaged_weights_are_recorded_with_their_hash(spec: DatasetSpec) -> None:
    weights = build("unet", spec, weights="packaged").about["weights"]
    assert weights["source"] == "packaged"
    assert weights["sha256"] == "57934424" + weights["sha256"][8:]  # the file's name carries its hash


def test_packaged_weights_fit_no_other_encoder(spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match="packaged weights fit encoder"):
        build("unet", spec, weights="packaged", encoder="tu-resnet18")


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus"])
@pytest.mark.parametrize("weights", ["none", "hub"])
def test_an_unknown_encoder_is_refused(name: str, weights: str, spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match="nonet"):
        build(name, spec, encoder="tu-nonet", weights=weights)


def test_a_mixed_transformer_can_be_the_encoder_of_a_unet(spec: DatasetSpec, tmp_path: Path) -> None:
    first, image = build("unet", spec, encoder="mit_b0"), torch.rand(1, 3, 32, 32)
    first.save(tmp_path)
    second = build("unet", spec, encoder="mit_b0")
    second.load(tmp_path)
    assert torch.equal(second.predict(image), first.predict(image))


def test_an_encoder_that_cannot_be_dilated_is_refused(spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match=r"encoder 'densenet121' cannot be built"):
        build("deeplabv3plus", spec, encoder="densenet121")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sanet", "polyp_pvt", "ctnet"])
def test_a_step_at_the_size_of_the_papers(name: str, toy_batch: Batch, spec: DatasetSpec) -> None:
    """At 352 the coarsest stage has an odd side of 11; multi-scale steps have 8 to 14."""
    large = torch.nn.functional.interpolate(toy_batch.image[:2], size=352)
    mask = torch.nn.functional.interpolate(toy_batch.mask[:2, None].float(), size=352)[:, 0].long()
    segmenter = build(name, spec.model_copy(update={"size": 352}))
    total(segmenter.objective.train(), Batch(large, mask, ("", ""), ("s/0/0", "s/0/1"))).backward()
    assert segmenter.predict(large[:1]).shape == (1, 1, 2, 352, 352)
