"""Facts of the cache on image sets and of the files that score writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.evaluation.feature_cache import JUDGE, FeatureCache, JudgeProbe, open_cache
from pipeline.evaluation.image_set_scores import image_rows, score_set
from pipeline.evaluation.judges import Judges
from pipeline.metrics.images.neighbours import nearest
from pipeline.metrics.images.score import ScoreResult
from pipeline.stages.score.feature_map import map_rows
from pipeline.stages.score.params import Score
from pipeline.stages.score.score import publish_scores
from pipeline.study import Params

CPU = Runtime(torch.device("cpu"))


class Counting:
    """Means per channel; counts the images it sees."""

    def __init__(self, name: str = "counting") -> None:
        self.id, self.seen = name, 0

    def __call__(self, images: torch.Tensor) -> NDArray[np.float32]:
        self.seen += len(images)
        return images.float().mean((-2, -1)).numpy()


class Bright:
    """A stand-in segmenter with two classes."""

    objective = torch.nn.Identity()
    about: dict[str, Any] = {}  # noqa: RUF012

    def predict(self, image: torch.Tensor, num_samples: int = 1) -> torch.Tensor:
        chance = (image.mean(1) > 0.4).float()
        return torch.stack([1 - chance, chance], 1)[:, None].expand(-1, num_samples, -1, -1, -1)

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


def look(settings: Score | None = None, **probes: Any) -> FeatureCache:
    return FeatureCache(probes, {}, {}, settings or Score(resamples=100), 0, CPU)


def test_one_pass_feeds_all_probes(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    real, decoded = ImageSet.open(paths.real("toy")), []
    read = ImageSet.image
    monkeypatch.setattr(ImageSet, "image", lambda self, row: decoded.append(row["id"]) or read(self, row))
    cache = look(a=Counting("a"), b=Counting("b"), judge=JudgeProbe("j", Bright()))
    cache.features(real, "a")
    cache.features(real, "b")
    assert [found.shape for found in cache.predictions(real)] == [(1, 32, 32)] * 15
    assert sorted(decoded) == sorted(real.ids)  # each once


def test_rows_are_in_the_order_of_the_set_and_kept_by_content(toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    first, second = Counting(), Counting()
    rows = look(a=first).features(real, "a")
    assert rows[3] == pytest.approx(real.image(real.rows[3]).mean((1, 2)), rel=1e-5)
    backwards = real.select(reversed(real.rows))
    assert look(a=second).features(real, "a") == pytest.approx(rows)
    assert (first.seen, second.seen) == (15, 0)
    assert look(a=second).features(backwards, "a") == pytest.approx(rows[::-1])
    assert second.seen == 15


def test_other_weights_are_looked_with_again(toy_study: Params) -> None:
    real, other = ImageSet.open(paths.real("toy")), Counting("other")
    look(a=Counting("one")).features(real, "a")
    look(a=other).features(real, "a")
    assert other.seen == 15


def test_the_judge_s_prediction_is_its_likeliest_class(toy_study: Params) -> None:
    synthetic = ImageSet.open(paths.synthetic("toy", "siamese"))
    found = look(**{JUDGE: JudgeProbe("bright", Bright())}).predictions(synthetic)
    assert (found[5][0] == synthetic.mask(synthetic.rows[5])).all()
    assert found[5].dtype == np.uint8


def test_sets_that_do_not_fit_are_refused(toy_study: Params) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    cache = look(a=Counting())
    with pytest.raises(UserError, match="run generate again"):
        score_set(real, ImageSet(synthetic.folder, DatasetSpec(name="blobs", size=64), synthetic.rows), cache)
    with pytest.raises(UserError, match="holds no test image to score with"):
        score_set(real.split("train"), synthetic, cache)
    with pytest.raises(UserError, match="there is no synthetic image to score with"):
        score_set(real, synthetic.select([]), cache)


def test_an_unknown_metric_lists_those_there_are(toy_study: Params) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    with pytest.raises(
        UserError,
        match=r"there is no 'fid' among the image_metrics; the available ones are: .*faithfulness, .*frechet, .*kernel",
    ):
        score_set(real, synthetic, look(Score(metrics=("fid",))))


def test_all_scores_of_a_set_decode_every_image_once(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    decoded, read = [], ImageSet.image
    monkeypatch.setattr(ImageSet, "image", lambda self, row: decoded.append(row["id"]) or read(self, row))
    cache = look(Score(extractors=("a",), resamples=100), a=Counting(), judge=JudgeProbe("bright", Bright()))
    names = {score.name for score in score_set(real, synthetic, cache)}
    image_rows(real, synthetic, cache)
    assert names >= {"frechet.a", "kernel.a", "faithfulness", "faithfulness_shuffled", "judge_dice"}
    assert sorted(decoded) == sorted([*real.split("train").ids, *real.split("test").ids, *synthetic.ids])


def test_rows_per_image(toy_study: Params) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    settings = Score(metrics=("faithfulness",), extractors=("a",), resamples=100)
    rows = image_rows(real, synthetic, look(settings, a=Counting(), judge=JudgeProbe("bright", Bright())))
    assert len(rows) == 16
    assert list(rows[0]) == ["id", "source_id", "copy", "dice", "nearest", "nearest_distance"]
    assert rows[3] | {"nearest": "", "nearest_distance": 0} == {
        "id": "train_1_c1", "source_id": "train_1", "copy": 1, "dice": 1.0, "nearest": "", "nearest_distance": 0
    }  # fmt: skip
    assert {row["nearest"] for row in rows} <= set(real.split("train").ids)


def test_nearest_by_hand() -> None:
    index, distance = nearest(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 3.0], [5.0, 0.1], [1.0, 0.9]]))
    assert index.tolist() == [1, 2]
    assert distance == pytest.approx([1 - 5 / np.hypot(5, 0.1), 1 - 1.9 / np.sqrt(2 * 1.81)])


def test_files_of_a_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = paths.scores("toy", "siamese")
    scores = [
        ScoreResult("frechet.x", 3.5, 8, "lower", variant="train"),
        ScoreResult("frechet.x", 4.5, 4, "lower", variant="heldout", floor=1.0),
        ScoreResult("faithfulness", None, 8, "higher", reason="no judge"),
    ]
    publish_scores(folder, scores, [{"id": "a", "dice": 0.5}], [{"kind": "test", "id": "t", "x": 1.5, "y": 0.0}])
    assert files.read_json(folder / "metrics.json") == {
        "frechet": {"x": 3.5}, "frechet_heldout": {"x": 4.5}, "faithfulness": None
    }  # fmt: skip
    assert files.read_json(folder / "scores.json")[1]["floor"] == 1.0
    assert files.read_json(folder / "scores.json")[2]["reason"] == "no judge"
    assert tables.read_table(folder / "images.csv") == [{"id": "a", "dice": "0.5"}]
    assert tables.read_table(folder / "map.csv") == [{"kind": "test", "id": "t", "x": "1.5", "y": "0.0"}]


def test_the_map_places_first_copies_among_real_images(toy_study: Params) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    settings = Score(resamples=100, extractors=("efficientnet_lite0",))
    points = map_rows(real, synthetic, look(settings, efficientnet_lite0=Counting()))
    expected = [*real.split("train").ids, *real.split("test").ids, *synthetic.take(1).ids]
    assert [point["id"] for point in points] == expected
    assert all(np.isfinite([point["x"], point["y"]]).all() for point in points)
    assert map_rows(real, synthetic, look(settings)) == []  # no extractor gives features


def test_the_view_of_a_study_has_its_extractors_and_its_judge(toy_study: Params) -> None:
    files.write_json(paths.judge("toy") / "metrics.json", {"dice": 1.0})
    cache = open_cache(toy_study.score, toy_study.seed, toy_study.study, Judges((Bright(),)), CPU)
    assert set(cache.probes) == {"efficientnet_lite0", JUDGE}
    before = cache.probes[JUDGE].id
    files.write_json(paths.judge("toy") / "metrics.json", {"dice": 0.9})
    assert (
        open_cache(toy_study.score, toy_study.seed, toy_study.study, Judges((Bright(),)), CPU).probes[JUDGE].id
        != before
    )
    assert set(open_cache(toy_study.score, toy_study.seed, toy_study.study, None, CPU).probes) == {"efficientnet_lite0"}
