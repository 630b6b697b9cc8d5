"""How segmenters are trained: own values of an entry, SGD, slower encoders, clipping by value, halved rates."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.core import paths
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.core.recipes import EMAWarmUpRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation import train
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.params import Segment, entry_settings
from pipeline.stages.judge.train import judge_settings
from pipeline.study import Params, load_params
from pipeline.training import optimizers
from pipeline.training.ema import decay_at
from pipeline.training.loop import fit
from tests.conftest import REPOSITORY, TOY_STUDY


def study(own: dict[str, Any]) -> Params:
    unet = {**TOY_STUDY["segmenters"]["unet"], "segment": own}
    return parse(Params, {**TOY_STUDY, "segmenters": {"unet": unet, "segformer": {}}})


def settings(params: Params, name: str) -> Segment:
    return entry_settings(params.segment, name, params.segmenters[name])


def test_an_entry_has_its_own_values_and_the_others_keep_theirs() -> None:
    params = study({"optimizer": "sgd", "learning_rate": 0.4, "encoder_rate": 0.1, "max_grad_value": 0.5})
    own, other = settings(params, "unet"), settings(params, "segformer")
    assert (own.optimizer, own.learning_rate, own.encoder_rate, own.max_grad_value) == ("sgd", 0.4, 0.1, 0.5)
    assert own.batch_size == other.batch_size == 4
    assert other == params.segment
    assert own.training_settings() != other.training_settings()


def test_own_epochs_take_the_place_of_the_common_steps() -> None:
    own = settings(study({"epochs": 3, "batch_size": 2}), "unet")
    assert own.max_steps is None
    assert own.steps(8) == 12


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"optimiser": "sgd"}, r"segmenters\.unet\.segment\.optimiser is not a parameter; did you mean optimizer"),
        ({"seeds": [1]}, r"segmenters\.unet\.segment: seeds and threads are common to all segmenters"),
        ({"schedule": "halved"}, r"schedule halved, and no other, needs milestones between 0 and 1"),
        ({"milestones": [0.5]}, r"schedule halved, and no other, needs milestones between 0 and 1"),
        ({"schedule": "halved", "milestones": [0.5, 1.5]}, r"needs milestones between 0 and 1"),
        ({"epochs": 1, "max_steps": 1}, r"not both"),
    ],
)
def test_wrong_values_of_an_entry_are_refused_when_the_study_is_read(own: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(own)


def test_the_recipe_of_an_entry_reaches_its_training(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Recipe] = []
    monkeypatch.setattr(train, "fit", lambda objective, batches, recipe, *others: seen.append(recipe) or [])
    params = study(
        {"optimizer": "sgd", "schedule": "halved", "milestones": [0.5], "max_grad_value": 0.5, "encoder_rate": 0.1}
    )
    images = ImageSet.open(paths.real("toy")).split("train")
    entry, segment = params.segmenters["unet"], settings(params, "unet")
    segmenter, _ = train.train_segmenter("unet", entry, segment, images, "s", Runtime.alone(1))
    assert (seen[0].optimizer, seen[0].schedule, seen[0].milestones) == ("sgd", "halved", (0.5,))
    assert seen[0].max_grad_value == 0.5
    factors = {name: getattr(w, "rate_factor", 1.0) for name, w in segmenter.objective.named_parameters()}
    assert {factor for name, factor in factors.items() if "encoder" in name} == {0.1}
    assert {factor for name, factor in factors.items() if "encoder" not in name} == {1.0}


@pytest.mark.parametrize(("name", "reached"), [("isic2018", 28_326), ("ph2", 28_326), ("ham10000", 16_438)])
def test_the_averages_of_the_dermosegdiff_studies_reach_their_decay_as_in_its_code(name: str, reached: int) -> None:
    """1 - (1 + e) ** -power with e = step - after - 1 steps since the start, power 0.9 (HAM10000 0.95)."""
    params = load_params(REPOSITORY / "configs" / "studies" / f"{name}_dermosegdiff.yaml")
    for entry in params.segmenters:
        own = settings(params, entry)
        assert (own.ema_decay, own.max_steps) == (0.9999, 40_000)
        rule = train.ema_warmup_of(own)
        assert isinstance(rule, EMAWarmUpRecipe)
        decays = [decay_at(step, 0.9999, rule) for step in range(1, 40_001)]
        assert decays.index(0.9999) + 1 == reached
        assert decays[999] == pytest.approx(1 - (1000 - rule.after) ** -rule.power)
        assert (rule.after, rule.power) == ((200, 0.95) if name == "ham10000" else (500, 0.9))


def test_the_judges_steps_take_the_place_of_an_entrys(toy_params: Params) -> None:
    judge = toy_params.judge.model_copy(update={"max_steps": 5})
    assert judge_settings(judge, settings(study({"epochs": 9}), "unet")).steps(8) == 5


def test_a_class_that_no_training_mask_shows_is_named(batches: Batches, spec: DatasetSpec) -> None:
    with pytest.raises(
        UserError, match=r"of the classes 0 to 2 \(0: background\) none of 4 training masks shows 1, 2;"
    ):
        train.check_classes(batches.pairs, spec.model_copy(update={"num_classes": 3}))


def test_a_network_without_an_encoder_cannot_slow_it(spec: DatasetSpec) -> None:
    params = parse(Params, {**TOY_STUDY, "segmenters": {"unet": {"method": "unet_plain32"}}})
    segmenter = build_segmenter("unet", params.segmenters["unet"], spec)
    with pytest.raises(UserError, match="unet_plain32 has no encoder of its own"):
        segmenter.scale_encoder_rate(0.1)


class Line(nn.Module):
    """Two weights with constant gradients 2 and -3."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.encoder = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        return {"sum": 2 * self.head - 3 * self.encoder}


