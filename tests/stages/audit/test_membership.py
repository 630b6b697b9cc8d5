"""Membership attacks of the stage audit: whom they are tried on, what they write, and what they find."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.audit.attacked import Attacked, nearest_share
from pipeline.stages.audit.copy_search import open_spaces
from pipeline.stages.audit.membership import Trained, released_scores
from pipeline.stages.audit.training_images import held_out
from pipeline.stages.report.audit import audits
from pipeline.stages.report.membership import meaning
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY, blob
from tests.toy_outputs import write_toy_outputs

ALL = ["loss", "pia", "pian", "secmi", "released", "autoencoder"]
MEMBERSHIP = {"scores": ALL, "noises": 2, "timesteps": [200], "bootstrap": 200}


def study(membership: Any, **sections: Any) -> Params:
    return parse(Params, TOY_STUDY | {"audit": {"permutations": 200, "membership": membership}} | sections)


@pytest.fixture
def stage() -> Callable[..., None]:
    return runpy.run_path(str(REPOSITORY / "stages" / "audit.py"))["stage"]


@pytest.fixture
def untrained(toy_study: Params, spec: DatasetSpec) -> Params:
    """The toy study with untrained weights in the place of trained ones, and all attacks."""
    write_toy_outputs(toy_study, spec)
    return study(MEMBERSHIP)


def test_every_attack_is_written_and_shown(stage: Callable[..., None], untrained: Params) -> None:
    stage(untrained, "siamese")
    folder = paths.audit("toy", "siamese")
    record = files.read_json(folder / "membership.json")
    assert [attack["score"] for attack in record["attacks"]] == [
        *(name for name in ALL if name != "released"),
        "released",
    ]
    assert (record["members"], record["controls"], record["left_out"], record["absent"]) == (8, 7, [], {})
    assert (record["noises"], record["timesteps"], record["bootstrap"]) == (2, [200], 200)
    assert (record["member_groups"], record["control_groups"]) == (None, None)
    rows = tables.read_table(folder / "membership.csv")
    assert [row["member"] for row in rows] == ["1"] * 8 + ["0"] * 7
    assert [row["id"] for row in rows[:8]] == ImageSet.open(paths.real("toy")).split("train").ids
    for attack in record["attacks"]:
        scores = [float(row[attack["score"]]) for row in rows]
        won = [(m > c) + (m == c) / 2 for m in scores[:8] for c in scores[8:]]
        assert attack["auc"] == pytest.approx(np.mean(won))
        assert attack["low"] <= attack["auc"] <= attack["high"]
        assert [one["share"] for one in attack["found"]] == [None] * 3  # 7 controls resolve none of the rates
    auc = files.read_json(folder / "metrics.json")["membership_auc"]
    assert auc == {attack["score"]: attack["auc"] for attack in record["attacks"]}
    (shown,) = audits("toy", untrained.generators, 1)
    assert [row.auc for row in shown.attacks.rows] == [attack["auc"] for attack in record["attacks"]]
    assert {row.needs for row in shown.attacks.rows} == {"weights", "weights of the base", "synthetic images"}


def test_the_same_attack_gives_the_same_files(stage: Callable[..., None], untrained: Params) -> None:
    stage(untrained, "siamese")
    first = files.tree_sha256(paths.audit("toy", "siamese"))
    stage(untrained, "siamese")
    assert files.tree_sha256(paths.audit("toy", "siamese")) == first


def test_without_attacks_nothing_else_changes(stage: Callable[..., None], untrained: Params) -> None:
    """And the section has the fingerprint that it had before there were attacks."""
    stage(untrained, "siamese")
    with_attacks = (paths.audit("toy", "siamese") / "audit.json").read_bytes()
    stage(study(None), "siamese")
    folder = paths.audit("toy", "siamese")
    assert (folder / "audit.json").read_bytes() == with_attacks
    assert files.read_json(folder / "membership.json") == {"attacks": [], "absent": {}}
    assert (folder / "membership.csv").read_text() == "id,member,split,group\n"
    assert "membership_auc" not in files.read_json(folder / "metrics.json")
    assert "membership" not in study(None).audit.model_dump(mode="json")
    assert audits("toy", ["siamese"], 1)[0].attacks.rows == []


def test_a_generator_without_weights_is_attacked_by_its_images(stage: Callable[..., None], toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    same = ((s, {"source_id": s.id, "copy": 0}) for s in real.split("train").samples())
    ImageSet.create(paths.synthetic("toy", "copy_paste"), real.spec, same)
    entries = {"generators": {"copy_paste": {"copies": 1}}, "training_sets": {"real": {}}}
    stage(study(MEMBERSHIP, **entries), "copy_paste")
    record = files.read_json(paths.audit("toy", "copy_paste") / "membership.json")
    (attack,) = record["attacks"]
    assert (attack["score"], attack["auc"]) == ("released", 1.0)  # every training image is among the synthetic ones
    assert record["absent"] == {name: "copy_paste has no trained weights" for name in ALL if name != "released"}


def trained(method: str) -> Trained:
    entry = study(None, generators={method: {"copies": 1}}, training_sets={"real": {}}).generators[method]
    return Trained("toy", 0, method, entry, Runtime.alone())


def test_pixels_have_no_autoencoder() -> None:
    assert trained("seg_guided").missing("autoencoder") == "seg_guided works on pixels, without an autoencoder"
    assert trained("seg_guided").missing("loss") is None
    assert trained("controlnet").missing("autoencoder") is None


def test_scores_that_are_not_finite_are_left_out(stage: Callable[..., None], untrained: Params) -> None:
    """Of a generator whose training has diverged; what sees its images alone still works."""
    weights = paths.generator("toy", "siamese") / "decoder.safetensors"
    from safetensors.torch import load_file, save_file

    save_file({name: torch.full_like(value, torch.nan) for name, value in load_file(weights).items()}, weights)
    stage(untrained, "siamese")
    record = files.read_json(paths.audit("toy", "siamese") / "membership.json")
    assert [attack["score"] for attack in record["attacks"]] == ["autoencoder", "released"]
    assert set(record["absent"]) == {"loss", "pia", "pian", "secmi"}
    assert all("not finite" in reason for reason in record["absent"].values())


# --- whom it is tried on -------------------------------------------------------------------------------------------


def patients(spec: DatasetSpec, folder: Path, **groups: str) -> ImageSet:
    """A real set whose images belong to patients, by id."""

    def pairs() -> Iterator[tuple[Sample, Row]]:
        for split, count in {"train": 3, "val": 2, "test": 3, "reserve": 2}.items():
            for number in range(count):
                sample = blob(spec, split, number)
                yield sample, {"group": groups[sample.id]} if sample.id in groups else {}

    return ImageSet.create(folder, spec, pairs())


def attacked(real: ImageSet, unlabelled: ImageSet | None, near_duplicates: tuple[str, ...]) -> Attacked:
    return Attacked.of(real.split("train"), held_out(real, unlabelled), near_duplicates)


def test_controls_are_unseen_by_base_and_generator(spec: DatasetSpec, tmp_path: Path) -> None:
    real = patients(spec, tmp_path / "real", train_0="a", test_1="a", test_2="b")
    everything = attacked(real, None, ("val_0",))
    assert everything.members.ids == ["train_0", "train_1", "train_2"]
    assert everything.controls.ids == ["reserve_0", "reserve_1", "test_0", "test_2", "val_1"]
    assert everything.left_out == ("test_1", "val_0")  # a patient of the training images, and a near-duplicate
    seen = attacked(real, real.split("reserve"), ())
    assert seen.controls.ids == ["test_0", "test_2", "val_0", "val_1"]
    with pytest.raises(UserError, match=r"audit.membership: 1 held-out images of .* it needs at least 2"):
        attacked(real, real.split("reserve"), ("test_0", "test_2", "val_0"))


def test_sides_know_their_patients(spec: DatasetSpec, tmp_path: Path) -> None:
    real = patients(spec, tmp_path / "real", train_0="a", train_1="a", test_2="b")
    members, controls = attacked(real, None, ()).sides((np.arange(3.0), np.arange(7.0)))
    assert len(members.units) == members.units.n_groups == 2
    assert controls.units.n_groups == 7


def test_distances_of_a_space_are_divided_by_its_median() -> None:
    close, wide = (np.array([1.0, 3.0]), np.array([2.0])), (np.array([100.0, 300.0]), np.array([200.0]))
    members, controls = nearest_share([close, wide])
    assert members.tolist() == [-0.5, -1.5]
    assert controls.tolist() == [-1.0]


def test_images_near_a_synthetic_one_score_higher(toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    both = attacked(real, None, ())
    copied = ((s, {"source_id": s.id}) for s in both.members.select(both.members.rows[:4]).samples())
    synthetic = ImageSet.create(paths.synthetic("toy", "copier"), real.spec, copied)
    cache = open_spaces(toy_study.audit, toy_study.score, 0, Runtime.alone())
    members, controls = released_scores(both, synthetic, cache)
    assert members[:4] == pytest.approx(0, abs=2e-3)
    assert max(members[4:].max(), controls.max()) < members[:4].min()


# --- parameters and words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("membership", "message"),
    [
        ({"scores": ["lira"]}, r"audit\.membership\.scores"),
        ({"scores": []}, "name at least one"),
        ({"scores": ["loss", "loss"]}, "none twice"),
        ({"timesteps": [0, 1000]}, r"timesteps \[0, 1000\] do not lie between 1 and 999"),
        ({"bootstrap": 10}, r"audit\.membership\.bootstrap"),
    ],
)
def test_unusable_settings_are_refused(membership: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(membership)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.51, 0.6, "distinguishes training images"),
        (0.4, 0.56, "up to 0.56 remains possible"),
        (0.3, 0.49, "ranks held-out images above"),
        (None, None, "No interval: one patient."),
    ],
)
def test_what_an_interval_means(low: float | None, high: float | None, said: str) -> None:
    assert said in meaning({"low": low, "high": high, "interval_reason": "one patient"})
