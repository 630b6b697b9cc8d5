"""Looks at image sets for all metrics: each set is decoded once, and what the extractors say is kept by content.

With several processes each looks at its share of the batches; batches are cut before they are dealt, so that any number
of processes gives the same rows. All processes must ask for the same things in the same order.
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
from pipeline.networks import pretrained
from pipeline.stages.score.params import Score as Settings
from pipeline.study import Params

BATCH = 32  # images decoded at once
KEPT = 1 << 30  # bytes of decoded images kept in memory, so that comparers need not decode again
JUDGE = "judge"
FEATURES = paths.WORK / "features"
Rows = NDArray[Any]


class Probe(Protocol):
    """Anything that turns images into one row per image: an Embedder, or the judge."""

    @property
    def id(self) -> str:
        """Names the weights and the preprocessing: part of the key under which rows are kept."""
        ...

    def __call__(self, images: Tensor) -> Rows:
        """[B, 3, H, W] uint8 -> [B, ...]."""
        ...


@dataclass(frozen=True)
class JudgeProbe:
    """The judge's label maps [B, H, W]."""

    id: str  # names the trained weights
    segmenter: Segmenter

    def __call__(self, images: Tensor) -> NDArray[np.uint8]:
        """The class with the highest mean probability."""
        self.segmenter.objective.to(images.device)
        return self.segmenter.predict(images.float() / 255).mean(1).argmax(1).to(torch.uint8).cpu().numpy()