def test_a_step_of_sgd_by_hand() -> None:
    line = Line()
    line.encoder.rate_factor = 0.1  # type: ignore[attr-defined]
    recipe = Recipe(max_steps=1, learning_rate=0.1, weight_decay=0.5, optimizer="sgd")
    optimizer = optimizers.build(recipe, line.parameters(), torch.device("cpu"))
    (2 * line.head - 3 * line.encoder).backward()
    optimizer.step()
    # With decay the gradients are 2.5 and -2.5; Nesterov's first step is (1 + 0.9) times the gradient.
    assert float(line.head.detach()) == pytest.approx(1 - 0.1 * 1.9 * 2.5)
    assert float(line.encoder.detach()) == pytest.approx(1 + 0.01 * 1.9 * 2.5)


@pytest.fixture
def batches() -> Batches:
    pairs = Pairs(
        torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, 2, 2, dtype=torch.uint8), ("",) * 4, tuple("abcd")
    )
    return Batches(pairs, 2, "seed")


def test_gradients_are_cut_off_number_by_number(batches: Batches) -> None:
    line = Line()
    recipe = Recipe(4, 0.1, weight_decay=0.0, optimizer="sgd", max_grad_value=0.5)
    fit(line, batches, recipe, Runtime.alone(1))
    assert float(line.head.detach()) == pytest.approx(2 - float(line.encoder.detach()))  # 2 and -3 both became 0.5


def test_rates_are_halved_after_their_shares(batches: Batches) -> None:
    moved = []
    for steps in (2, 4):
        line = Line()
        # Momentum of AdamW's beta 0: each step moves a weight by the learning rate.
        recipe = Recipe(4, 0.1, 0.0, (0.0, 0.0), "halved", (0.5,), schedule_steps=4)
        fit(line, batches, Recipe(**{**vars(recipe), "max_steps": steps}), Runtime.alone(1))
        moved.append(1 - float(line.head.detach()))
    assert moved == pytest.approx([0.2, 0.3], abs=1e-5)
