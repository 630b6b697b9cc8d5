"""Windows, affine augmentation and losses per sample of the segmenters, with numbers worked out by hand."""

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.methods.segmenters import _muscle_postprocessing, _sample_losses, _sliding_windows
from pipeline.methods.segmenters._random_affine import RandomAffine


class Highest(np.random.Generator):
    """Draws the upper limit, always."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: object = None) -> object:
        return high if size is None else np.full(size, high)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("spatial", "patch", "overlap", "starts"),
    [
        ((192, 128, 128), (128, 128, 128), (64, 0, 0), [{0, 64}, {0}, {0}]),  # AMOS
        ((256, 256, 48), (256, 256, 32), (0, 0, 16), [{0}, {0}, {0, 16}]),  # pelvis
        ((179, 219, 155), (128, 128, 128), (0, 0, 32), [{0, 51}, {0, 91}, {0, 27}]),  # BraTS
        ((10,), (4,), (1,), [{0, 3, 6}]),
        ((10,), (4,), None, [{0, 4, 6}]),
        ((3, 5), (8, 4), None, [{0}, {0, 1}]),
        ((3, 5), None, None, [{0}, {0}]),
    ],
)
def test_windows_cover_an_image(spatial, patch, overlap, starts) -> None:
    places = _sliding_windows.sliding_windows(spatial, patch, overlap)
    assert [{place[axis].start for place in places} for axis in range(len(spatial))] == starts
    assert len(places) == math.prod(len(own) for own in starts)
    covered = np.zeros(spatial, bool)
    for place in places:
        covered[place] = True
    assert covered.all()


def test_where_windows_overlap_log_probabilities_are_averaged() -> None:
    image = torch.tensor([[[0.0, 0.0, 1.0]]])
    chances = {0.0: [0.9, 0.1], 1.0: [0.5, 0.5]}

    def scores(window: torch.Tensor) -> torch.Tensor:
        return torch.tensor(chances[float(window[0, 0, -1])]).log().view(1, 1, 2, 1).expand(1, 1, 2, 2)

    found = _sliding_windows.stitch_windows(image, _sliding_windows.sliding_windows((3,), (2,), (1,)), scores)
    assert found[0, 0, 0].tolist() == pytest.approx([0.9, 3 / 4, 0.5])  # sqrt(.9 .5) : sqrt(.1 .5) = 3 : 1


def test_random_windows_reach_every_place_and_are_cut_to_the_image() -> None:
    rng = np.random.default_rng(0)
    found = {_sliding_windows.random_window((6, 3), (4, 5), rng)[0].start for _ in range(50)}
    assert found == {0, 1, 2}
    assert _sliding_windows.random_window((6, 3), (4, 5), rng)[1] == slice(0, 3)


def test_a_shift_moves_by_cells() -> None:
    mask = torch.arange(24).view(4, 6)
    image, moved = RandomAffine(0.0, (1.0, 2.0), 0.0)(mask[None].float(), mask, Highest())
    assert torch.equal(moved[:3, :4], mask[1:, 2:])
    assert torch.equal(image[0, :3, :4], mask[1:, 2:].float())
    assert not moved[3].any()
    assert not moved[:, 4:].any()


@pytest.mark.parametrize("shape", [(8, 8), (4, 8), (6, 4, 8)])
def test_a_quarter_turn_keeps_distances_of_oblong_images(shape: tuple[int, ...]) -> None:
    """In the first plane; a cell at (0.5, 1.5) of the centre comes to (1.5, -0.5) or (-1.5, 0.5)."""
    mask, middle = torch.zeros(shape, dtype=torch.long), [side // 2 for side in shape]
    mask[(middle[0], middle[1] + 1, *middle[2:])] = 7
    turn = RandomAffine(math.pi / 2, (0.0,) * len(shape), 0.0)
    if len(shape) == 3:  # all three planes turn one after another; distances from the centre stay
        found = turn(mask[None].float(), mask, Highest())[1].nonzero()[0] - torch.tensor(middle) + 0.5
        assert float((found**2).sum()) == pytest.approx(0.25 + 2.25 + 0.25)
        return
    found = [tuple(place) for place in turn(mask[None].float(), mask, Highest())[1].nonzero().tolist()]
    assert found in ([(middle[0] + 1, middle[1] - 1)], [(middle[0] - 2, middle[1])])


def test_a_factor_stretches() -> None:
    mask = torch.zeros(8, 8, dtype=torch.long)
    mask[2:6, 2:6] = 1
    assert int(RandomAffine(0.0, (0.0, 0.0), 0.5)(mask[None].float(), mask, Highest())[1].sum()) == 36  # 4 x 1.5 = 6


def test_dice_counts_present_foreground_classes_only() -> None:
    chance = torch.tensor([[0.5, 0.2], [0.3, 0.2], [0.2, 0.6]])  # [K, 2 pixels]
    logits = chance.log()[None].repeat(3, 1, 1)
    mask = torch.tensor([[1, 0], [1, 2], [0, 0]])
    one, two = 1 - 2 * 0.3 / (0.5 + 1), 1 - 2 * 0.6 / (0.8 + 1)
    assert _sample_losses.foreground_dice(logits, mask).tolist() == pytest.approx([one, (one + two) / 2, 0.0])


def test_no_foreground_gives_a_loss_and_a_gradient_of_nothing() -> None:
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    _sample_losses.foreground_dice(logits, torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_focal_loss_of_one_pixel() -> None:
    logits = torch.tensor([0.25, 0.75]).log().view(1, 2, 1)
    mask = torch.zeros(1, 1, dtype=torch.long)
    assert float(_sample_losses.focal(logits, mask)) == pytest.approx(0.75**2 * math.log(4))
    assert float(_sample_losses.cross_entropy(logits, mask)) == pytest.approx(math.log(4))


def test_a_cross_section_is_one_region_without_holes() -> None:
    mask = np.zeros((96, 96), bool)
    mask[10:50, 10:60] = True
    mask[25:30, 30:35] = False  # a hole
    mask[70:76, 70:76] = True  # a speck
    mask[20, 60:90] = True  # a line
    found = _muscle_postprocessing.cross_section(mask)
    assert found[27, 32]
    assert not found[60:].any()
    assert not found[:, 66:].any()
    assert found[8:52, 8:62].sum() == found.sum() > 1900


def test_of_two_regions_of_nearly_one_size_the_one_nearer_to_the_skin_is_kept() -> None:
    mask = np.zeros((128, 96), bool)
    mask[10:44, 20:60], mask[70:110, 20:60] = True, True  # 34 x 40 and 40 x 40: 85 %
    assert _muscle_postprocessing.cross_section(mask)[:60].any()
    assert not _muscle_postprocessing.cross_section(mask)[60:].any()
    mask[36:44] = False  # 26 x 40: 65 %
    assert not _muscle_postprocessing.cross_section(mask)[:60].any()
    assert not _muscle_postprocessing.cross_section(np.zeros((32, 32), bool)).any()


def test_the_elements_are_those_of_the_public_code() -> None:
    """Rows of ones of MATLAB's disks of radius 5 and 10, from the border inwards, as ImgX-DiffSeg v0.3.1 lists them."""
    assert _muscle_postprocessing.octagon(9).sum(1).tolist() == [5, 7, 9, 9, 9, 9, 9, 7, 5]
    widths = [11, 13, 15, 17, *[19] * 11, 17, 15, 13, 11]
    assert _muscle_postprocessing.octagon(19).sum(1).tolist() == widths
    distance = abs(np.arange(19) - 9)
    assert np.array_equal(_muscle_postprocessing.octagon(19), distance[:, None] + distance <= 14)


