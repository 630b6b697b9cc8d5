"""The judge's reference values follow the rule of faithfulness, not that of the segmenters' endpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import files, paths, tables
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.judge import train
from pipeline.study import Params


class FindsNothing:
    """A judge of five classes that sees background everywhere."""

    about: dict[str, Any] = {}  # noqa: RUF012

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        background = torch.tensor([1.0, 0, 0, 0, 0])[:, None, None]
        return background.expand(len(image), 1, 5, *image.shape[2:])

    def save(self, folder: Path) -> None:
        """Save nothing."""


def leave_one_class_each() -> None:
    """Leave three test images that class 1, class 2 and background fill."""
    spec = DatasetSpec(name="blobs", size=16, num_classes=5)
    samples = (
        (
            Sample(f"test_{k}", np.zeros((3, 16, 16), np.uint8), np.full((1, 16, 16), label, np.uint8), split="test"),
            {"synthetic": False, "split": "test", "source": ""},
        )
        for k, label in enumerate((1, 2, 0))
    )
    ImageSet.create(paths.real("toy"), spec, samples)


def test_a_judge_that_finds_nothing_reaches_nothing(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_one_class_each()
    monkeypatch.setattr(train, "train_segmenter", lambda *_: (FindsNothing(), []))
    train.train_judge(toy_study, Runtime.alone(1))
    metrics = files.read_json(paths.judge("toy") / "metrics.json")
    assert metrics == {"dice": 0.0, "iou": 0.0, "n": 2, "left_out": 1}
    rows = tables.read_table(paths.judge("toy") / "scores.csv")  # by docs/protocol.md
    assert [float(row["dice"]) for row in rows] == [0.75, 0.75, 1.0]


class FindsOne(FindsNothing):
    """A judge that sees class 1 everywhere."""

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        return super().predict(image).roll(1, 2)


def test_two_judges_differ_image_by_image(toy_study: Params) -> None:
    """On an image of class 1 the second one is right; an image without foreground has no difference."""
    leave_one_class_each()
    images = ImageSet.open(paths.real("toy"))
    found = train.reference_scores([FindsNothing(), FindsOne()], images, toy_study.segment)
    assert (found["fold_0"]["dice"], found["fold_1"]["dice"]) == (0.0, 1 / 3)
    assert found["difference_sd"] == pytest.approx(np.std([0 - 1, 0 - 0], ddof=1))
    assert "difference_sd" not in train.reference_scores([FindsOne()], images, toy_study.segment)
