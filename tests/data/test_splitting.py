"""Drawn splits, regrouping, and the two hashes."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data import hashing, splitting
from tests.drawn_pairs import brighter, picture

SHARES = {"test": 0.2, "val": 0.1}


def pixels(image: Image.Image) -> np.ndarray:
    return np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)


def count(splits: list[str]) -> tuple[int, ...]:
    return tuple(splits.count(split) for split in splitting.SPLITS)


def test_shares_of_a_hundred_single_images() -> None:
    names = [f"image {number}" for number in range(100)]
    assert count(splitting.assign_splits([None] * 100, names, SHARES, 0)) == (70, 10, 20)


def test_the_draw_depends_on_names_and_seed_not_on_the_order() -> None:
    names = [f"image {number}" for number in range(50)]
    drawn = dict(zip(names, splitting.assign_splits([None] * 50, names, SHARES, 0), strict=True))
    again = dict(zip(names[::-1], splitting.assign_splits([None] * 50, names[::-1], SHARES, 0), strict=True))
    other = dict(zip(names, splitting.assign_splits([None] * 50, names, SHARES, 1), strict=True))
    assert drawn == again
    assert drawn != other


def test_a_group_is_never_divided() -> None:
    groups = [f"patient {number % 12}" for number in range(100)]
    splits = splitting.assign_splits([None] * 100, groups, SHARES, 0)
    assert len(set(zip(groups, splits, strict=True))) == 12
    assert min(count(splits)) > 0


def test_groups_larger_than_the_share_give_the_smallest() -> None:
    groups = ["big"] * 50 + ["middle"] * 30 + ["small"] * 20
    splits = splitting.assign_splits([None] * 100, groups, {"val": 0.1}, 0)
    assert dict(zip(groups, splits, strict=True)) == {"big": "train", "middle": "train", "small": "val"}


def test_only_missing_splits_are_drawn_and_only_from_train() -> None:
    brought = ["train"] * 10 + ["test"] * 5
    splits = splitting.assign_splits(brought, [str(n) for n in range(15)], SHARES, 0)
    assert count(splits) == (9, 1, 5)
    assert splits[10:] == ["test"] * 5


def test_two_images_cannot_fill_three_splits() -> None:
    assert count(splitting.assign_splits([None, None], ["a", "b"], SHARES, 0)) == (0, 1, 1)


def test_regrouping_follows_chains_and_takes_whole_groups() -> None:
    #         0        1       2      3      4       5
    splits = ["train", "test", "val", "val", "test", "test"]
    groups = ["a", "b", "c", "c", "d", "e"]
    assert splitting.regroup(splits, groups, [(0, 1), (1, 2)]) == ["train", "train", "train", "train", "test", "test"]
    assert splitting.regroup(splits, groups, [(4, 5)]) == splits  # look alike, but within one split
    assert splitting.regroup(splits, groups, []) == splits


def test_joined_groups_follow_chains_and_are_named_alike_in_any_order() -> None:
    groups = ["d", "a", "b", "b", "c", "e"]
    assert splitting.join(groups, []) == groups
    assert splitting.join(groups, [(0, 2), (3, 4)]) == ["b", "a", "b", "b", "b", "e"]
    assert splitting.join(groups[::-1], [(5, 3), (2, 1)]) == ["e", "b", "b", "b", "a", "b"]


def test_content_does_not_depend_on_compression_or_metadata() -> None:
    hashes = set()
    for level in (0, 9):
        buffer = io.BytesIO()
        picture("a").save(buffer, "PNG", compress_level=level)
        hashes.add(hashing.content_hash(pixels(Image.open(buffer))))
    assert hashes == {hashing.content_hash(pixels(picture("a")))}
    assert hashing.content_hash(np.zeros((3, 2, 4), np.uint8)) != hashing.content_hash(np.zeros((3, 4, 2), np.uint8))


def test_a_smaller_recompressed_brighter_copy_looks_the_same() -> None:
    image = picture("a", 120, 96)
    buffer = io.BytesIO()
    brighter(image.resize((80, 64)), 10).save(buffer, "JPEG", quality=60)
    copy, other = pixels(Image.open(buffer)), pixels(picture("b", 120, 96))
    looks = [hashing.perceptual_hash(shown) for shown in (other, pixels(image), copy)]
    assert [(first, second) for first, second, _ in hashing.near_duplicates(looks)] == [(1, 2)]
    assert hashing.near_duplicates([]) == []


def test_bits_that_differ_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "BLOCK", 2)  # several blocks
    first = hashing.perceptual_hash(pixels(picture("a")))
    second, third = first.copy(), first.copy()
    second[:10] ^= True  # at the limit of the gradient bits
    third[:11] ^= True  # above it, but one bit from the second
    assert hashing.near_duplicates([first, second, third]) == [(0, 1, 10), (1, 2, 1)]


def test_look_alikes_of_two_lists_are_found_whatever_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "BLOCK", 2)
    looks = [hashing.perceptual_hash(pixels(picture(name))) for name in "abc"]
    assert hashing.near_pairs(looks, looks[:0:-1]) == [(1, 1, 0), (2, 0, 0)]
    assert hashing.near_pairs([], looks) == hashing.near_pairs(looks, []) == []


def test_the_frequencies_are_those_of_scipy() -> None:
    from scipy.fft import dctn

    grey = np.random.default_rng(0).uniform(0, 255, (32, 32))
    assert np.allclose(4 * hashing._low_frequencies(grey), np.asarray(dctn(grey))[:8, :8])
