"""The embedded default data set: deterministic, exact masks, bounded lesions, bad parameters refused."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data import phantom as drawing
from pipeline.data.sample import Sample
from pipeline.methods.readers import phantom
from pipeline.stages.prepare.params import Data

COUNTS = {"train": 24, "val": 3, "test": 3}


def dataset(size: int = 64, num_classes: int = 2, **own: float) -> list[Sample]:
    data = Data(reader="phantom", size=size, num_classes=num_classes, prompt="A photo of a polyp.")
    return list(phantom.read(data, phantom.Params(**{**COUNTS, **own})))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return dataset()


def lesion(sample: Sample) -> NDArray[np.bool_]:
    return sample.masks[0] == 1


def test_ids_and_splits_are_as_asked(samples: list[Sample]) -> None:
    splits = [s.split for s in samples]
    assert {name: splits.count(name) for name in COUNTS} == COUNTS
    assert [samples[0].id, samples[23].id, samples[24].id, samples[-1].id] == [
        "train_0000",
        "train_0023",
        "val_0000",
        "test_0002",
    ]
    assert {(s.prompt, s.source) for s in samples} == {("A photo of a polyp.", "phantom")}


def test_a_sample_depends_on_its_seed_and_id_alone(samples: list[Sample]) -> None:
    many = {s.id: s for s in samples}
    for sample in dataset(train=2, val=1, test=3):
        np.testing.assert_array_equal(sample.image, many[sample.id].image)
        np.testing.assert_array_equal(sample.masks, many[sample.id].masks)
    assert len({s.image.tobytes() for s in samples}) == len(samples)  # no image twice, in no split
    other = dataset(train=1, val=1, test=1, seed=1)[0]
    assert (other.masks != many["train_0000"].masks).any()


@pytest.mark.parametrize("size", [32, 64, 128])
def test_shapes_and_values_at_every_size(size: int) -> None:
    for sample in dataset(size, train=4, val=1, test=1):
        assert (sample.image.shape, sample.image.dtype) == ((3, size, size), np.uint8)
        assert (sample.masks.shape, sample.masks.dtype) == ((1, size, size), np.uint8)
        assert np.unique(sample.masks).tolist() == [0, 1]


def test_another_size_shows_the_same_lesion() -> None:
    for small, large in zip(dataset(32, train=6), dataset(128, train=6), strict=True):
        coarse = lesion(large).reshape(32, 4, 32, 4).mean((1, 3)) > 0.5
        overlap = 2 * (coarse & lesion(small)).sum() / (coarse.sum() + lesion(small).sum())
        assert overlap > 0.95


def test_a_lesion_is_one_piece_of_bounded_area_inside_the_frame(samples: list[Sample]) -> None:
    for sample in samples:
        mask = lesion(sample)
        assert 0.04 <= mask.mean() <= 0.25
        assert ndimage.label(mask)[1] == 1  # type: ignore[index]
        assert mask[1:-1, 1:-1].sum() == mask.sum()


def test_lesions_lie_anywhere(samples: list[Sample]) -> None:
    centres = np.array([ndimage.center_of_mass(lesion(s)) for s in samples]) / 64
    assert (centres.min(0) < 0.35).all() and (centres.max(0) > 0.65).all()


def test_area_drawn_is_area_of_the_mask() -> None:
    for number in range(8):
        rng = np.random.default_rng(number)
        low, high = np.log(drawing.AREA)
        drawn = np.exp(np.random.default_rng(number).uniform(low, high))  # the outline's first draw
        assert drawing.lesion_outline(rng, 256).inside.mean() == pytest.approx(drawn, rel=0.02)


def border_contrast(sample: Sample) -> float:
    """Distance of mean colours just inside and just outside the lesion's edge, in grey levels."""
    mask, image = lesion(sample), sample.image.astype(float)
    inside = mask & ~np.asarray(ndimage.binary_erosion(mask, iterations=4), bool)
    outside = np.asarray(ndimage.binary_dilation(mask, iterations=4), bool) & ~mask
    return float(np.linalg.norm(image[:, inside].mean(1) - image[:, outside].mean(1)))


