"""The section confirm: what is refused, with a list of seeds that works, and what shipped studies ask for."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.stages.finetune.params import rival_generators
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY

STUDIES = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))
OFFSETS = {
    "real": {},
    "again": {"seed_offset": 100},
    "shifted": {"generator": "siamese", "multiplier": 1, "seed_offset": 7},
}
SYNTHETIC_REFERENCE = {
    "few": {"generator": "siamese", "multiplier": 1, "drop_copies": True},
    "shifted": {"generator": "siamese", "multiplier": 1, "drop_copies": True, "seed_offset": 2},
}


def study(seeds: Any, **changes: Any) -> Params:
    return parse(Params, TOY_STUDY | changes | {"confirm": {"seeds": seeds}})


def test_a_study_may_leave_it_out_or_null() -> None:
    plain = parse(Params, TOY_STUDY)
    assert plain.confirm is None
    assert parse(Params, TOY_STUDY | {"confirm": None}) == plain


def test_fresh_seeds_are_taken_as_listed() -> None:
    found = study([7, 3])
    assert found.confirm is not None and found.confirm.seeds == (7, 3)


@pytest.mark.parametrize(
    ("seeds", "changes", "message"),
    [
        ([], {}, "confirm.seeds: Tuple should have at least 1 item after validation, not 0, found []"),
        ([3, 3], {}, "confirm: seeds must differ, found [3, 3]"),
        ([5, 1], {}, "confirm.seeds is [5, 1]: the grid already trains the seed 1 (real); use for example [100, 101]"),
        # real_again trains 1000 and 1001 on the images of the reference
        (
            [1001],
            {},
            "confirm.seeds is [1001]: the grid already trains the seed 1001 (real_again); use for example [100]",
        ),
        (
            [95, 94],
            {"training_sets": OFFSETS},
            "confirm.seeds is [95, 94]: the grid already trains the seed 94 + 7 of shifted (again);"
            " use for example [102, 103]",
        ),
        (
            [100, 102],
            {"training_sets": SYNTHETIC_REFERENCE, "compare": {"reference": "few"}},
            "training_sets.shifted.seed_offset is 2: it would be trained like few, with the same seed 102; use for"
            " example 1",
        ),
        (
            [100],
            {"training_sets": {"real": {}, "again": {"seed_offset": 5}}},
            "confirm has no arm to choose: apart from the reference no training set holds synthetic images;"
            " set confirm: null",
        ),
    ],
)
def test_what_cannot_confirm_is_refused_in_one_line(seeds: list[Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        study(seeds, **changes)
    assert str(refused.value).startswith(f"params.yaml: {message}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("grid", [[0, 1], list(range(95, 140)), [99], [103]])
@pytest.mark.parametrize("sets", [TOY_STUDY["training_sets"], OFFSETS])
def test_the_list_of_a_refusal_would_do(grid: list[int], sets: dict[str, Any]) -> None:
    changes = {"training_sets": sets, "segment": TOY_STUDY["segment"] | {"seeds": grid}}
    with pytest.raises(UserError) as refused:
        study([grid[0], 5000, 6000], **changes)
    (listed,) = re.findall(r"use for example \[([\d, ]+)\]", str(refused.value))
    seeds = [int(number) for number in listed.split(", ")]
    found = study(seeds, **changes)
    assert len(seeds) == 3 and found.confirm is not None and found.confirm.seeds == tuple(seeds)


# Holm's correction covers both of their arms; a confirmation in every fold could choose another arm in each.
COMPARED_OVER_FOLDS = ("kvasir_pseudo", "ph2_pseudo")
OTHERS = [path for path in STUDIES if path.stem not in COMPARED_OVER_FOLDS]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_every_shipped_study_with_a_choice_of_arms_confirms_it(path: Path) -> None:
    params = load_params(path)
    rivals = rival_generators(params.generators)
    arms = [one for one in params.training_sets.values() if one.generator and one.generator not in rivals]
    choices = Counter(one.pair_limit for one in arms)  # a study of the exchange rate has one arm for each limit
    assert (params.confirm is not None) == (max(choices.values(), default=0) > 1)
