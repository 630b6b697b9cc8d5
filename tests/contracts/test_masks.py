"""What every source of masks promises."""

import json
import re
from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.core import plugins
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, png
from pipeline.data.sample import DatasetSpec
from pipeline.evaluation.judges import named_pairs
from pipeline.methods.masks import _learnt_training
from pipeline.stages.generate.provenance import image_columns
from tests.conftest import blobs

NAMES = plugins.names("masks")
DRAWN = ("elastic", "learnt", "random", "shapes")  # another seed, other masks
COUNT, CLASSES = 7, 3
QUICK = {"learnt": {"steps": 1, "width": 8, "tries": 1}}


@pytest.fixture(autouse=True)
def beside_the_masks(train: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained is kept in `work` for all tests; it learns few masks."""
    monkeypatch.chdir(train.folder.parent)
    monkeypatch.setattr(_learnt_training, "FEWEST", 8)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """5 masks of three classes, and as PNG files in the folder `bank` beside them."""
    folder, spec = tmp_path_factory.mktemp("masks"), DatasetSpec(name="blobs", size=32, num_classes=CLASSES)
    train = ImageSet.create(folder / "real", spec, blobs(spec, {"train": 5}))
    (folder / "bank").mkdir()
    for row in train:
        (folder / "bank" / f"{row['id']}.png").write_bytes(png(train.mask(row)))
    return train


def build(name: str, train: ImageSet, count: int | None = COUNT, seed: str = "0") -> Sequence[ConditioningMask]:
    values = {"folder": str(train.folder.parent / "bank")} if name == "bank" else QUICK.get(name, {})
    params = plugins.read_params("masks", name, values, "generators.siamese.mask_params")
    return plugins.load("masks", name).build(params, train, count, seed)


@pytest.mark.parametrize("name", NAMES)
def test_there_are_as_many_as_asked_for_or_one_per_source(name: str, train: ImageSet) -> None:
    assert len(build(name, train)) == len([*build(name, train)]) == 7
    assert len(build(name, train, None)) == 5
    assert len(build(name, train, 2)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_names_the_training_pair_that_it_starts_from(name: str, train: ImageSet) -> None:
    """By it cross-fitted judges know who has not seen the pair; the masks of a bank have none."""
    rows = [image_columns({}, mask, 0, 0) for mask in build(name, train)]
    found = [named_pairs(row) & set(train.ids) for row in rows]
    assert found == [set() if name == "bank" else {train.ids[k % 5]} for k in range(7)]


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_label_maps_with_a_lesion(name: str, train: ImageSet) -> None:
    for mask in build(name, train):
        assert (mask.pixels.dtype, mask.pixels.shape) == (np.uint8, (32, 32))
        assert mask.pixels.any()
        assert mask.pixels.max() < CLASSES


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_file_names_and_do_not_depend_on_the_count(name: str, train: ImageSet) -> None:
    ids = [mask.id for mask in build(name, train, 23)]
    assert len(set(ids)) == 23
    assert all(re.fullmatch(r"[a-z0-9_-]+", i) for i in ids)
    assert [mask.id for mask in build(name, train)] == ids[:7]
    if name != "real":  # whose ids are those of the training images
        assert sorted(ids) == ids


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_depends_on_seed_and_index_only(name: str, train: ImageSet) -> None:
    masks, again = build(name, train), build(name, train, 1000)
    for index in (6, 0, 3):
        first, second = masks[index], again[index]
        assert (first.id, first.source_id, first.transform) == (second.id, second.source_id, second.transform)
        assert (first.prompt, first.source) == (second.prompt, second.source)
        np.testing.assert_array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("name", DRAWN)
def test_another_seed_gives_other_masks_and_so_does_another_turn(name: str, train: ImageSet) -> None:
    first, other = build(name, train), build(name, train, seed="1")
    assert not np.array_equal(first[0].pixels, other[0].pixels)
    assert not np.array_equal(first[0].pixels, first[5].pixels)


@pytest.mark.parametrize("name", NAMES)
def test_source_and_transform_are_told_in_plain_json(name: str, train: ImageSet) -> None:
    for index, mask in enumerate(build(name, train)):
        assert json.loads(json.dumps(mask.transform, allow_nan=False)) == mask.transform
        source = {"shapes": "shapes", "learnt": "learnt", "bank": f"bank/train_{index % 5}"}.get(
            name, f"train_{index % 5}"
        )
        assert mask.source_id == source
        assert (mask.prompt, mask.source) == ("A photo of a blob.", "blobs")


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_million_masks_need_no_memory(name: str, train: ImageSet) -> None:
    masks = build(name, train, 10**9)
    assert masks[10**9 - 1].pixels.any()
    assert masks[-1].id == masks[10**9 - 1].id
    with pytest.raises(IndexError):
        masks[10**9]


@pytest.mark.parametrize("name", NAMES)
def test_a_slice_holds_the_masks_of_its_indices(name: str, train: ImageSet) -> None:
    masks = build(name, train)
    assert [mask.id for mask in masks[2:5]] == [masks[k].id for k in (2, 3, 4)]


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_training_split_is_refused(name: str, train: ImageSet) -> None:
    with pytest.raises(UserError, match="the training split holds no image"):
        build(name, train.select(()))


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_parameter_is_refused_by_its_path(name: str) -> None:
    with pytest.raises(UserError, match=r"siamese\.mask_params\.colour is not a parameter"):
        plugins.read_params("masks", name, {"folder": "x", "colour": 1}, "siamese.mask_params")
