"""Fingerprints of finished trainings: the settings that enter them, as they have been since these studies were run."""

from typing import Any

import pytest

from pipeline.core import files
from pipeline.segmentation.params import Mark, Segment, entry_settings
from pipeline.segmentation.train import training_identity
from pipeline.study import load_params
from tests.conftest import REPOSITORY

TRAINING: dict[str, Any] = {
    "epochs": None,
    "optimizer": "adamw",
    "schedule": "one_cycle",
    "milestones": (),
    "max_grad_value": None,
    "encoder_rate": 1.0,
    "precision": "fp32",
    "version": 3,
}
SCORES: dict[str, Any] = {"resolution": "training", "nsd_tolerance": 0.01, "spacing": None}
SMOKE = {"max_steps": 4, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.01, "threads": 1}
DERMO = {"max_steps": 40000, "batch_size": 32, "learning_rate": 1e-4, "weight_decay": 0.0, "threads": 4}
AVERAGED = {"schedule": "constant", "betas": (0.7, 0.99), "ema_decay": 0.9999}
AVERAGED |= {"ema_warmup": {"after": 200, "power": 0.95}}
WATCHED = {"pooled": True, "trajectory_images": 8, "watch_every": 4000, "watch_images": 8, "heatmap_images": 8}
LIDC = {"max_steps": 2000, "batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.01, "threads": 1}
SAMPLED = {"num_samples": 8, "level_sets": True, "trajectory_images": 32}


@pytest.mark.parametrize(
    ("study", "name", "training", "scores", "fingerprint"),
    [
        ("smoke", "unet", SMOKE, {}, "44b8fd396fe531ee"),
        ("ham10000_dermosegdiff", "baseline", DERMO | AVERAGED, WATCHED, "a31583a30d1d6276"),
        ("lidc_cpu", "unet_levels", LIDC | {"ema_decay": 0.99}, SAMPLED, "c9544e737ba3807c"),
    ],
)
def test_settings_of_training_and_scores_keep_their_fingerprint(
    study: str, name: str, training: dict[str, Any], scores: dict[str, Any], fingerprint: str
) -> None:
    params = load_params(REPOSITORY / "configs" / "studies" / f"{study}.yaml")
    segment = entry_settings(params.segment, name, params.segmenters[name])
    identity = training_identity(segment, segment.threads_or(params.threads))
    assert identity == TRAINING | training
    assert segment.scoring_settings() == SCORES | scores
    assert files.fingerprint(identity, segment.scoring_settings()) == fingerprint


def test_every_mark_is_on_the_fields_that_had_it() -> None:
    assert Segment.marked(Mark.SUMMARY) == {"seeds", "keep", "unseen", "small_lesion", "checkpoint_every"}
    assert Segment.marked(Mark.SCORES) - Segment.marked(Mark.OMIT_DEFAULT) == {"resolution", "nsd_tolerance", "spacing"}
    later = Segment.marked(Mark.OMIT_DEFAULT) - Segment.marked(Mark.SCORES)
    chosen = {"select", "select_every", "select_images", "patience", "min_delta"}
    assert later == {"betas", "ema_decay", "ema_warmup", "augment", "warm_up", "plateau", "max_grad_norm"} | chosen
    assert len(Segment.marked(Mark.OMIT_DEFAULT) & Segment.marked(Mark.SCORES)) == 12