def element(side: int) -> NDArray[np.uint8]:
    return _muscle_postprocessing.octagon(side).astype(np.uint8)


def test_a_cross_section_is_what_opencv_makes_of_it() -> None:
    """The steps of the public code, but for its choice between two large regions, which is by column, not by row."""
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(20):
        smooth = cv2.GaussianBlur(rng.normal(size=(96, 128)).astype(np.float32), (0, 0), 9)
        mask = smooth > np.quantile(smooth, 0.6)
        filled = np.asarray(ndimage.binary_fill_holes(mask), np.uint8)
        opened = cv2.dilate(cv2.erode(filled, np.ones((5, 5), np.uint8)), element(9))
        opened = cv2.morphologyEx(opened, cv2.MORPH_OPEN, element(19))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
        order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
        if len(order) > 1 and stats[order[1], cv2.CC_STAT_AREA] > 0.75 * stats[order[0], cv2.CC_STAT_AREA]:
            continue  # the next test
        expected = ndimage.binary_fill_holes(labels == order[0])
        assert np.array_equal(_muscle_postprocessing.cross_section(mask), expected)
        kept.append(expected[0].any() or expected[-1].any() or expected[:, 0].any() or expected[:, -1].any())
    assert any(kept), "no region reaches the border, where the two libraries could differ"


def test_regions_that_touch_at_corners_are_one() -> None:
    mask = np.zeros((128, 128), bool)
    mask[20:60, 20:60], mask[60:100, 60:100] = True, True
    found = _muscle_postprocessing.cross_section(mask)
    assert found[30, 30] and found[90, 90]


def test_probabilities_change_only_where_the_mask_does() -> None:
    chance = torch.full((1, 1, 2, 64, 64), 0.5)
    chance[0, 0, 1, 8:48, 8:48], chance[0, 0, 1, 60:62, 60:62] = 0.8, 0.9
    chance[:, :, 0] = 1 - chance[:, :, 1]
    found = _muscle_postprocessing.postprocess(chance)
    assert found[0, 0, 1, 61, 61] == 0
    assert found[0, 0, 0, 61, 61] == 1
    assert found[0, 0, 1, 20, 20] == chance[0, 0, 1, 20, 20]
    torch.testing.assert_close(found.sum(2), torch.ones(1, 1, 64, 64))
