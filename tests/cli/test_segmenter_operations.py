"""The operations of diffusion segmenters, counted from shapes alone, against those of a training step with numbers."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.cli.forecast import DiskUsage, Forecast, MachineFit
from pipeline.cli.stage_costs import segmenter_operations
from pipeline.cli.stage_work import StageWork
from pipeline.cli.verbs.estimate import lines
from pipeline.core import plugins
from pipeline.core.contracts import Batch
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation.params import SegmenterEntry

SPEC = DatasetSpec(name="toy", size=32)
RECYCLING: dict[str, Any] = {"channels": [8, 16], "blocks": 1, "heads": 2}
METHODS: dict[str, dict[str, Any]] = {
    "dermosegdiff": {"loss": "B"},
    "cimd": {},
    "probabilistic_unet": {},
    "recycling": RECYCLING | {"mode": "recycle_T", "times": "importance"},
    "recycling_ensemble": RECYCLING | {"mode": "recycle_T"},
}


def counted(method: str, **options: Any) -> float | None:
    entry = SegmenterEntry.model_validate({"method": method, **options})
    return segmenter_operations(method, entry, SPEC)


def real_step(method: str, **options: Any) -> int:
    """The operations of a step with real weights and images, forward and backward."""
    params = plugins.read_params("segmenters", method, options, method)
    objective = plugins.load("segmenters", method).build(params, SPEC).objective
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    mask[:, 8:20, 10:20] = 1
    batch = Batch(torch.rand(2, 3, 32, 32), mask, ("", ""), ("a", "b"))
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(objective(batch, 0.0).values())).sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("method", METHODS)
def test_shapes_alone_give_the_operations_of_a_real_step(method: str) -> None:
    assert counted(method, **METHODS[method]) == real_step(method, **METHODS[method]) / 2


def test_recycling_takes_one_more_forward_pass_than_vanilla() -> None:
    found = {mode: counted("recycling", **RECYCLING, mode=mode) or 0 for mode in ("plain", "vanilla", "recycle_T")}
    assert found["recycle_T"] / found["vanilla"] == pytest.approx(4 / 3, abs=0.02)
    assert counted("recycling_ensemble", **RECYCLING, mode="recycle_T") == found["plain"] + found["recycle_T"]


@pytest.mark.parametrize(
    ("hours", "uncounted", "told"),
    [
        ({"segment": 2.0}, (), "  m: nothing to fine-tune; segment 2 h; all 2 h"),
        ({"segment": 0.0}, ("segment",), "  m: nothing to fine-tune; not counted: segment"),
        ({"judge": 2.0, "segment": 0.0}, ("segment",), "  m: nothing to fine-tune; judge 2 h; not counted: segment"),
    ],
)
def test_no_total_where_a_stage_was_not_counted(hours: dict[str, float], uncounted: tuple[str, ...], told: str) -> None:
    fit = MachineFit("m", 1, 1.0, None, hours, uncounted)
    work = StageWork("segment", "unet", 10, None)
    assert list(lines(Forecast("toy", 3, {}, (work,), DiskUsage(0, 0, 0, 0), (fit,))))[-1] == told