@dataclass(frozen=True)
class View:
    """What metrics may ask about image sets (quality._view.View)."""

    probes: Mapping[str, Probe]
    comparers: Mapping[str, Comparer]
    absent: Mapping[str, str]  # extractors that cannot be used, with the reason
    settings: Settings
    seed: int
    runtime: Runtime
    folder: Path = FEATURES
    seen: dict[Path, Rows] = field(default_factory=dict, repr=False, compare=False)
    decoded: dict[str, NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)

    def extractors(self, gives: Literal["rows", "distances"]) -> list[str]:
        """The names in `score.extractors` of one sort, also those whose weights are missing."""
        there = self.probes if gives == "rows" else self.comparers
        names = self.settings.extractors
        return [name for name in names if name in there or (name in self.absent and gives_of(name) == gives)]

    def missing(self, extractor: str) -> str | None:
        """Why an extractor cannot be asked; None: it can."""
        if extractor in self.probes or extractor in self.comparers:
            return None
        return self.absent.get(extractor, f"score.extractors does not name {extractor}")

    def features(self, images: ImageSet, extractor: str) -> NDArray[np.float32]:
        """[N, D] in the order of the set's rows."""
        return self._rows(images, extractor)

    def predictions(self, images: ImageSet) -> NDArray[np.uint8]:
        """The judge's label maps [N, H, W] in the order of the set's rows."""
        return self._rows(images, JUDGE)

    def distances(self, first: ImageSet, second: ImageSet, extractor: str) -> NDArray[np.float32]:
        """[N] between row k of the first set and row k of the second; a set's rows may repeat."""
        if len(first) != len(second):
            raise ValueError(f"{len(first)} images cannot be compared with {len(second)} one by one")
        comparer = self.comparers[extractor]
        path = self.folder / f"{_content(first, second)}-{comparer.id}.npz"

        def compare(window: slice) -> dict[Path, Rows]:
            sides = (self._batch(images, window) for images in (first, second))
            return {path: comparer(*sides)}

        return self._kept(path, lambda: self._share(len(first), f"compare by {extractor}", compare))

    def _rows(self, images: ImageSet, name: str) -> Rows:
        if not len(images):
            raise UserError(f"{images.folder}: no image in this selection; is a split empty?")
        return self._kept(self._path(images, name), lambda: self._look(images))

    def _look(self, images: ImageSet) -> None:
        """Asks all probes whose rows of these images are not kept yet, in one pass."""
        missing = {name: path for name in self.probes if _read(path := self._path(images, name)) is None}

        def look(window: slice) -> dict[Path, Rows]:
            batch = self._batch(images, window)
            return {path: self.probes[name](batch) for name, path in missing.items()}

        self._share(len(images), f"look at {images.folder.name}", look)

    def _kept(self, path: Path, make: Callable[[], None]) -> Rows:
        if path not in self.seen:
            rows = _read(path)
            self.runtime.barrier()  # no process may finish the file while another one still looks for it
            if rows is None:
                make()
                rows = _read(path)
            if rows is None:
                raise UserError(f"{path} cannot be read back; remove {path.parent} and run the same command again")
            self.seen[path] = rows
        return self.seen[path]

    def _share(self, count: int, title: str, look: Callable[[slice], dict[Path, Rows]]) -> None:
        """Looks at this process's batches; the first process puts all shares together."""
        windows = [slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
        mine = windows[self.runtime.rank :: self.runtime.world]
        found: dict[Path, list[Rows]] = {}
        for window in track(mine, f"{title} ({count} images)", visible=self.runtime.is_main):
            for path, rows in look(window).items():
                found.setdefault(path, []).append(rows)
        if self.runtime.world == 1:
            for path, rows in found.items():
                _save(path, np.concatenate(rows))
            return
        for path, rows in found.items():
            _save(_shard(path, self.runtime.rank), np.concatenate(rows))
        self.runtime.barrier()
        if self.runtime.is_main:
            for path in found:
                _save(path, _joined(path, windows, self.runtime.world))
        self.runtime.barrier()

    def _batch(self, images: ImageSet, window: slice) -> Tensor:
        pixels = np.stack([self._decode(images, row) for row in images.rows[window]])
        return torch.from_numpy(pixels).to(self.runtime.device)

    def _decode(self, images: ImageSet, row: Row) -> NDArray[np.uint8]:
        if row["sha256"] in self.decoded:
            return self.decoded[row["sha256"]]
        pixels = images.picture(row)
        if (len(self.decoded) + 1) * pixels.nbytes <= KEPT and self.comparers:
            self.decoded[row["sha256"]] = pixels
        return pixels

    def _path(self, images: ImageSet, name: str) -> Path:
        return self.folder / f"{_content(images)}-{self.probes[name].id}.npz"


def open_view(params: Params, judge: Segmenter | None, runtime: Runtime) -> View:
    """The view that the metrics of a study need: its extractors, and the judge where there is one."""
    probes: dict[str, Probe] = {}
    comparers: dict[str, Comparer] = {}
    absent: dict[str, str] = {}
    for name in params.score.extractors:
        try:
            built = build(name, params.score)
        except pretrained.Unavailable as error:
            absent[name] = str(error)
            continue
        if gives_of(name) == "rows":
            probes[name] = built
        else:
            comparers[name] = built
    if judge is not None:
        probes[JUDGE] = JudgeProbe(f"judge-{files.tree_sha256(paths.judge(params.study))[:16]}", judge)
    return View(probes, comparers, absent, params.score, params.seed, runtime)


def gives_of(extractor: str) -> Literal["rows", "distances"]:
    """What an extractor gives: feature rows per image, or distances of pairs."""
    return plugins.load("features", extractor).GIVES


def build(extractor: str, settings: Settings) -> Any:
    """One Embedder or Comparer. Raises weights.Unavailable where its weights cannot be had."""
    module = plugins.load("features", extractor)
    file = None
    if module.WEIGHTS is not None:
        file = pretrained.find(extractor, module.WEIGHTS, settings.weights)
    return module.build(file)


def _content(*sets: ImageSet) -> str:
    return files.fingerprint([[row["sha256"] for row in images] for images in sets])


def _read(path: Path) -> Rows | None:
    """Kept rows; None where there are none or the file is damaged (its parts have checksums)."""
    try:
        with np.load(path) as archive:
            return archive["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _save(path: Path, rows: Rows) -> None:
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, rows=rows)


def _shard(path: Path, rank: int) -> Path:
    return path.with_name(f"{path.stem}.{rank}.npz")


def _joined(path: Path, windows: list[slice], world: int) -> Rows:
    """The shares of all processes in the order of the images; their files are removed."""
    shares: list[Iterator[Rows]] = []
    for rank in range(min(world, len(windows))):
        with np.load(_shard(path, rank)) as archive:
            sizes = [window.stop - window.start for window in windows[rank::world]]
            shares.append(iter(np.split(archive["rows"], np.cumsum(sizes)[:-1])))
        _shard(path, rank).unlink()
    return np.concatenate([next(shares[k % world]) for k in range(len(windows))])
