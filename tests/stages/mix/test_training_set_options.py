"""Options of training sets: ceiling, repeated real images, share of synthetic images; budgets in steps or epochs."""

import pytest
import torch

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs
from pipeline.data.mixtures import FixedShare
from pipeline.segmentation.params import Segment
from pipeline.segmentation.train import TrainingOptions, mixture
from pipeline.stages.compare.params import rivals
from pipeline.stages.mix.mix import mix
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params
from tests.conftest import TOY_STUDY


def pairs(count: int) -> Pairs:
    images = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    return Pairs(images, images[:, 0], ("",) * count, tuple(str(n) for n in range(count)))


def test_a_quarter_of_every_eight_samples_is_synthetic() -> None:
    batches = Batches(pairs(10), 8, "seed", mixture=FixedShare((0, 1, 2), (3, 4, 5, 6, 7, 8, 9), 0.25))
    plans = [batches.plan(step) for step in range(6)]
    assert [sum(index >= 3 for index in plan) for plan in plans] == [2] * 6
    drawn = [index for plan in plans for index in plan]
    assert sorted(index for index in drawn if index >= 3)[:7] != [3] * 7
    second = [index for index in drawn if index >= 3]
    assert sorted(second[:7]) == list(range(3, 10))  # one whole pass before any comes again
    assert sorted(index for index in drawn if index < 3) == sorted([0, 1, 2] * 12)


def test_a_share_that_no_batch_divides_holds_over_many() -> None:
    batches = Batches(pairs(4), 5, "seed", mixture=FixedShare((0, 1), (2, 3), 0.3))
    drawn = [index for step in range(20) for index in batches.plan(step)]
    assert sum(index >= 2 for index in drawn) == 30


def test_the_plan_of_a_step_does_not_depend_on_the_steps_before() -> None:
    mix = FixedShare((0, 1, 2), (3, 4), 0.5)
    straight = Batches(pairs(5), 4, "seed", mixture=mix)
    plans = [straight.plan(step) for step in range(9)]
    assert Batches(pairs(5), 4, "seed", mixture=mix).plan(8) == plans[8]


def test_a_budget_in_epochs_grows_with_the_images() -> None:
    settings = Segment(epochs=3, batch_size=4, learning_rate=1e-3, seeds=(0,))
    assert [settings.steps(images) for images in (4, 10, 20)] == [3, 8, 15]
    assert Segment(max_steps=7, batch_size=4, learning_rate=1e-3, seeds=(0,)).steps(1000) == 7


@pytest.mark.parametrize("budget", [{}, {"max_steps": 5, "epochs": 1}])
def test_one_budget_and_no_more(budget: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"max_steps .* or epochs"):
        parse(Segment, {"batch_size": 4, "learning_rate": 1e-3, "seeds": [0], **budget})


def test_a_share_of_synthetic_images_needs_a_generator() -> None:
    with pytest.raises(UserError, match="synthetic_share"):
        parse(TrainingSet, {"synthetic_share": 0.5})


def with_arm(params: Params, **keys: object) -> Params:
    arm = TrainingSet.model_validate(keys)
    return params.model_copy(update={"training_sets": {**params.training_sets, "arm": arm}})


def into_reserve(ids: set[str]) -> None:
    real = ImageSet.open(paths.real("toy"))
    moved = [{**row, "split": "reserve"} if row["id"] in ids else row for row in real]
    ImageSet.finish(real.folder, real.spec, moved)


def test_the_ceiling_holds_the_reserve_and_other_arms_do_not(toy_study: Params) -> None:
    into_reserve({"train_6", "train_7"})
    assert mix(toy_study, "real").ids == [f"train_{n}" for n in range(6)]
    assert set(mix(with_arm(toy_study, real="all"), "arm").ids) == {f"train_{n}" for n in range(8)}


def test_a_ceiling_without_a_reserve_is_refused(toy_study: Params) -> None:
    with pytest.raises(UserError, match="no split reserve"):
        mix(with_arm(toy_study, real="all"), "arm")


def test_repeated_real_images_are_listed_again_under_other_ids(toy_study: Params) -> None:
    images = mix(with_arm(toy_study, repeat=3), "arm")
    assert len(images) == len(set(images.ids)) == 24
    assert len({row["sha256"] for row in images}) == 8
    assert "train_5_again2" in images.ids


