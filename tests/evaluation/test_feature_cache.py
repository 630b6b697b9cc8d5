"""Facts of the cache when several processes share it, and of extractors that cannot be had."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.evaluation import feature_cache
from pipeline.evaluation.feature_cache import FeatureCache, open_cache
from pipeline.networks import pretrained
from pipeline.stages.score.params import Score
from pipeline.study import Params
from tests.patience import HUNG

CPU = torch.device("cpu")


class Means:
    """Means per channel; remembers how many images it was shown."""

    id = "means"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> NDArray[np.float32]:
        self.seen += len(images)
        return images.float().mean((-2, -1)).numpy()


class Gap:
    """Mean absolute difference of two images."""

    id = "gap"

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> NDArray[np.float32]:
        return (first.float() - second.float()).abs().mean((1, 2, 3)).numpy()


@dataclass(frozen=True)
class Threaded(Runtime):
    """A process of a launch that is a thread of this one."""

    gate: Any = None

    def barrier(self) -> None:
        self.gate.wait(timeout=HUNG)


def look(runtime: Runtime, folder: Path, probe: Means) -> FeatureCache:
    return FeatureCache({"means": probe}, {"gap": Gap()}, {}, Score(resamples=100), 0, runtime, folder)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "BATCH", 4)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_processes_gives_the_same_rows(toy_study: Params, tmp_path: Path, world: int) -> None:
    real = ImageSet.open(paths.real("toy"))  # 15 images: 4 batches, so that the fifth process has none
    backwards = real.select(real.rows[::-1])
    alone = look(Runtime(CPU), tmp_path / "alone", Means())
    expected = alone.features(real, "means"), alone.distances(real, backwards, "gap")
    gate, probes = threading.Barrier(world), [Means() for _ in range(world)]
    found: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}

    def run(rank: int) -> None:
        seen = look(Threaded(CPU, rank, world, gate=gate), tmp_path / "shared", probes[rank])
        found[rank] = seen.features(real, "means"), seen.distances(real, backwards, "gap")

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HUNG)
    assert sorted(found) == list(range(world))
    for rows, gaps in found.values():
        assert np.array_equal(rows, expected[0])
        assert np.array_equal(gaps, expected[1])
    assert sum(probe.seen for probe in probes) == len(real)  # each image was shown to one process only
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {
        path.name for path in (tmp_path / "alone").iterdir()
    }  # no share is left behind


def test_distances_follow_the_order_of_both_sets(toy_study: Params, tmp_path: Path) -> None:
    real = ImageSet.open(paths.real("toy"))
    seen = look(Runtime(CPU), tmp_path, Means())
    one = real.select([real.rows[0]] * 3)
    gaps = seen.distances(one, real.select(real.rows[:3]), "gap")
    a, b = (real.image(real.rows[k]).astype(float) for k in (0, 2))
    assert gaps[0] == 0
    assert gaps[2] == pytest.approx(np.abs(a - b).mean(), rel=1e-6)
    with pytest.raises(ValueError, match="3 images cannot be compared with 2"):
        seen.distances(one, real.select(real.rows[:2]), "gap")


def test_an_extractor_without_weights_is_told_and_does_not_stop_the_others(
    toy_study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: Any) -> Path:
        raise pretrained.Unavailable("put the file into weights/")

    monkeypatch.setattr(pretrained, "find", nowhere)
    score = toy_study.score.model_copy(update={"extractors": ("efficientnet_lite0", "clip_b32", "lpips_alex")})
    seen = open_cache(score, toy_study.seed, toy_study.study, None, Runtime(CPU))
    assert seen.extractors("rows") == ["efficientnet_lite0", "clip_b32"]
    assert seen.extractors("distances") == ["lpips_alex"]
    assert seen.missing("efficientnet_lite0") is None
    assert seen.missing("clip_b32") == "put the file into weights/"
    assert seen.missing("inception") == "score.extractors does not name inception"
