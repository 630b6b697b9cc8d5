"""What private fine-tuning cannot be combined with is refused in one line when the study is read."""

from typing import Any

import pytest

from pipeline.cli.plan import weight_sources
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.stages.finetune.params import Finetune
from pipeline.stages.finetune.private import privacy_recipe
from pipeline.study import Params
from tests.conftest import TOY_STUDY

BUDGET = {"epsilon": 8, "delta": 0.001, "max_grad_norm": 0.1}
PRIVATE = {"max_steps": 2, "global_batch": 2, "learning_rate": 1e-3, "lora_rank": 2, "privacy": BUDGET}


def study(finetune: dict[str, Any] | None = None, base: Any = None, **entry: Any) -> Params:
    generators = {"controlnet": {"copies": 1} | entry}
    changed: dict[str, Any] = {"finetune": PRIVATE | (finetune or {}), "generators": generators}
    return parse(Params, TOY_STUDY | changed | {"training_sets": {"real": {}}} | ({"base": base} if base else {}))


def test_a_private_study_is_accepted_and_others_keep_their_record() -> None:
    assert study().finetune.privacy is not None
    plain = parse(Params, TOY_STUDY)
    assert "privacy" not in plain.finetune.model_dump() and "privacy" not in plain.generators["siamese"].model_dump()


def test_an_entry_may_have_a_budget_of_its_own() -> None:
    own = study({"privacy": None}, privacy=BUDGET | {"epsilon": 1.0})
    settings = own.generators["controlnet"].settings(own.finetune)
    assert settings.privacy is not None and settings.privacy.epsilon == 1.0
    entries = {"a": own.generators["controlnet"], "b": study().generators["controlnet"]}
    methods = {name: entry.model_copy(update={"method": "controlnet"}) for name, entry in entries.items()}
    assert weight_sources(methods) == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finetune": {"lora_rank": None}}, "finetune.lora_rank is null; privacy needs low-rank updates"),
        ({"finetune": {"compile": True}}, "finetune.compile is True, but with privacy .*; set it to false"),
        ({"finetune": {"gradient_checkpointing": True}}, "gradient_checkpointing is True, but with privacy a layer"),
        ({"finetune": {"precision": "bf16"}}, "finetune.precision is bf16, .*; set it to fp32"),
        ({"finetune": {"max_grad_norm": 1.0}}, "finetune.max_grad_norm is 1.0, .*; set it to null"),
        ({"finetune": {"schedule_steps": 1}}, "finetune.schedule_steps is 1, .* spend more than epsilon"),
        ({"method": "siamese"}, "privacy needs a method whose samples share nothing, found 'siamese'; use controlnet"),
        ({"method": "adc"}, "privacy needs a method whose samples share nothing, found 'adc'"),
        ({"method": "copy_paste", "privacy": BUDGET}, "generators.controlnet.privacy: copy_paste is not fine-tuned"),
        ({"conditioning": "canny"}, "conditioning 'canny' shows real images when drawing; with privacy use mask"),
        ({"from_image": {"strength": 0.5}}, "no pixel of a training image may reach the drawn images"),
        ({"keep_background": {}}, "no pixel of a training image may reach the drawn images"),
    ],
)
def test_what_does_not_go_with_privacy_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(**change)


def test_measured_noise_of_private_images_is_refused() -> None:
    generate = {"generate": TOY_STUDY["generate"] | {"sensor_noise": True}}
    assert parse(Params, TOY_STUDY | generate).generate.sensor_noise
    private = {"finetune": PRIVATE, "generators": {"controlnet": {"copies": 1}}, "training_sets": {"real": {}}}
    with pytest.raises(UserError, match="sensor_noise measures the noise of the training images, which epsilon does"):
        parse(Params, TOY_STUDY | generate | private)


def test_a_base_of_the_same_images_is_refused() -> None:
    part = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
    base = {"source": "scratch", "autoencoder": part | {"crop": 8}, "denoiser": part}
    with pytest.raises(UserError, match=r"privacy says nothing where base.source is scratch.*; set base.source to"):
        study(base=base)


@pytest.mark.parametrize(
    ("change", "pairs", "message"),
    [
        ({}, 1, "finetune.global_batch is 2; .* drawn from 1 training pairs"),
        ({"privacy": BUDGET | {"delta": 0.01}}, 100, "privacy.delta is 0.01, .* of the 100 training pairs.*0.001 or"),
        ({"compile": True}, 100, "finetune.compile is True, .*, or train without the PRESET that sets it"),
    ],
)
def test_what_the_data_and_the_machine_rule_out_is_refused(change: dict[str, Any], pairs: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        privacy_recipe(Finetune.model_validate(PRIVATE | change), pairs)


def test_without_privacy_there_is_no_recipe() -> None:
    assert privacy_recipe(Finetune.model_validate(PRIVATE | {"privacy": None}), 1) is None