def test_groups_of_a_mixture_are_real_and_synthetic_rows(toy_study: Params) -> None:
    images = mix(toy_study, "siamese_x1")
    groups = mixture(images, TrainingOptions(synthetic_share=0.5), 4, 10)
    assert groups is not None and len(groups.first) == len(groups.second) == 8
    assert all(not images.rows[place]["synthetic"] for place in groups.first)
    assert mixture(images, TrainingOptions(), 4, 10) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"phase": {"pretrain": 0}},
            "phase: pretrain is 0, which is a pretraining phase of zero steps; give a share above 0",
        ),
        ({"phase": {"pretrain": 1}}, "phase: pretrain is 1; give the share of the steps, above 0 and below 1"),
        ({"phase": {"pretrain": 0.5}, "synthetic_share": 0.5}, "phase and synthetic_share exclude each other"),
        ({"synthetic_until": 0.5}, "synthetic_until says when synthetic_share has fallen to 0"),
        ({"steps": 0.5}, "steps: Input should be greater than or equal to 1"),
        ({"augment": "weak"}, "augment: Input should be 'own' or 'strong'"),
    ],
)
def test_impossible_trainings_are_refused_in_one_line(keys: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse(TrainingSet, {"generator": "siamese", "multiplier": 1, **keys})
    assert "\n" not in str(error.value)


def test_a_phase_needs_synthetic_images() -> None:
    with pytest.raises(
        UserError, match=r"phase\.pretrain is a phase on synthetic images, but the set has no generator"
    ):
        parse(TrainingSet, {"phase": {"pretrain": 0.5}})


def test_a_share_that_rounds_to_zero_steps_is_refused_when_the_study_is_read() -> None:
    arm = {"generator": "siamese", "multiplier": 1, "phase": {"pretrain": 0.01}}
    with pytest.raises(
        UserError, match=r"training_sets.arm: phase.pretrain is 0.01: of \d+ optimiser steps that leaves"
    ):
        parse(Params, TOY_STUDY | {"training_sets": TOY_STUDY["training_sets"] | {"arm": arm}})


def test_unlabelled_images_must_be_there() -> None:
    sets = TOY_STUDY["training_sets"] | {"pseudo_labels": {"unlabelled": "mean_teacher"}}
    with pytest.raises(UserError, match=r"training_sets.pseudo_labels.unlabelled learns from .*; set data.unlabelled"):
        parse(Params, TOY_STUDY | {"training_sets": sets})


def test_steps_and_phases_by_hand() -> None:
    arm = TrainingSet.model_validate(
        {"generator": "siamese", "multiplier": 1, "steps": 2.0, "phase": {"pretrain": 0.25}}
    )
    assert (arm.total_steps(30), arm.pretraining_steps(arm.total_steps(30))) == (60, 15)
    assert arm.options == "phase pretrain 0.25, steps 2.0"


def test_a_pretraining_phase_shows_synthetic_images_alone(toy_study: Params) -> None:
    images = mix(toy_study, "siamese_x1")
    rule = mixture(images, TrainingOptions(pretrain_steps=3), 4, 10)
    batches = Batches(pairs(len(images)), 4, "seed", mixture=rule)
    drawn = [[images.rows[index]["synthetic"] for index in batches.plan(step)] for step in range(10)]
    assert drawn == [[True] * 4] * 3 + [[False] * 4] * 7


def test_a_falling_share_ends_after_its_part_of_the_training(toy_study: Params) -> None:
    images = mix(toy_study, "siamese_x1")
    rule = mixture(images, TrainingOptions(synthetic_share=0.5, synthetic_until=0.5), 4, 10)
    assert rule is not None
    assert rule.seconds(40) == rule.seconds(20) == 5


def test_two_sets_with_other_efforts_may_share_seeds() -> None:
    sets = {"real": {}, "real_longer": {"steps": 2.0}, "real_strong": {"augment": "strong"}}
    parsed = parse(Params, TOY_STUDY | {"training_sets": TOY_STUDY["training_sets"] | sets}).training_sets
    assert rivals(parsed, frozenset(), "real") == ["real_longer", "real_strong"]
