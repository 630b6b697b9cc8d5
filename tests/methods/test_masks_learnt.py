"""Learnt masks: distances and back, topology, copies, what is trained once, and that only training masks are seen."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline.core import files, plugins
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import Sample
from pipeline.methods.masks import _learnt_copies, _learnt_fields, _learnt_network, _learnt_training, learnt
from pipeline.methods.masks._learnt_copies import SIDE, WINDOW, Likeness, silhouette
from pipeline.methods.masks._learnt_fields import REACH, fields_of, flags_of, hints_of, mask_of
from pipeline.methods.masks._learnt_regions import Nesting, shapes_of
from tests.mask_sets import box, phantom_masks, reaches_the_frame, written
from tests.reference import learnt_masks_literal as literal

FLAT = Nesting((1,), {1: 0})
QUICK: dict[str, Any] = {"steps": 4, "width": 8, "tries": 2}


@pytest.fixture(autouse=True)
def few_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a work folder of its own, and learns 24 masks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_learnt_training, "FEWEST", 24)


def build(train: ImageSet, count: int | None = None, seed: str = "0", **values: Any) -> Any:
    return learnt.build(learnt.Params(**{**QUICK, **values}), train, count, seed)


def disc(side: int, row: float, column: float, radius: float) -> np.ndarray:
    down, right = np.indices((side, side))
    return (np.hypot(down - row, right - column) < radius).astype(np.uint8)


def discs(number: int, side: int = 32) -> list[np.ndarray]:
    """Discs of different sizes at different places, clear of the frame."""
    return [disc(side, 12 + k % 4 * 2, 12 + k % 3 * 3, 5 + k % 5) for k in range(number)]


def cups(number: int, side: int = 48) -> list[np.ndarray]:
    """A disc (1) with a cup (2) inside, and a bar (3) below."""
    bar = box(side, slice(40, 44), slice(8, 40))
    places = ((20 + k % 6, 12 + k % 3, 5 + k % 4) for k in range(number))
    return [disc(side, 20, right, wide) + disc(side, 21, right, narrow) + 3 * bar for right, wide, narrow in places]


def pieces(region: np.ndarray) -> int:
    return int(ndimage.label(region, np.ones((3, 3)))[1])  # type: ignore[index]


def equal(one: list[ConditioningMask], other: list[ConditioningMask]) -> bool:
    same = all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))
    return same and [a.transform for a in one] == [b.transform for b in other]


# --- distances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
def test_a_distance_is_the_one_written_out(number: int) -> None:
    rng = np.random.default_rng(number)
    region = ndimage.gaussian_filter(rng.standard_normal((16, 16)), 2) > 0
    region[0, :5] = True
    fast = _learnt_fields.distance(region)
    np.testing.assert_allclose(fast, literal.signed_distance(region, REACH), atol=1e-6)


def test_a_region_that_fills_the_image_or_none_of_it_has_the_largest_distances() -> None:
    assert (_learnt_fields.distance(np.ones((8, 8), bool)) == 1).all()
    assert (_learnt_fields.distance(np.zeros((8, 8), bool)) == -1).all()


@pytest.mark.parametrize("side", [24, 64, 200])
def test_distances_make_the_mask_again(side: int) -> None:
    mask = disc(side, side * 0.4, side * 0.55, side * 0.22)
    again = mask_of(fields_of(mask, FLAT, 32), shapes_of(mask, FLAT), FLAT, side)
    assert (again & mask).sum() / (again | mask).sum() > 0.97
    assert again.sum() == pytest.approx(mask.sum(), abs=2)


def test_the_ellipse_that_is_asked_for_covers_its_region() -> None:
    mask = np.zeros((64, 64), np.uint8)
    down, right = np.indices((64, 64))
    mask[np.hypot((down - 30) / 8, (right - 24) / 18) < 1] = 1
    inside = hints_of(shapes_of(mask, FLAT), FLAT, 64)[0] > 0
    assert (inside & (mask > 0)).sum() / (inside | (mask > 0)).sum() > 0.95


def test_outlines_at_a_large_size_are_smooth() -> None:
    """A disc drawn on 32 distances has at 512 pixels the outline of a circle: its radius varies by less than 1 %."""
    shapes = shapes_of(disc(512, 250, 260, 120), FLAT)
    mask = mask_of(fields_of(disc(512, 250, 260, 120), FLAT, 32), shapes, FLAT, 512)
    edge = np.argwhere(mask.astype(bool) & ~ndimage.binary_erosion(mask))
    radii = np.hypot(*(edge - [250, 260]).T)
    assert radii.std() < 1.2


# --- topology ------------------------------------------------------------------------------------------------------


def test_which_label_lies_inside_which_is_found_in_all_masks() -> None:
    nesting = Nesting.of(cups(4), 4)
    assert nesting.parents == {1: 0, 2: 1, 3: 0}
    assert nesting.labels.index(1) < nesting.labels.index(2)
    open_cup = cups(1)[0]
    open_cup[21, 21:40] = 2  # it leaves the disc
    assert Nesting.of([*cups(4), open_cup], 4).parents == {1: 0, 2: 0, 3: 0}
    assert Nesting.of(cups(2), 6).parents == {1: 0, 2: 1, 3: 0, 4: 0, 5: 0}  # labels that no mask has


def test_three_labels_may_lie_inside_each_other() -> None:
    rings = disc(48, 24, 24, 20) + disc(48, 24, 24, 14) + disc(48, 24, 24, 8)
    assert Nesting.of([rings], 4).parents == {1: 0, 2: 1, 3: 2}
    swapped = np.array([0, 3, 1, 2], np.uint8)[rings]  # the outermost label is the largest
    nesting = Nesting.of([swapped], 4)
    assert (nesting.labels, nesting.parents) == ((3, 1, 2), {3: 0, 1: 3, 2: 1})


def test_any_field_gives_a_mask_with_the_topology_that_is_asked_for() -> None:
    """Noise instead of distances: labels are nested, in one piece, without holes and clear of the frame."""
    nesting, source = Nesting.of(cups(4), 4), cups(1)[0]
    shapes = shapes_of(source, nesting)
    rng = np.random.default_rng(0)
    for _ in range(30):
        field = ndimage.gaussian_filter(rng.standard_normal((3, 32, 32)), (0, 2, 2)).astype(np.float32) * 4
        mask = mask_of(field, shapes, nesting, 48)
        region = nesting.region(mask, 1)
        assert mask.any()
        assert pieces(region) <= 1 and pieces(mask == 2) <= 1 and pieces(mask == 3) <= 1
        assert region[mask == 2].all()
        around = ndimage.binary_dilation(mask == 2) & (mask != 2)
        assert set(np.unique(mask[around])) <= {0, 1, 3}
        assert not any(reaches_the_frame(mask, label) for label in (1, 2, 3))


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_field_without_an_outline_gives_a_lesion_nevertheless(value: float) -> None:
    shapes = shapes_of(disc(40, 20, 20, 8), FLAT)
    mask = mask_of(np.full((1, 32, 32), value, np.float32), shapes, FLAT, 40)
    assert mask.any() and mask.max() == 1 and not reaches_the_frame(mask, 1)


def test_a_training_mask_of_two_pieces_with_a_hole_may_have_them_again() -> None:
    two = disc(64, 20, 20, 12) + disc(64, 44, 44, 10) - disc(64, 20, 20, 5)
    shapes = shapes_of(two, FLAT)
    assert (shapes[1].pieces, shapes[1].holed) == (2, True)
    mask = mask_of(fields_of(two, FLAT, 64), shapes, FLAT, 64)
    assert pieces(mask) == 2 and not mask[20, 20]
    one = {1: replace(shapes[1], pieces=1, holed=False)}
    mask = mask_of(fields_of(two, FLAT, 64), one, FLAT, 64)
    assert pieces(mask) == 1 and mask[20, 20]


def test_drawn_masks_have_the_labels_and_the_nesting_of_the_training_masks(tmp_path: Path) -> None:
    train = written(tmp_path / "set", cups(6), 4)
    for mask in build(train, 12, tries=3):
        assert set(np.unique(mask.pixels)) <= {0, 1, 2, 3}
        region = mask.pixels % 3 > 0
        assert region[mask.pixels == 2].all() and pieces(region) == 1
        asked = {shape["label"] for shape in mask.transform["shapes"]}
        assert asked == {1, 2, 3}


def test_a_label_that_a_training_mask_lacks_is_not_drawn(tmp_path: Path) -> None:
    masks = discs(6)
    for mask in masks[::2]:
        mask[26:30, 4:20] = 2
    drawn = [*build(written(tmp_path / "set", masks, 3), 12, tries=2)]
    assert all((2 in mask.pixels) <= (index % 2 == 0) for index, mask in enumerate(drawn))
    assert {mask.transform["drawn_from"] for mask in drawn[:6]} == {f"case_{k:03d}" for k in range(6)}


# --- copies --------------------------------------------------------------------------------------------------------


def test_overlaps_are_the_ones_written_out() -> None:
    rng = np.random.default_rng(1)
    rows = ndimage.gaussian_filter(rng.standard_normal((3, 20, 20)), (0, 3, 3)) > 0
    others = ndimage.gaussian_filter(rng.standard_normal((2, 20, 20)), (0, 3, 3)) > 0
    fast = _learnt_copies._overlaps(rows, others.reshape(2, -1).astype(np.float32))
    slow = [[literal.best_overlap(one, other) for other in others] for one in rows]
    np.testing.assert_allclose(fast, slow, atol=1e-6)


def test_a_moved_scaled_mirrored_or_turned_copy_is_found() -> None:
    source = box(96, slice(20, 50), slice(20, 32))
    source[20:30, 20:60] = 1
    small = np.zeros((96, 96), np.uint8)
    small[40:88, 40:88] = source[0:96:2, 0:96:2]
    copies = [source, np.roll(source, (15, 9), (0, 1)), source[::-1], np.rot90(source), small]
    likeness = Likeness.of([source, disc(96, 40, 40, 20)], ["a", "b"], 0.0)
    assert (likeness.nearest(copies) > 0.9).all()
    assert likeness.nearest([box(96, slice(10, 80), slice(40, 48))])[0] < 0.7


def test_the_limit_is_how_alike_training_masks_of_different_groups_are() -> None:
    bars = [box(48, slice(4, 44), slice(20, 28)), box(48, slice(2, 40), slice(2, 8))]
    masks = [disc(48, 24, 24, 12), disc(48, 20, 20, 8), *bars]
    apart = Likeness.of(masks, "abcd", 0.0).limit
    assert apart > 0.88  # two discs, of few pixels
    assert Likeness.of(masks, "aabc", 0.0).limit < apart  # of one patient
    assert Likeness.of(masks, "abcd", 0.9).limit < apart
    assert Likeness.of(masks, "aaaa", 0.0).limit == 1.0  # nothing to compare


def test_what_is_too_alike_is_drawn_again_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = written(tmp_path / "set", discs(8))
    calls: list[int] = []

    def overlaps(self: Likeness, masks: Any) -> Any:
        """The first try of every mask is too alike."""
        calls.append(len(masks))
        return np.full(len(masks), float(len(calls) == 1))

    monkeypatch.setattr(Likeness, "nearest", overlaps)
    monkeypatch.setattr(Likeness, "of", lambda *_: Likeness(np.zeros((1, 1), np.float32), 0.5))
    drawn = [*build(train, 8, tries=4)]
    assert calls[:2] == [16, 16]
    assert all(mask.transform["try"] > 0 and mask.transform["overlap"] == 0 for mask in drawn)
    calls.clear()
    assert all(mask.transform["overlap"] == 1 for mask in build(train, 8, tries=1))  # no further try


def test_an_empty_training_mask_is_passed_over_by_the_model(tmp_path: Path) -> None:
    masks = [np.zeros((32, 32), np.uint8), *discs(3)]
    drawn = [*build(written(tmp_path / "set", masks), 8, tries=1)]
    assert all(mask.pixels.any() for mask in drawn)
    assert "case_000" not in {mask.transform["drawn_from"] for mask in drawn}
    assert drawn[1].transform["drawn_from"] == "case_001"


# --- training ------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_one_written_out() -> None:
    torch.manual_seed(0)
    diffusion, k = _learnt_network.process(), torch.tensor([3, 400, 999])
    clean, noise, hints = torch.randn(3, 3, 1, 8, 8, dtype=torch.float64).unbind(0)
    flags = torch.zeros(3, 4, dtype=torch.float64)
    model = _learnt_network.MaskDenoiser(1, 8).double()
    torch.nn.init.normal_(model.network.head[2].weight, std=0.1)
    fast = _learnt_network.loss(model, diffusion, clean, noise, k, hints, flags)
    alphas = diffusion.alphas_cumprod
    signal, spread = alphas[k].sqrt().view(3, 1, 1, 1), (1 - alphas[k]).sqrt().view(3, 1, 1, 1)
    noisy = signal * clean + spread * noise
    predicted = model(noisy, k, hints, flags).detach().numpy()
    slow = literal.weighted_loss(predicted, clean.numpy(), alphas.numpy(), k.numpy(), _learnt_network.GAMMA)
    assert float(fast) == pytest.approx(slow, rel=1e-12)


def test_the_untrained_model_says_the_ellipse() -> None:
    """Its last layer is zero, so that training starts from the shape that is asked for."""
    hints = torch.rand(2, 3, 32, 32)
    model = _learnt_network.MaskDenoiser(3, 8)
    said = model(torch.randn(2, 3, 32, 32), torch.tensor([0, 999]), hints, torch.zeros(2, 12))
    torch.testing.assert_close(said, hints, rtol=0, atol=0)


def test_training_makes_the_loss_smaller(tmp_path: Path) -> None:
    train = phantom_masks(tmp_path / "set", 12, 2)
    varied = _learnt_training.varied_masks(learnt.Params(**QUICK), train, FLAT, "0")
    model, diffusion = _learnt_network.MaskDenoiser(1, 8), _learnt_network.process()

    def held() -> float:
        rng = torch.Generator().manual_seed(1)
        k = torch.randint(600, (24,), generator=rng)
        noise = torch.randn(varied[0].shape, generator=rng)
        with torch.no_grad():
            return float(_learnt_network.loss(model, diffusion, varied[0], noise, k, *varied[1:]))

    before = held()
    _learnt_network.train(model, *varied, 60, "0")
    assert held() < 0.8 * before


def test_what_is_asked_for_is_measured_after_the_move(tmp_path: Path) -> None:
    """Flips, turns and scales of the training masks cannot show in drawn ones: the network is told of them."""
    train = written(tmp_path / "set", discs(5))
    fields, hints, flags = _learnt_training.varied_masks(learnt.Params(**QUICK), train, FLAT, "0")
    assert len(fields) == len(hints) == len(flags) == 24
    overlap = ((fields > 0) & (hints > 0)).sum((1, 2, 3)) / ((fields > 0) | (hints > 0)).sum((1, 2, 3))
    assert overlap.min() > 0.7
    assert len({field.numpy().tobytes() for field in fields}) == 24


def test_without_flips_no_mask_is_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_learnt_training, "CHANGES", {"scale": (1.0, 1.0), "rotate": 0.0, "shift": 0.0})
    hook = box(32, slice(8, 24), slice(8, 12))
    hook[8:12, 8:24] = 1
    train = written(tmp_path / "set", [hook, hook])

    def kinds(*, flips: bool) -> int:
        fields, _, _ = _learnt_training.varied_masks(learnt.Params(**QUICK, flips=flips), train, FLAT, "0")
        return len({field.numpy().tobytes() for field in fields})

    assert (kinds(flips=False), kinds(flips=True)) == (1, 4)


def test_the_model_is_trained_once_for_all_that_draw_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    train = written(tmp_path / "set", discs(5))
    first = [*build(train, 3)]
    assert "learnt the masks of 5 training images" in caplog.text
    monkeypatch.setattr(_learnt_network, "train", lambda *_: pytest.fail("it was trained already"))
    assert equal(first, [*build(train, 3)])
    assert [*build(train, 3, bandwidth=0.5, alike=0.2, tries=2)]  # of drawing, not of learning


@pytest.mark.parametrize("change", [{"steps": 5}, {"width": 16}, {"flips": False}, {"seed": "1"}])
def test_what_changes_the_model_trains_another_one(tmp_path: Path, change: dict[str, Any]) -> None:
    train = written(tmp_path / "set", discs(5))
    models = {mask.transform["model"] for mask in (*build(train, 1), *build(train, 1, **change))}
    assert len(models) == len([*Path("work").glob("masks-*")]) == 2


def test_other_training_masks_train_another_model_and_other_images_do_not(tmp_path: Path) -> None:
    masks = discs(5)
    train = written(tmp_path / "set", masks)
    samples = [Sample(row["id"], 9 + 0 * train.picture(row), train.masks(row), "A.", "train") for row in train]
    repainted = ImageSet.create(tmp_path / "repainted", train.spec, ((sample, {}) for sample in samples))
    other = written(tmp_path / "other", [*masks[1:], disc(32, 16, 16, 4)])
    models = [build(images, 1)[0].transform["model"] for images in (train, repainted, other)]
    assert models[0] == models[1] != models[2]


def test_a_killed_or_damaged_training_is_done_again_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = written(tmp_path / "set", discs(5))
    whole = [*build(train, 4)]
    (folder,) = Path("work").glob("masks-*")
    (folder / "weights.safetensors").write_bytes(b"cut off")
    assert equal(whole, [*build(train, 4)])
    (folder / "weights.safetensors").unlink()
    (folder / files.SEAL).unlink()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_learnt_training, "_keep", killed)
        with pytest.raises(KeyboardInterrupt):
            build(train, 4)
    assert equal(whole, [*build(train, 4)])


def test_drawing_leaves_the_global_random_streams_alone(tmp_path: Path) -> None:
    train = written(tmp_path / "set", discs(5))
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    assert [*build(train, 2)]
    assert torch.equal(torch.rand(1), expected)


def test_a_block_is_drawn_alike_whatever_is_asked_for_first(tmp_path: Path) -> None:
    train = written(tmp_path / "set", discs(5))
    forwards, backwards = build(train, 40), build(train, 20)
    last = [backwards[k] for k in reversed(range(20))]
    assert equal([forwards[k] for k in range(20)], last[::-1])


# --- leaks and refusals --------------------------------------------------------------------------------------------


class Watched(ImageSet):
    """A training set that tells which masks were opened."""

    opened: set[str] = set()  # noqa: RUF012

    def mask(self, row: Any) -> Any:
        self.opened.add(row["id"])
        return super().mask(row)


def split_set(folder: Path, held_out: list[np.ndarray]) -> ImageSet:
    """Five training discs, and other masks in validation and test."""
    train = written(folder / "train", discs(5))

    def samples() -> Iterator[tuple[Sample, dict[str, Any]]]:
        for row in train:
            yield Sample(row["id"], train.picture(row), train.masks(row), "A.", "train"), {}
        for k, mask in enumerate(held_out):
            image = np.zeros((3, 32, 32), np.uint8)
            yield Sample(f"held_{k}", image, mask[None], "A.", ("val", "test")[k % 2]), {}

    return ImageSet.create(folder / "all", train.spec, samples())


def test_only_training_masks_are_seen(tmp_path: Path) -> None:
    """Other held-out masks change no byte of the model or of what it draws, and none of them is opened."""
    one = split_set(tmp_path / "one", [box(32, slice(4, 28), slice(10, 14))] * 2)
    other = split_set(tmp_path / "other", [disc(32, 16, 16, 14)] * 4)
    Watched.opened.clear()
    watched = Watched(one.folder, one.spec, one.rows).split("train")
    assert equal([*build(watched, 6)], [*build(other.split("train"), 6)])
    assert {f"case_{k:03d}" for k in range(5)} == Watched.opened
    assert len([*Path("work").glob("masks-*")]) == 1


@pytest.mark.parametrize("masks", [[box(32, slice(0))] * 3, [box(32, slice(0)), box(32, slice(8, 20), slice(8, 20))]])
def test_too_few_training_masks_with_a_lesion_are_refused(tmp_path: Path, masks: list[np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"of \d training masks have a lesion, but masks: learnt needs 2"):
        build(written(tmp_path / "set", masks))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"mask_params\.steps: .*greater than or equal to 1, found 0"),
        ({"width": 20}, r"mask_params\.width: .*multiple of 8, found 20"),
        ({"grid": 48}, r"mask_params\.grid: .*32 or 64, found 48"),
        ({"flips": "some"}, r"mask_params\.flips: .*boolean.*found 'some'"),
        ({"bandwidth": -1}, r"mask_params\.bandwidth: .*greater than or equal to 0, found -1"),
        ({"alike": 1}, r"mask_params\.alike: .*less than 1, found 1"),
        ({"tries": 0}, r"mask_params\.tries: .*greater than or equal to 1, found 0"),
        ({"step": 9}, r"mask_params\.step is not a parameter; did you mean steps\?"),
    ],
)
def test_a_bad_parameter_is_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        plugins.read_params("masks", "learnt", values, "generators.siamese.mask_params")
    assert "\n" not in str(raised.value)


def test_flags_stand_in_the_order_of_the_labels() -> None:
    nesting, mask = Nesting.of(cups(2), 4), np.where(cups(1)[0] == 3, 0, cups(1)[0]).astype(np.uint8)
    flags = np.array(flags_of(shapes_of(mask, nesting), nesting)).reshape(3, 4)
    assert flags[nesting.labels.index(3)].tolist() == [0, 0, 0, 0]
    assert flags[nesting.labels.index(1)].tolist() == [1, 0, 0, 0]


def test_a_silhouette_has_the_same_area_wherever_the_mask_lies() -> None:
    """But for half a pixel along the outline of the disc."""
    area = (SIDE / WINDOW) ** 2
    for place in ((40, 40, 10), (50, 60, 30), (30, 70, 16)):
        assert abs(silhouette(disc(96, *place)).sum() - area) <= 0.5 * 2 * math.sqrt(math.pi * area)
