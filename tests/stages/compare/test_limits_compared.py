"""Arms with limits on real pairs are compared with the real images of their own limit."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.cli.plan import confirmations
from pipeline.stages.compare.comparison import Comparison, compare
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.verdict import Verdict
from pipeline.stages.finetune.params import rival_generators
from pipeline.study import Params
from tests.stages.compare.test_multipliers import results, study

GENERATORS: dict[str, Any] = {
    f"{method}_{n}": {"method": method, "copies": 4, "limit": n}
    for method in ("siamese", "copy_paste")
    for n in (8, 16)
}
SETS: dict[str, Any] = {
    "real_16": {"limit": 16},
    "real_8": {"limit": 8},
    "real_8_again": {"limit": 8, "seed_offset": 1000},
    "real_8_longer": {"limit": 8, "steps": 2.0},
    **{f"siamese_x{m}_8": {"generator": "siamese_8", "multiplier": m, "limit": 8} for m in (1, 2)},
    "siamese_x2_16": {"generator": "siamese_16", "multiplier": 2, "limit": 16},
    "paste_16": {"generator": "copy_paste_16", "multiplier": 1, "limit": 16},
    "paste_8": {"generator": "copy_paste_8", "multiplier": 1, "limit": 8},
}
REAL_8, REAL_16 = -0.2, 0.0  # Dice beside 0.7
GAINS = {"real_16": REAL_16, "real_8": REAL_8, "real_8_again": REAL_8, "real_8_longer": REAL_8}
GAINS |= {"siamese_x1_8": REAL_8 + 0.02, "siamese_x2_8": REAL_8 + 0.04, "siamese_x2_16": REAL_16 + 0.03}
GAINS |= {"paste_16": REAL_16 + 0.01, "paste_8": REAL_8 + 0.09}


def limited(**changes: Any) -> Params:
    params = study(SETS, GENERATORS, reference="real_16")
    return params.model_copy(update={"confirm": None} | changes)


def simulated() -> Results:
    rng = np.random.default_rng(0)
    shared = rng.normal(0.7, 0.03, 40)
    return results({arm: shared + gain + rng.normal(0, 0.003, (3, 40)) for arm, gain in GAINS.items()})


@pytest.fixture(scope="module")
def compared() -> Comparison:
    found = simulated()
    return compare(limited(), lambda segmenter, training_sets, metrics=(): found)


def test_roles_and_references() -> None:
    params = limited()
    design = Design(params.compare, params.training_sets, 1, 0, rival_generators(params.generators))
    assert {name: (design.role(name), design.reference_of(name)) for name in SETS} == {
        "real_16": ("reference", "real_16"),
        "real_8": ("baseline", "real_16"),
        "real_8_again": ("control", "real_8"),
        "real_8_longer": ("rival", "real_8"),
        "siamese_x1_8": ("arm", "real_8"),
        "siamese_x2_8": ("arm", "real_8"),
        "siamese_x2_16": ("arm", "real_16"),
        "paste_16": ("rival", "real_16"),
        "paste_8": ("rival", "real_8"),
    }


def test_every_difference_is_to_the_real_images_of_the_same_limit(compared: Comparison) -> None:
    rows = {arm.training_set: arm for arm in compared.arms}
    for name, gain in (("siamese_x1_8", 0.02), ("siamese_x2_8", 0.04), ("siamese_x2_16", 0.03), ("real_8", REAL_8)):
        evidence, conclusion = rows[name].evidence, rows[name].conclusion
        assert evidence and conclusion
        assert evidence.difference == pytest.approx(gain, abs=0.003)
        assert conclusion.verdict == (Verdict.BETTER if gain > 0 else Verdict.WORSE)
    assert rows["siamese_x2_8"].reference == "real_8" and rows["siamese_x2_16"].reference == "real_16"
    assert rows["real_16"].reference is None and rows["real_16"].evidence is None
    assert rows["siamese_x2_8"].record()["reference"] == "real_8"


def test_a_ladder_begins_with_the_real_images_of_its_limit(compared: Comparison) -> None:
    curve = [(point.generator, point.multiplier, point.options) for point in compared.curve]
    assert curve[:3] == [("siamese_8", m, "limit 8") for m in (0, 1, 2)]
    assert [row.training_set for row in compared.choice if row.generator == "siamese_16"] == [
        "real_16",
        "siamese_x2_16",
    ]
    first = next(point for point in compared.curve if point.generator == "siamese_8")
    assert first.dice == pytest.approx(0.7 + REAL_8, abs=0.02)
    assert [row.multipliers for row in compared.trend if row.generator == "siamese_8"] == ["0<1<2"]


def test_the_sentence_names_the_reference_and_the_rival_of_the_limit(compared: Comparison) -> None:
    assert compared.headline and compared.headline.rival
    assert compared.headline.training_sets == ("siamese_x2_16",)
    assert (compared.headline.reference, compared.headline.rival.training_set) == ("real_16", "paste_16")
    assert compared.headline.rival.rivals == 1
    assert "siamese_x2_16 +3.0 Dice points" in compared.verdict and "over real_16" in compared.verdict


def test_a_subgroup_is_compared_with_the_real_images_of_the_same_limit() -> None:
    found = replace(simulated(), areas={"test": tuple(k / 100 for k in range(1, 41))})
    section = limited().compare.model_copy(update={"subgroups": ("lesion_size",)})
    rows = compare(limited(compare=section), lambda segmenter, training_sets, metrics=(): found).subgroups
    small = {row.training_sets[0]: row for row in rows if row.level == "small"}
    assert {name: row.reference for name, row in small.items()} == {
        "siamese_x1_8": "real_8",
        "siamese_x2_8": "real_8",
        "siamese_x2_16": "real_16",
    }
    assert small["siamese_x2_8"].difference == pytest.approx(0.04, abs=0.003)
    assert small["siamese_x2_8"].record()["reference"] == "real_8"


def test_a_confirmation_trains_the_reference_of_the_limit() -> None:
    params = limited(confirm=study({"real": {}, "x": {"generator": "siamese_8", "multiplier": 1}}, GENERATORS).confirm)
    assert params.confirm is not None
    found = confirmations(params)
    assert ("real_8", "siamese_x2_8", "paste_8") in found and ("real_16", "siamese_x2_16", "paste_16") in found
    assert not any("real_16" in names and "siamese_x2_8" in names for names in found)