def test_a_lesion_differs_from_its_surroundings_less_so_when_faint() -> None:
    plain, faint = (np.mean([border_contrast(s) for s in dataset(faintness=f)]) for f in (0.0, 1.0))
    assert plain > 1.5 * faint
    assert plain > 20


def test_distractors_change_the_image_and_never_the_mask() -> None:
    clear, full = dataset(distractors=0), dataset(distractors=10)
    for a, b in zip(clear, full, strict=True):
        np.testing.assert_array_equal(a.masks, b.masks)
    assert sum((a.image != b.image).any() for a, b in zip(clear, full, strict=True)) > len(clear) / 2


def test_images_are_neither_black_nor_burnt_out(samples: list[Sample]) -> None:
    for sample in samples:
        assert 40 < sample.image.mean() < 215
        assert (sample.image == 255).mean() < 0.1
        red, green, blue = sample.image.mean((1, 2))
        assert red > max(green, blue)  # mucosa


def test_three_classes_show_lesions_everywhere_and_instruments_often() -> None:
    labels = [s.masks[0] for s in dataset(num_classes=3)]
    assert all((m == 1).mean() > 0.02 for m in labels)
    assert sum((m == 2).any() for m in labels) >= len(labels) / 2
    assert set(np.unique(labels)) == {0, 1, 2}


def test_instrument_hides_and_never_moves_the_lesion(samples: list[Sample]) -> None:
    for two, three in zip(samples, dataset(num_classes=3), strict=True):
        bare = three.masks != 2
        np.testing.assert_array_equal(two.masks[bare], three.masks[bare])


def average_hash(sample: Sample) -> NDArray[np.bool_]:
    grey = sample.image.mean(0).reshape(8, 8, 8, 8).mean((1, 3))
    return grey > np.median(grey)


def test_no_two_images_look_alike(samples: list[Sample]) -> None:
    hashes = [average_hash(s) for s in samples]
    assert min((a != b).sum() for a, b in combinations(hashes, 2)) > 2


def test_spline_weights_of_a_pixel_sum_to_one() -> None:
    np.testing.assert_allclose(drawing.spline(64, 5).sum(1), 1)
    np.testing.assert_allclose(drawing.spline(2, 1)[0], [27 / 384, 235 / 384, 121 / 384, 1 / 384])  # at a quarter


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": 0}, ["data.train", "0"]),
        ({"test": -1}, ["data.test", "-1"]),
        ({"faintness": 1.5}, ["data.faintness", "1.5"]),
        ({"seed": -1}, ["data.seed", "-1"]),
        ({"distractor": 2}, ["data.distractor", "did you mean distractors"]),
    ],
)
def test_bad_parameters_are_refused_by_name(values: dict[str, float], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        plugins.read_params("readers", "phantom", {**COUNTS, **values}, "data")
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_classes": 4}, "data.num_classes is 4"),
        ({"size": 16}, "data.size is 16"),
        ({"prompt": {"kvasir": "A photo of a polyp."}}, "no prompt for the source phantom; it has: kvasir"),
    ],
)
def test_what_the_phantom_cannot_draw_is_refused_at_once(keys: dict[str, object], message: str) -> None:
    data = Data.model_validate({"reader": "phantom", "size": 64, "prompt": "A photo of a polyp.", **keys})
    with pytest.raises(UserError, match=message):
        phantom.read(data, phantom.Params(**COUNTS))  # before the first sample is asked for


def test_prompt_of_the_source_is_taken() -> None:
    data = Data(reader="phantom", size=32, prompt={"phantom": "A drawn polyp."})
    assert next(iter(phantom.read(data, phantom.Params(**COUNTS)))).prompt == "A drawn polyp."


def test_reader_does_not_import_torch() -> None:
    code = "import sys, pipeline.methods.readers.phantom; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
