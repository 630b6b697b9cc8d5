"""Weights of lesions and noise levels in the loss: by hand, in every controlled generator, nothing new by default."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import Schedule
from pipeline.methods.generators._focused_loss import WeightedError
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.finetune.params import Finetune
from tests.tiny_base import write_tiny_base

METHODS = ("siamese", "adc", "controlnet", "mask_image", "t2i_adapter")
FOCUSED = {  # losses; others have one
    "siamese": ("mask", "consistency"),
    **dict.fromkeys(("adc", "mask_image"), ("mask", "mask_image")),
}
SCHEDULE = Schedule(torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64), "sample")
TIMES = torch.arange(3)
RNG = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.rand(shape, generator=RNG, dtype=torch.float64)


def test_it_is_the_stated_mean() -> None:
    predicted, target, masks = drawn(3, 4, 6, 6), drawn(3, 4, 6, 6), torch.zeros(3, 12, 12, dtype=torch.long)
    masks[0, 3:5, 6:9], masks[1, 0, 0] = 1, 2  # cells (1, 3), (1, 4), (2, 3), (2, 4); cell (0, 0); none
    errors = (predicted - target) ** 2
    inside = [errors[0, :, 1:3, 3:5].mean(), errors[1, :, 0, 0].mean(), errors[2].mean()]
    expected = sum(0.7 * errors[k].mean() + 0.3 * inside[k] for k in range(3)) / 3
    found = WeightedError(SCHEDULE, 0.3, None)(predicted, target, TIMES, masks)
    assert float(found) == pytest.approx(float(expected), abs=1e-12)


def test_no_weight_is_the_plain_error_bit_by_bit() -> None:
    predicted, target = drawn(3, 4, 6, 6).float(), drawn(3, 4, 6, 6).float()
    found = WeightedError(SCHEDULE, 0.0, None)(predicted, target, TIMES, torch.ones(3, 12, 12))
    assert torch.equal(found, F.mse_loss(predicted, target))


@pytest.mark.parametrize(("prediction", "weights"), [("sample", [3, 1, 0.25]), ("epsilon", [1 / 3, 1, 1])])
def test_levels_have_their_min_snr_weights(prediction: Any, weights: list[float]) -> None:
    """At signal-to-noise ratios of 9, 1 and 1/4, of which gamma 3 clips the first; lesions keep their weight."""
    predicted, target = drawn(3, 4, 6, 6), drawn(3, 4, 6, 6)
    masks, schedule = torch.ones(3, 12, 12, dtype=torch.long), Schedule(SCHEDULE.alphas_cumprod, prediction)
    errors = ((predicted - target) ** 2).mean((1, 2, 3))
    expected = sum(weight * error for weight, error in zip(weights, errors, strict=True)) / 3
    for lesion_weight in (0.0, 0.4):  # a mask that covers the image changes nothing
        found = WeightedError(schedule, lesion_weight, 3.0)(predicted, target, TIMES, masks)
        assert float(found) == pytest.approx(float(expected), abs=1e-12)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), "sample")


def losses(method: str, base: Path, **own: Any) -> dict[str, float]:
    """Of one batch of an untrained generator."""
    image = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(4, 16, 16, dtype=torch.uint8)
    mask[:, 4:8, 4:8] = 1
    torch.manual_seed(1)
    module = plugins.load("generators", method)
    built = module.build(module.Params(**own), StableDiffusion.open(base), DatasetSpec(name="toy", size=16))
    pairs = Pairs(image, mask, ("a polyp",) * 4, ("a", "b", "c", "d"))
    batches = built.batches(pairs, Finetune(max_steps=3, global_batch=4, learning_rate=1e-3), "t")
    batch = batches.batch(0).to(torch.device("cpu"))
    with torch.no_grad():
        return {name: float(loss) for name, loss in built.objective(batch, 0.2).items()}


@pytest.mark.parametrize("method", METHODS)
def test_every_controlled_generator_has_it(method: str, base: Path) -> None:
    start = {} if method == "t2i_adapter" else {"start": 0.1}
    plain, focused = losses(method, base, **start), losses(method, base, **start, lesion_weight=0.5)
    changed = {name for name, value in plain.items() if value != focused[name]}
    assert changed == set(FOCUSED.get(method, ("mask",)))


@pytest.mark.parametrize("method", METHODS)
def test_min_snr_weights_every_loss(method: str, base: Path) -> None:
    start = {} if method == "t2i_adapter" else {"start": 0.1}
    plain, weighted = losses(method, base, **start), losses(method, base, **start, min_snr=5.0)
    assert all(value != weighted[name] for name, value in plain.items())


@pytest.mark.parametrize("method", METHODS)
def test_at_its_default_it_is_no_part_of_fingerprints(method: str) -> None:
    params = plugins.load("generators", method).Params
    assert not {"lesion_weight", "min_snr"} & params().model_dump(mode="json").keys()
    assert params(min_snr=5).model_dump(mode="json")["min_snr"] == 5
    assert params(lesion_weight=0.5).model_dump(mode="json")["lesion_weight"] == 0.5


@pytest.mark.parametrize("weight", [-0.1, 1.0])
def test_other_weights_are_refused(weight: float) -> None:
    with pytest.raises(UserError, match=r"generators\.siamese\.lesion_weight: .*, found"):
        plugins.read_params("generators", "siamese", {"lesion_weight": weight}, "generators.siamese")
