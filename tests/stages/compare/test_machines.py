"""Cells that are compared must come from one kind of device and one version of torch."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.stages.compare.comparison import compare
from pipeline.stages.compare.machines import check_segmenters
from pipeline.study import Params
from tests.stages.compare.test_comparison import SETS, params, simulated, write_scores

__all__ = ["params"]  # a fixture


@pytest.fixture
def scored(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(tmp_path)
    write_scores(params, simulated(np.random.default_rng(8), 0.5, 6, n=20))
    return params


def write_cells(params: Params, changes: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Write cells.json with a CPU and torch 2.8.0 everywhere but in `changes`."""
    usual = {"device": "cpu", "torch": "2.8.0"}
    cells = [
        {"training_set": name, "seed": seed, "fingerprint": f"{name}-{seed}"} | usual | changes.get((name, seed), {})
        for seed in (0, 1, 2)
        for name in SETS
    ]
    files.write_json(paths.segmentation(params.study, "unet") / "cells.json", cells)


@pytest.mark.parametrize("other", [{"device": "cuda"}, {"torch": "2.9.1"}])
def test_a_mixed_pair_is_refused_and_named(scored: Params, other: dict[str, str]) -> None:
    write_cells(scored, {("siamese_x2", 1): other})
    mixed = {"device": "cpu", "torch": "2.8.0"} | other
    with pytest.raises(UserError) as caught:
        compare(scored)
    message = str(caught.value)
    assert "unet, seed 1: real was trained on cpu with torch 2.8.0, " in message
    assert f"siamese_x2 on {mixed['device']} with torch {mixed['torch']}" in message
    assert "work/segment-siamese_x2-1" in message
    assert "dvc repro --force --single-item segment@unet" in message


def test_seeds_may_differ_as_long_as_every_pair_agrees(scored: Params) -> None:
    write_cells(scored, {(name, 1): {"device": "cuda"} for name in SETS})
    assert compare(scored).arms


def test_cells_without_the_record_are_compared_and_mentioned_once(
    scored: Params, caplog: pytest.LogCaptureFixture
) -> None:
    write_cells(
        scored,
        {("real", 0): {"device": None, "torch": None}}
        | {(name, 0): {"device": "cuda"} for name in SETS if name != "real"},
    )
    with caplog.at_level(logging.INFO):
        assert compare(scored).arms
    told = [line for line in caplog.messages if "does not say" in line]
    assert len(told) == 1
    assert "1 of 15 cells" in told[0]


def test_segmenters_that_are_compared_must_agree_too() -> None:
    machine = {"device": "cpu", "torch": "2.8.0", "fingerprint": "a"}
    cells = {
        name: {("real", "0"): machine | {"device": device}} for name, device in (("unet", "cpu"), ("plain", "cuda"))
    }
    with pytest.raises(UserError, match=r"real, seed 0: unet was trained on cpu with .*, plain on cuda"):
        check_segmenters(cells, "real", "unet")
