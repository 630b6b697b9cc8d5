"""The five changes that the paper on DermoSegDiff names, against a literal version and its published settings."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.core import paths, plugins
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _five_changes, dermosegdiff
from pipeline.study import load_params
from tests.conftest import REPOSITORY
from tests.reference import five_changes_literal as literal

STUDIES = ("isic2018_dermosegdiff", "ph2_dermosegdiff", "ham10000_dermosegdiff")
SIDE = 128  # of which a 32nd and an 8th are the published 4 and 16 pixels


def pair(height: int = SIDE, width: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels [3, H, W] in float64 and labels [H, W]."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (3, height, width)), rng.integers(0, 2, (height, width))


def changed(change: Any, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the fast version makes, in units of 255."""
    found, labels = change(torch.from_numpy(image) / 255, torch.from_numpy(mask), np.random.default_rng(seed))
    return 255 * found.numpy(), labels.numpy()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fast", "slow", "moves"),
    [
        (_five_changes.add_noise, literal.gauss_noise, False),
        (_five_changes.shift_channels, literal.rgb_shift, False),
        (_five_changes.cut_holes, literal.coarse_dropout, False),
        (_five_changes.flip, literal.flip, True),
        (_five_changes.transform, literal.affine, True),
    ],
)
def test_each_change_is_its_literal_version(fast: Any, slow: Callable[..., Any], moves: bool, seed: int) -> None:
    image, mask = pair(40, 56) if fast is _five_changes.transform else pair()
    found, labels = changed(fast, image, mask, seed)
    rng = np.random.default_rng(seed)
    expected, expected_labels = slow(image, mask, rng) if moves else (slow(image, rng), mask)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.array_equal(labels, expected_labels)
    assert not np.allclose(found, image)


def test_a_pair_is_changed_as_often_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the pairs are left alone; of the other half, each change takes 5 %."""
    names = "add_noise", "shift_channels", "transform", "cut_holes", "flip"
    counts: dict[str, int] = dict.fromkeys(names, 0)

    def counting(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
        def change(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
            counts[name] += 1
            return image, mask

        return change

    for name in counts:
        monkeypatch.setattr(_five_changes, name, counting(name))
    rng, tries = np.random.default_rng(0), 20_000
    for _ in range(tries):
        _five_changes.five_changes(torch.zeros(3, 4, 4), torch.zeros(4, 4, dtype=torch.long), rng)
    for name, count in counts.items():
        assert count / tries == pytest.approx(0.025, abs=0.004), name  # 3.6 standard deviations


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_any_channels_stay_in_range(channels: int) -> None:
    image, mask = torch.rand(channels, 32, 48), torch.randint(0, 3, (32, 48))
    rng = np.random.default_rng(1)
    changes = _five_changes.add_noise, _five_changes.shift_channels, _five_changes.transform, _five_changes.cut_holes
    for change in (*changes, _five_changes.flip):
        found, labels = change(image, mask, rng)
        assert (found.shape, labels.shape) == (image.shape, mask.shape)
        assert (found.dtype, labels.dtype) == (torch.float32, torch.long)
        assert float(found.min()) >= 0 and float(found.max()) <= 1
        assert set(labels.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "expected"), [("paper", _five_changes.five_changes), ("dihedral", dihedral), ("none", None)]
)
def test_the_segmenter_takes_the_augmentation_that_is_named(name: str, expected: Any, toy_study: Any) -> None:
    values = {"width_x": 4, "width_g": 4, "mult_x": (1, 2), "mult_g": (1, 2), "augmentation": name}
    own = plugins.read_params("segmenters", "dermosegdiff", values, "segmenters.dermosegdiff")
    assert isinstance(own, dermosegdiff.Params)
    train = ImageSet.open(paths.real("toy"))
    assert dermosegdiff.build(own, DatasetSpec(name="blobs", size=32)).augment(train) is expected


@pytest.mark.parametrize("study", STUDIES)
def test_the_studies_of_the_paper_use_them(study: str) -> None:
    segmenters = load_params(REPOSITORY / "configs" / "studies" / f"{study}.yaml").segmenters
    own = {name: entry.options for name, entry in segmenters.items() if entry.method == "dermosegdiff"}
    assert set(own) == {"baseline", "dermosegdiff_a", "dermosegdiff_b"}
    assert {options["augmentation"] for options in own.values()} == {"paper"}
