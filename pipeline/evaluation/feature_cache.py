"""Features, pair distances and the judge's predictions of image sets, computed once and cached on disk by content.

With several processes each one computes its share of the batches; batches are cut before they are sharded, so that the
rows do not depend on the number of processes. All processes must make the same requests in the same order.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core import files, paths, plugins
from pipeline.core.contracts import Comparer, Segmenter
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet, Row
from pipeline.evaluation.judges import Judges, judged_by
from pipeline.networks import pretrained
from pipeline.stages.score.params import Score

BATCH = 32  # images decoded at once
MEMORY_LIMIT = 1 << 30  # bytes of decoded images kept in memory, so that comparers need not decode again
JUDGE = "judge"  # the name of its probe; those of several judges end in their numbers
FEATURES = paths.WORK / "features"
Output = NDArray[Any]  # [N, ...], one row per image or per pair


class Probe(Protocol):
    """Anything that turns images into one row per image: an Embedder, or the judge."""

    @property
    def id(self) -> str:
        """Return the name of the weights and the preprocessing, part of the cache key."""
        ...

    def __call__(self, images: Tensor) -> Output:
        """Return [B, ...] of [B, 3, H, W] uint8."""
        ...


@dataclass(frozen=True)
class JudgeProbe:
    """Label maps [B, H, W] predicted by the judge."""

    id: str  # names the trained weights
    segmenter: Segmenter

    def __call__(self, images: Tensor) -> NDArray[np.uint8]:
        """Return the class with the highest mean probability of every pixel."""
        self.segmenter.objective.to(images.device)
        return self.segmenter.predict(images.float() / 255).mean(1).argmax(1).to(torch.uint8).cpu().numpy()


@dataclass(frozen=True)
class FeatureCache:
    """The answers to all requests of image metrics (image_metrics._contract.FeatureStore)."""

    probes: Mapping[str, Probe]
    comparers: Mapping[str, Comparer]
    unavailable: Mapping[str, str]  # extractors that cannot be used, with the reason
    settings: Score
    seed: int
    runtime: Runtime
    folder: Path = FEATURES
    folds: Mapping[str, int] | None = None  # of training pairs, by id, where the judges are cross-fitted
    loaded: dict[Path, Output] = field(default_factory=dict, repr=False, compare=False)
    decoded: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)

    def extractors(self, kind: Literal["rows", "distances"]) -> list[str]:
        """Return the extractors of one kind in `score.extractors`, those with missing weights included."""
        available = self.probes if kind == "rows" else self.comparers
        names = self.settings.extractors
        return [name for name in names if name in available or (name in self.unavailable and output_of(name) == kind)]

    def missing(self, extractor: str) -> str | None:
        """Return why an extractor cannot be used, None if it can."""
        if extractor in self.probes or extractor in self.comparers:
            return None
        return self.unavailable.get(extractor, f"score.extractors does not name {extractor}")

    def features(self, images: ImageSet, extractor: str) -> NDArray[np.float32]:
        """Return features [N, D] in the order of the set's rows."""
        return self._output(images, extractor)

    def predictions(self, images: ImageSet) -> list[NDArray[np.uint8]]:
        """Return label maps [J, H, W] for every row: one per judge that judges the image."""
        found = [self._output(images, name) for name in self._judges]
        return [np.stack([found[k][row] for k in judges]) for row, judges in enumerate(self._judged_by(images))]

    def cross_fitted_by(self, images: ImageSet) -> list[tuple[int, ...]] | None:
        """Return for every row the numbers of the judges of `predictions`; None where there is one judge for all."""
        return None if self.folds is None else self._judged_by(images)

    @property
    def _judges(self) -> list[str]:
        return [name for name in self.probes if name.split("/")[0] == JUDGE]

    def _judged_by(self, images: ImageSet) -> list[tuple[int, ...]]:
        return judged_by(images.rows, self.folds, len(self._judges))

    def distances(self, first: ImageSet, second: ImageSet, extractor: str) -> NDArray[np.float32]:
        """Return distances [N] between row k of the first set and row k of the second; a set's rows may repeat."""
        if len(first) != len(second):
            raise ValueError(f"{len(first)} images cannot be compared with {len(second)} one by one")
        comparer = self.comparers[extractor]
        path = self.folder / f"{_content_key(first, second)}-{comparer.id}.npz"

        def compare(window: slice) -> dict[Path, Output]:
            sides = (self._batch(images, window) for images in (first, second))
            return {path: comparer(*sides)}

        return self._load_or_compute(path, lambda: self._compute(len(first), f"compare by {extractor}", compare))

    def _output(self, images: ImageSet, name: str) -> Output:
        if not len(images):
            raise UserError(f"{images.folder}: there is no image in this selection; is a split empty?")
        return self._load_or_compute(self._path(images, name), lambda: self._run_probes(images))

    def _run_probes(self, images: ImageSet) -> None:
        """Run all probes whose output for these images is not cached yet, in one pass."""
        missing = {name: path for name in self.probes if _read(path := self._path(images, name)) is None}

        def run(window: slice) -> dict[Path, Output]:
            batch = self._batch(images, window)
            return {path: self.probes[name](batch) for name, path in missing.items()}

        self._compute(len(images), f"look at {images.folder.name}", run)

    def _load_or_compute(self, path: Path, compute: Callable[[], None]) -> Output:
        if path not in self.loaded:
            output = _read(path)
            self.runtime.barrier()  # no process may finish the file while another one still tries to read it
            if output is None:
                compute()
                output = _read(path)
            if output is None:
                raise UserError(f"{path} cannot be read back; remove {path.parent} and run the same command again")
            self.loaded[path] = output
        return self.loaded[path]

    def _compute(self, count: int, title: str, run: Callable[[slice], dict[Path, Output]]) -> None:
        """Run this process's batches; the first process merges the shards of all processes."""
        windows = [slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
        shard = windows[self.runtime.rank :: self.runtime.world]
        outputs: dict[Path, list[Output]] = {}
        for window in track(shard, f"{title} ({count} images)", visible=self.runtime.is_main):
            for path, output in run(window).items():
                outputs.setdefault(path, []).append(output)
        if self.runtime.world == 1:
            for path, parts in outputs.items():
                _save(path, np.concatenate(parts))
            return
        for path, parts in outputs.items():
            _save(_shard_path(path, self.runtime.rank), np.concatenate(parts))
        self.runtime.barrier()
        if self.runtime.is_main:
            for path in outputs:
                _save(path, _merge_shards(path, windows, self.runtime.world))
        self.runtime.barrier()

    def _batch(self, images: ImageSet, window: slice) -> Tensor:
        pixels = np.stack([self._decode(images, row) for row in images.rows[window]])
        return torch.from_numpy(pixels).to(self.runtime.device)

    def _decode(self, images: ImageSet, row: Row) -> NDArray[np.uint8]:
        if row["sha256"] in self.decoded:
            return self.decoded[row["sha256"]]
        pixels = images.picture(row)
        if (len(self.decoded) + 1) * pixels.nbytes <= MEMORY_LIMIT and self.comparers:
            self.decoded[row["sha256"]] = pixels
        return pixels

    def _path(self, images: ImageSet, name: str) -> Path:
        return self.folder / f"{_content_key(images)}-{self.probes[name].id}.npz"


def open_cache(score: Score, seed: int, study: str, judges: Judges | None, runtime: Runtime) -> FeatureCache:
    """Return the cache that the metrics of a study use: its extractors, and the judges where there are any."""
    probes: dict[str, Probe] = {}
    comparers: dict[str, Comparer] = {}
    unavailable: dict[str, str] = {}
    for name in score.extractors:
        try:
            extractor = build_extractor(name, score)
        except pretrained.Unavailable as error:
            unavailable[name] = str(error)
            continue
        if output_of(name) == "rows":
            probes[name] = extractor
        else:
            comparers[name] = extractor
    if judges is None:
        return FeatureCache(probes, comparers, unavailable, score, seed, runtime)
    probes |= _judge_probes(study, judges)
    return FeatureCache(probes, comparers, unavailable, score, seed, runtime, folds=judges.folds)


def _judge_probes(study: str, judges: Judges) -> dict[str, Probe]:
    """Return the probe of every judge by its name; one judge of all pairs keeps the name and the key of before."""
    key = f"judge-{files.tree_sha256(paths.judge(study))[:16]}"
    if judges.folds is None:
        return {JUDGE: JudgeProbe(key, judges.segmenters[0])}
    return {f"{JUDGE}/{k}": JudgeProbe(f"{key}-{k}", judge) for k, judge in enumerate(judges.segmenters)}


def output_of(extractor: str) -> Literal["rows", "distances"]:
    """Return what an extractor computes: feature rows of images, or distances of pairs of images."""
    return plugins.load("features", extractor).OUTPUT


def build_extractor(name: str, score: Score) -> Any:
    """Build one Embedder or Comparer. Raises pretrained.Unavailable where its weights are not available."""
    module = plugins.load("features", name)
    file = None
    if module.WEIGHTS is not None:
        file = pretrained.find(name, module.WEIGHTS, score.weights)
    return module.build(file)


def _content_key(*sets: ImageSet) -> str:
    return files.fingerprint([[row["sha256"] for row in images] for images in sets])


def _read(path: Path) -> Output | None:
    """Return cached rows; None where there are none or the file is damaged (its parts have checksums)."""
    try:
        with np.load(path) as archive:
            return archive["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _save(path: Path, output: Output) -> None:
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, rows=output)


def _shard_path(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}.{rank}.npz")


def _merge_shards(path: Path, windows: list[slice], world: int) -> Output:
    """Return the shards of all processes in the order of the images, and remove their files."""
    shards: list[Iterator[Output]] = []
    for rank in range(min(world, len(windows))):
        with np.load(_shard_path(path, rank)) as archive:
            sizes = [window.stop - window.start for window in windows[rank::world]]
            shards.append(iter(np.split(archive["rows"], np.cumsum(sizes)[:-1])))
        _shard_path(path, rank).unlink()
    return np.concatenate([next(shards[k % world]) for k in range(len(windows))])
