"""Mean teachers: the weight of consistency, the moving average, and what unlabelled images change."""

import math
from typing import Any

import pytest
import torch

from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation import mean_teacher
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.mean_teacher import MeanTeacher, consistency_weight
from pipeline.segmentation.params import SegmenterEntry
from tests.conftest import TOY_STUDY

STEPS = 60


@pytest.fixture
def segmenter(spec: DatasetSpec) -> Any:
    torch.manual_seed(0)
    return build_segmenter("unet", SegmenterEntry.model_validate(TOY_STUDY["segmenters"]["unet"]), spec)


def pairs(spec: DatasetSpec, count: int) -> Pairs:
    image = torch.randint(0, 255, (count, 3, *spec.spatial), dtype=torch.uint8)
    return Pairs(image, torch.zeros(count, *spec.spatial, dtype=torch.uint8), ("",) * count, ("",) * count)


def batch(spec: DatasetSpec) -> Batch:
    image = torch.rand(2, 3, *spec.spatial)
    return Batch(image, (image[:, 0] > 0.5).long(), ("", ""), ("s/0", "s/1"))


def test_the_weight_rises_to_a_tenth_over_the_ramp() -> None:
    assert consistency_weight(0, 100) == pytest.approx(0.1 * math.exp(-5))
    assert consistency_weight(20, 100) == pytest.approx(0.1 * math.exp(-5 / 4))
    assert consistency_weight(40, 100) == consistency_weight(99, 100) == 0.1


def test_consistency_is_off_at_first_and_reaches_the_student_alone(segmenter: Any, spec: DatasetSpec) -> None:
    objective = MeanTeacher(segmenter, pairs(spec, 3), None, STEPS)
    assert set(objective(batch(spec), 0.0)) == {"cross_entropy", "dice"}
    losses = objective(batch(spec), 30 / STEPS)
    assert set(losses) == {"cross_entropy", "dice", "consistency"}
    losses["consistency"].backward()
    assert not list(objective.teacher.parameters())  # buffers, which no gradient reaches
    assert not any(weight.requires_grad for weight in objective.teacher.buffers())
    assert any(weight.grad is not None and weight.grad.any() for weight in segmenter.network.parameters())


def test_the_teacher_is_the_student_after_a_step_and_its_average_later(segmenter: Any, spec: DatasetSpec) -> None:
    objective = MeanTeacher(segmenter, pairs(spec, 3), None, STEPS)
    name, student = next(iter(objective.student.named_parameters()))
    teacher = dict(objective.teacher.named_buffers())[name]
    start = student.detach().clone()
    with torch.no_grad():
        student += 1
    objective._follow(1)
    assert torch.allclose(teacher, start + 1)
    with torch.no_grad():
        student += 1
    objective._follow(2)
    assert torch.allclose(teacher, start + 1.5)
    before = teacher.detach().clone()
    objective._follow(1000)
    assert torch.allclose(teacher, before + 0.01 * (student - before), atol=1e-6)


def test_an_unlabelled_image_belongs_to_the_stream_of_its_sample(segmenter: Any, spec: DatasetSpec) -> None:
    objective = MeanTeacher(segmenter, pairs(spec, 5), None, STEPS)
    first = [objective._image(f"s/0/{n}") for n in range(20)]
    assert all(torch.equal(one, objective._image(f"s/0/{n}")) for n, one in enumerate(first))
    assert len({one.sum().item() for one in first}) > 1


def test_segmenters_of_several_passes_are_refused(spec: DatasetSpec) -> None:
    diffusion = build_segmenter("recycling", SegmenterEntry(), spec)
    with pytest.raises(
        UserError, match="mean_teacher needs segmenters that predict a whole image in one pass, and recycling"
    ):
        mean_teacher.check(diffusion)
