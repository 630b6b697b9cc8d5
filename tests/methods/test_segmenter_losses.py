"""Losses and tricky modules of the segmenters, with numbers worked out by hand."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import Batch
from pipeline.methods.segmenters import (
    _foreground,
    _multi_scale,
    _pixel_contrast,
    _structure_objective,
    ctnet,
    polyp_pvt,
    sanet,
)
from tests.reference import polyp_literal


def maps(*rows: list[float]) -> Tensor:
    """[1, 1, rows, columns]."""
    return torch.tensor(rows)[None, None]


def test_one_foreground_map_means_the_sigmoid() -> None:
    z = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    logits = _foreground.with_background(z)
    torch.testing.assert_close(logits.softmax(1)[:, 1:], z.sigmoid())
    torch.testing.assert_close(_foreground.log_odds(logits), z)


def test_log_odds_of_three_classes() -> None:
    logits = torch.tensor([1.0, 2.0, 3.0]).log().view(1, 3, 1, 1)  # probabilities 1/6, 2/6, 3/6
    assert _foreground.log_odds(logits).flatten().tolist() == pytest.approx([math.log(2 / 4), 0], abs=1e-6)
    assert float(_foreground.log_odds(logits, first=0)[0, 0, 0, 0]) == pytest.approx(math.log(1 / 5))


@pytest.mark.parametrize("weighted", [True, False])
def test_structure_loss_of_one_pixel(weighted: bool) -> None:
    # The mean over 31 x 31 is 1/961, so w = 1 + 5 * 960/961 = 5761/961; p = 1/2 and BCE = ln 2 however weighted.
    # IoU part: 1 - (w/2 + 1) / (3w/2 - w/2 + 1) = (w/2) / (w + 1) = 5761 / (2 * 6722).
    loss = _foreground.structure_loss(maps([0.0]).double(), maps([1.0]).double(), weighted)
    assert float(loss) == pytest.approx(math.log(2) + 5761 / 13444, rel=1e-12)


@pytest.mark.parametrize(
    ("weighted", "entropy"),
    [(True, (5761 * math.log(4 / 3) + 966 * math.log(4)) / 6727), (False, (math.log(4 / 3) + math.log(4)) / 2)],
)
def test_structure_loss_of_two_pixels(weighted: bool, entropy: float) -> None:
    # Both means are 1/961: w = 5761/961 on the foreground, 1 + 5/961 = 966/961 beside it; p = 3/4 on both.
    # Shared: 0.75 * 5761 = 4320.75; union: 5761 + 0.75 * 966 = 6485.5 (each over 961, to which 1 is added).
    logits = torch.tensor([[[[math.log(3)] * 2]]], dtype=torch.float64)
    loss = _foreground.structure_loss(logits, maps([1.0, 0.0]).double(), weighted)
    assert float(loss) == pytest.approx(entropy + 1 - (4320.75 + 961) / (6485.5 + 961), rel=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_structure_loss_equals_its_literal_version(weighted: bool) -> None:
    rng = torch.Generator().manual_seed(1)
    logits, target = torch.randn(2, 1, 20, 24, generator=rng).double(), torch.zeros(2, 1, 20, 24).double()
    target[0, 0, 4:12, 5:15] = 1
    literal = polyp_literal.structure_loss(logits[:, 0], target[:, 0], weighted)
    assert float(_foreground.structure_loss(logits, target, weighted)) == pytest.approx(literal, rel=1e-9)


def test_dice_per_image_does_not_smooth_its_numerator() -> None:
    logits = torch.tensor([[50.0, 50, -50, -50], [-50, -50, -50, -50]])[:, None, None]
    target = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])[:, None, None]
    # First: 1 - 2 / (2 + 1 + 1) = 1/2; second, empty and none found: 1 - 0 / 1 = 1.
    assert float(_foreground.dice_per_image(logits, target)) == pytest.approx(0.75)


def test_probability_correction_by_hand() -> None:
    z = maps([2.0, -1.0], [-3.0, -1.0])
    # 1 of 4 pixels is above 0: 2 / (1/4) = 8; 3 of 4 below: -1 / (3/4) = -4/3 and -3 / (3/4) = -4.
    chance = sanet.correct_probabilities(_foreground.with_background(z))
    torch.testing.assert_close(chance[:, 1:], maps([8.0, -4 / 3], [-4.0, -4 / 3]).sigmoid())
    torch.testing.assert_close(chance.sum(1), torch.ones(1, 2, 2))


def test_probability_correction_leaves_the_mask_of_two_classes_and_a_map_of_one_sign() -> None:
    z = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    z[2] = -z[2].abs()
    logits = _foreground.with_background(z)
    assert torch.equal(sanet.correct_probabilities(logits).argmax(1), logits.argmax(1))
    torch.testing.assert_close(sanet.correct_probabilities(logits)[2], logits.softmax(1)[2])


def test_probability_correction_of_three_classes_sums_to_one() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(sanet.correct_probabilities(logits).sum(1), torch.ones(2, 8, 8))


def batch(size: int, *streams: str) -> Batch:
    image = torch.zeros(len(streams), 3, size, size)
    return Batch(image, image[:, 0].long(), ("",) * len(streams), streams)


def test_sizes_of_multi_scale_training_are_those_of_the_papers() -> None:
    steps = range(400)
    structure = Counter(_multi_scale.sample_side(batch(352, f"s/{k}/0"), _structure_objective.RATES) for k in steps)
    assert set(structure) == {256, 352, 448}
    assert all(100 <= count <= 167 for count in structure.values())  # 133 expected
    drawn = Counter(_multi_scale.sample_side(batch(352, f"s/{k}/0"), sanet.RATES, sanet.PROBABILITIES) for k in steps)
    assert [size for size, _ in drawn.most_common()] == [352, 320, 288, 256]
    assert 130 <= drawn[352] <= 190  # 160 expected


def test_all_samples_of_a_step_have_one_size() -> None:
    for step in range(20):
        sizes = {_multi_scale.sample_side(batch(96, f"seed/{step}/{n}"), _structure_objective.RATES) for n in range(4)}
        assert len(sizes) == 1


def test_a_size_is_at_least_one_stride() -> None:
    assert _multi_scale.sample_side(batch(32, "s/0/0"), (0.25,)) == 32


def test_sizes_do_not_vary_in_evaluation(toy_batch: Batch) -> None:
    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[int] = set()

        def forward(self, image: Tensor) -> Tensor:
            self.seen.add(image.shape[-1])
            return _foreground.with_background(image[:, :1])

    network = Network()
    objective = sanet.BceDiceObjective(network, multi_scale=True).eval()  # type: ignore[arg-type]
    big = Batch(toy_batch.image.repeat(1, 1, 3, 3), toy_batch.mask.repeat(1, 3, 3), toy_batch.prompts, ())
    for step in range(10):
        streams = tuple(f"s/{step}/{n}" for n in range(4))
        objective(Batch(big.image, big.mask, big.prompts, streams), 0.0)
    assert network.seen == {96}
    for step in range(40):
        streams = tuple(f"s/{step}/{n}" for n in range(4))
        objective.train()(Batch(big.image, big.mask, big.prompts, streams), 0.0)
    assert network.seen == {64, 96}  # 70, 79, 87 and 96, rounded to the stride


def test_contrast_by_hand() -> None:
    # Every anchor's positive is orthogonal (s = 0), one negative equal (s = 10), the other orthogonal.
    rows = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]], dtype=torch.float64)
    loss = _pixel_contrast.info_nce(rows, torch.tensor([0, 0, 1, 1]))
    assert float(loss) == pytest.approx(10 / 7 * math.log(2 + math.exp(10)), rel=1e-12)


def test_contrast_equals_its_literal_version() -> None:
    rng = torch.Generator().manual_seed(4)
    rows = torch.nn.functional.normalize(torch.randn(12, 5, generator=rng, dtype=torch.float64), dim=1)
    labels = torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    literal = polyp_literal.info_nce(rows, labels.tolist())
    assert float(_pixel_contrast.info_nce(rows, labels)) == pytest.approx(literal, rel=1e-12)


@pytest.mark.parametrize(
    ("hard", "easy", "count", "found"), [(20, 20, 8, (4, 4)), (3, 20, 8, (3, 5)), (20, 2, 8, (6, 2))]
)
def test_half_of_the_contrasted_pixels_are_hard(hard: int, easy: int, count: int, found: tuple[int, int]) -> None:
    is_hard = torch.tensor([True] * hard + [False] * easy)
    chosen = _pixel_contrast.sample_pixels(is_hard, ~is_hard, count, seeding.torch_rng("test"))
    assert (int(is_hard[chosen].sum()), int((~is_hard)[chosen].sum())) == found
    assert len(set(chosen.tolist())) == count


def test_classes_with_few_pixels_are_not_contrasted() -> None:
    embedding = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(5), requires_grad=True)
    mask = torch.zeros(1, 6, 6, dtype=torch.long)
    mask[0, 0, :5] = 1
    few = _pixel_contrast.pixel_contrast(embedding, mask, mask, ["s"], min_pixels=5)
    assert float(few.detach()) == 0
    few.backward()  # still a loss of the embedding
    assert float(_pixel_contrast.pixel_contrast(embedding, mask, mask, ["s"], min_pixels=4).detach()) > 0


def test_soft_targets_become_labels_above_a_half() -> None:
    target = torch.tensor([[0.6, 0.5, 0.2], [0.1, 0.2, 0.7]]).view(1, 2, 1, 3)
    assert ctnet.hard_labels(target).flatten().tolist() == [1, 0, 2]


def test_similarity_aggregation_equals_its_literal_version() -> None:
    seeding.seed_everything("similarity")
    module = polyp_pvt.SimilarityAggregation().eval().double()
    fused, detail = (torch.randn(1, 32, side, side, dtype=torch.float64) for side in (8, 16))
    with torch.no_grad():
        small = torch.nn.functional.interpolate(detail, scale_factor=0.5, mode="bilinear", align_corners=True)
        literal = polyp_literal.similarity(module, fused[0], small.softmax(1)[0, 1])
        torch.testing.assert_close(module(fused, detail)[0], literal, rtol=1e-9, atol=1e-9)


def test_scale_interaction_takes_odd_sizes_and_a_single_pixel() -> None:
    module = ctnet.ScaleInteraction().eval()
    for size in (11, 1):
        assert module(torch.randn(2, 32, size, size)).shape == (2, 32, size, size)
