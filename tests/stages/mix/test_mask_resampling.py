"""More copies of hard masks: the numbers by rank, and the images that follow."""

from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.mix import mix
from pipeline.stages.mix.resampling import copies_by_rank
from pipeline.study import Params
from tests.conftest import TOY_STUDY, copies
from tests.stages.mix.judged import synthetic, write_training

DICE = {f"train_{n}": round(0.9 - n / 10, 1) for n in range(8)}  # train_7 is the hardest


def study(**keys: Any) -> Params:
    arm = {"generator": "siamese", "multiplier": 2, "resample": "hardness"} | keys
    changes = {"generators": {"siamese": {"copies": 4}}, "score": {"judge_maps": True}}
    return parse(Params, TOY_STUDY | changes | {"training_sets": {"real": {}, "arm": arm}})


@pytest.fixture
def four_copies(toy_study: Params) -> ImageSet:
    """Four synthetic copies of every training mask."""
    real = ImageSet.open(paths.real("toy"))
    return ImageSet.create(paths.synthetic("toy", "siamese"), real.spec, copies(real, 4))


def numbers(images: ImageSet) -> dict[str, int]:
    """How many synthetic images follow each mask."""
    sources = [row["source_id"] for row in images if row["synthetic"]]
    return {name: sources.count(name) for name in sorted(set(sources))}


def test_hard_masks_get_more_copies_and_easy_ones_fewer(four_copies: ImageSet) -> None:
    write_training(DICE)
    images = mix(study(), "arm")
    # Levels 1, 2, 3 for ranks 0 to 7: floor(3 r / 8) gives 1 1 1 2, and the other half mirrors it.
    assert list(numbers(images).values()) == [1, 1, 1, 2, 2, 3, 3, 3]
    assert sum(numbers(images).values()) == 2 * 8
    record = files.read_json(images.folder / "screening.json")
    assert record["resampled"] == {"1": 3, "2": 2, "3": 3}
    assert record["asked"]["resample"] == "hardness" and record["dropped"] == {}
    firsts = [row["copy"] for row in images if row["source_id"] == "train_7" and row["synthetic"]]
    assert firsts == [0, 1, 2]


def test_equal_hardness_goes_by_name_and_no_lesion_is_easy(four_copies: ImageSet) -> None:
    write_training(dict.fromkeys(DICE, 0.5) | {"train_7": ""})
    assert list(numbers(mix(study(), "arm")).values()) == [1, 1, 2, 2, 3, 3, 3, 1]


@pytest.mark.parametrize("masks", [1, 2, 3, 7, 8, 100, 101])
@pytest.mark.parametrize(("multiplier", "most"), [(2, 3), (2, 4), (3, 4), (3, 5), (4, 20), (10, 20)])
def test_totals_are_those_of_the_multiplier_and_no_easier_mask_has_more(masks: int, multiplier: int, most: int) -> None:
    found = copies_by_rank(masks, multiplier, most)
    assert len(found) == masks and sum(found) == masks * multiplier
    assert found == sorted(found)
    assert min(found) >= max(1, 2 * multiplier - most) and max(found) <= min(2 * multiplier - 1, most)


def test_the_line_is_that_of_freemask_up_to_its_total() -> None:
    """Of 20 copies FreeMask keeps min(1 + round(20 i / M), 20), 11 on average: about what the multiplier 10 keeps."""
    masks = 200
    published = np.array([min(1 + round(20 * i / masks), 20) for i in range(masks)])
    assert np.abs(np.array(copies_by_rank(masks, 10, 20)) - published).max() <= 2


def test_masks_of_no_training_image_are_refused(four_copies: ImageSet) -> None:
    write_training({name: value for name, value in DICE.items() if name != "train_3"})
    with pytest.raises(UserError, match=r"arm\.resample: train_3 \(1 of 8 masks\) belongs to no real training image"):
        mix(study(), "arm")


def test_missing_opinions_are_named(four_copies: ImageSet) -> None:
    with pytest.raises(UserError, match=r"training\.csv says nothing of training images; set score\.judge_maps: true"):
        mix(study(), "arm")


@pytest.mark.parametrize("multiplier", [1, 4])
def test_a_multiplier_that_leaves_no_choice_is_refused(multiplier: int) -> None:
    with pytest.raises(UserError, match=r"so multiplier must be above 1 and below the 4 copies .*; found \d"):
        study(multiplier=multiplier)


def test_resampling_stands_on_no_ladder_and_leaves_the_generators_set_alone(four_copies: ImageSet) -> None:
    write_training(DICE)
    before = files.tree_sha256(synthetic().folder)
    mix(study(), "arm")
    assert files.tree_sha256(synthetic().folder) == before
    arm = study().training_sets["arm"]
    assert not arm.on_ladder and arm.options == "resample hardness"
