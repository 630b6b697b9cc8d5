"""What the attacks cost: counted on the meta device, compared with the stage's own work on real numbers."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import paths
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.membership import Denoiser
from pipeline.diffusion.schedule import Schedule
from pipeline.stages.audit.attack_profile import attack_cost, network_passes
from pipeline.stages.audit.membership import Trained, weight_scores
from pipeline.stages.audit.params import Membership
from pipeline.stages.finetune.memory import RESERVE, GeneratorProfiler
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.toy_outputs import write_toy_outputs


def small(**changes: Any) -> Membership:
    return parse(Membership, {"noises": 2, "timesteps": [100, 200, 300], "bootstrap": 200} | changes)


@pytest.mark.parametrize(("prediction", "up"), [("epsilon", 9), ("sample", 7)])
def test_the_network_is_asked_as_often_as_the_papers_say(prediction: Any, up: int) -> None:
    """SecMI moves from timestep 0, or 20, to 90 in strides of 10, then one step further and back."""
    schedule = Schedule(torch.linspace(0.99, 0.01, 1000), prediction)
    denoiser = Denoiser(schedule, torch.zeros(1, 1, 2, 2), lambda noisy, timestep: noisy)
    asked = {"loss": 2 * 3, "pia": 1 + 3, "pian": 1 + 3, "secmi": up + 2, "autoencoder": 0}
    for score, passes in asked.items():
        assert network_passes(denoiser, [score], small()) == passes
    assert network_passes(denoiser, list(asked), small()) == sum(asked.values())


def test_counted_operations_are_those_of_the_attack(toy_study: Params, spec: DatasetSpec) -> None:
    """But for the prompts' text tower, which is small."""
    write_toy_outputs(toy_study, spec)
    scores = ["loss", "pia", "autoencoder"]
    params = parse(Params, TOY_STUDY | {"base": {"source": str(paths.base("toy"))}})
    counted = attack_cost(GeneratorProfiler(params, "siamese"), scores, small())
    train = ImageSet.open(paths.real("toy")).split("train")
    model = Trained("toy", 0, "siamese", params.generators["siamese"], Runtime.alone(1)).load(train)
    with FlopCounterMode(display=False) as counter:
        weight_scores(model, train, scores, small(), 0)
    assert counted.operations == pytest.approx(counter.get_total_flops() / len(train), rel=0.05)


def test_more_pixels_need_more_memory_and_the_decoder_most(toy_study: Params, spec: DatasetSpec) -> None:
    write_toy_outputs(toy_study, spec)

    def needed(scores: list[str], size: int) -> float:
        data = TOY_STUDY["data"] | {"size": size}
        params = parse(Params, TOY_STUDY | {"base": {"source": str(paths.base("toy"))}, "data": data})
        return attack_cost(GeneratorProfiler(params, "siamese"), scores, small()).bytes - RESERVE

    assert 3 < needed(["loss"], 64) / needed(["loss"], 32) <= 4
    assert needed(["autoencoder"], 64) >= needed(["loss"], 64) > 32 * 64**2 * 16 * 4  # one activation of the encoder
