"""The judge's maps as the stage score publishes them, and a training set made with them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import files, paths, tables
from pipeline.core.contracts import IGNORED
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data import judge_maps as format_of
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.judges import Judges
from pipeline.stages.mix.mix import mix
from pipeline.stages.score import judge_maps
from pipeline.stages.score import score as stage
from pipeline.study import Params
from tests.conftest import TOY_STUDY

SETTINGS = {"score": {"metrics": ["faithfulness"], "extractors": [], "resamples": 100, "judge_maps": True}}


class Bright:
    """A judge to which bright pixels are foreground, with this probability; dark ones are background with the same."""

    def __init__(self, probability: float) -> None:
        self.probability, self.objective, self.seen = probability, torch.nn.Identity(), 0

    def predict(self, image: torch.Tensor, num_samples: int = 1) -> torch.Tensor:
        self.seen += len(image)
        foreground = torch.where(image.mean(1) > 0.35, self.probability, 1 - self.probability)
        return torch.stack([1 - foreground, foreground], 1)[:, None]


def of_log_odds(value: float) -> float:
    return 1 / (1 + float(np.exp(-value)))


@dataclass(frozen=True)
class Study:
    """The toy study with two judges of its training pairs, the first four of which are fold 0."""

    params: Params
    judges: Judges

    @property
    def sets(self) -> tuple[ImageSet, ImageSet]:
        return ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))

    def run(self, rank: int = 0, world: int = 1) -> Path:
        real, synthetic = self.sets
        return judge_maps.judge_pixels(real, synthetic, "toy", self.judges, Turn(torch.device("cpu"), rank, world))


@dataclass(frozen=True)
class Turn(Runtime):
    """A process of a launch whose processes run one after the other, the first one last."""

    def barrier(self) -> None:
        pass


@pytest.fixture
def study(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> Study:
    files.write_json(paths.judge("toy") / "segmenter.json", {})
    train = ImageSet.open(paths.real("toy")).split("train")
    folds = {name: int(number >= 4) for number, name in enumerate(train.ids)}
    segmenters: Any = Bright(of_log_odds(2.0)), Bright(of_log_odds(4.0))
    judges = Judges(segmenters, folds)
    monkeypatch.setattr(stage, "load_judges", lambda *_: judges)
    sets = {"real": {}, "arm": {"generator": "siamese", "multiplier": 1, "screen": {"pixels": 4.0}}}
    return Study(parse(Params, TOY_STUDY | SETTINGS | {"training_sets": sets}), judges)


def levels(study: Study, work: Path, name: str) -> np.ndarray:
    found = {row["id"]: row for row in tables.read_table(work / "maps.csv")}
    assert files.sha256(work / found[name]["file"]) == found[name]["sha256"]
    return format_of.read(work / found[name]["file"], 2)


def test_each_image_has_the_map_of_the_judge_that_has_not_seen_its_pair(study: Study) -> None:
    work = study.run()
    synthetic = study.sets[1]
    for name, tenths in (("train_0_c0", 20), ("train_7_c1", 40)):
        bright = synthetic.image(next(row for row in synthetic if row["id"] == name)).mean(0) > 0.35 * 255
        assert np.array_equal(levels(study, work, name)[1], np.where(bright, 128 + tenths, 128 - tenths))


def test_the_tables_tell_of_real_pixels_that_no_judge_has_seen(study: Study) -> None:
    work = study.run()
    train = study.sets[0].split("train")
    right = {2.0: np.log1p(np.exp(-2.0)), 4.0: np.log1p(np.exp(-4.0))}
    expected: dict[int, list[float]] = {0: [], 1: []}
    for number, row in enumerate(train):
        mask, odds = train.mask(row), 2.0 if number < 4 else 4.0
        bright = train.image(row).mean(0) > 0.35 * 255
        for label in (0, 1):
            wrong = (bright != label)[mask == label]
            expected[label] += np.where(wrong, right[odds] + odds, right[odds]).tolist()
    for row in tables.read_table(work / "classes.csv"):
        values = np.array(expected[int(row["class"])])
        assert int(row["pixels"]) == len(values)
        assert float(row["cross_entropy"]) == pytest.approx(values.mean(), rel=1e-5)
        assert float(row["quantile_99"]) == pytest.approx(np.quantile(values, 0.99, method="inverted_cdf"), rel=1e-5)
    dice = {row["id"]: float(row["dice"]) for row in tables.read_table(work / "training.csv")}
    assert dice.keys() == set(train.ids) and min(dice.values()) > 0.9  # blobs are bright


def test_any_number_of_processes_writes_the_same_bytes(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_maps, "BATCH", 3)
    expected = files.tree_sha256(study.run())
    work = study.run()
    for path in (work / "maps").iterdir():
        path.unlink()
    for rank in (2, 1, 0):
        assert files.tree_sha256(study.run(rank, 3)) == expected or rank


def test_maps_that_are_there_are_kept(study: Study) -> None:
    work = study.run()
    before = [judge.seen for judge in study.judges.segmenters]  # type: ignore[attr-defined]
    study.run()
    assert [judge.seen for judge in study.judges.segmenters] == before  # type: ignore[attr-defined]
    (work / "maps" / "train_3_c1.png").unlink()
    study.run()
    assert (work / "maps" / "train_3_c1.png").is_file()


def test_where_all_judges_judge_the_mean_of_their_probabilities_counts(study: Study) -> None:
    images = study.sets[1]
    ImageSet.finish(images.folder, images.spec, [{**row, "source_id": "bank/1"} for row in images])
    found = levels(study, study.run(), "train_0_c0")[1]
    mean = (of_log_odds(2.0) + of_log_odds(4.0)) / 2
    tenths = round(10 * float(np.log(mean / (1 - mean))))
    assert set(np.unique(found).tolist()) == {128 - tenths, 128 + tenths}


def test_the_stage_publishes_maps_that_a_training_set_is_made_with(study: Study) -> None:
    stage.score(study.params, "siamese")
    folder = paths.scores("toy", "siamese")
    assert len(tables.read_table(folder / "judge_maps" / "maps.csv")) == len(
        list((folder / "judge_maps/maps").iterdir())
    )
    assert not (folder / "judge_maps" / "training").exists()
    first = files.tree_sha256(folder)
    stage.score(study.params, "siamese")
    assert files.tree_sha256(folder) == first
    images = mix(study.params, "arm")
    assert {row["ignored_pixels"] for row in images if row["synthetic"]} == {0}  # the blobs are as bright as real ones
    strict = {"generator": "siamese", "multiplier": 1, "screen": {"pixels": 1.0, "least_foreground": 0.0}}
    changed = mix(parse(Params, TOY_STUDY | SETTINGS | {"training_sets": {"real": {}, "arm": strict}}), "arm")
    kept = [row["id"] for row in changed if row["synthetic"]]
    assert kept == [
        f"train_{n}_c0" for n in range(4, 8)
    ]  # judge 0 is less sure than both are on average: nothing is left
    assert not any((changed.mask(row) == IGNORED).any() for row in changed)


def test_without_the_switch_the_tables_are_there_and_empty(study: Study) -> None:
    plain = study.params.model_copy(update={"score": study.params.score.model_copy(update={"judge_maps": False})})
    stage.score(plain, "siamese")
    folder = paths.scores("toy", "siamese") / "judge_maps"
    assert {path.name for path in folder.iterdir()} == {"maps.csv", "classes.csv", "training.csv"}
    assert all(tables.read_table(path) == [] for path in folder.iterdir())
