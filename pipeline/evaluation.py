"""Scores of synthetic image sets: each set is decoded once, and its features are kept by content."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import files, paths, plugins, tracking
from pipeline.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.errors import UserError
from pipeline.metrics.neighbours import nearest
from pipeline.metrics.score import Score, nested
from pipeline.params import Params
from pipeline.params import Score as Settings

BATCH = 32  # images decoded at once
JUDGE = "judge"
FEATURES = paths.WORK / "features"


class Probe(Protocol):
    """Anything that turns images into one row per image: an Embedder, or the judge."""

    @property
    def id(self) -> str:
        """Names the weights and the preprocessing: part of the key under which rows are kept."""
        ...

    def __call__(self, images: Tensor) -> NDArray[Any]:
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
    """Looks at image sets: one pass over a set's batches feeds all probes, and the rows are kept by content."""

    probes: Mapping[str, Probe]
    settings: Settings
    seed: int
    device: torch.device
    folder: Path = FEATURES
    seen: dict[Path, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    def features(self, images: ImageSet, extractor: str) -> NDArray[np.float32]:
        """[N, D] in the order of the set's rows."""
        return self._rows(images, extractor)

    def predictions(self, images: ImageSet) -> NDArray[np.uint8]:
        """The judge's label maps [N, H, W] in the order of the set's rows."""
        return self._rows(images, JUDGE)

    def _rows(self, images: ImageSet, name: str) -> NDArray[Any]:
        if not len(images):
            raise UserError(f"{images.folder}: no image in this selection; is a split empty?")
        path = self._path(images, name)
        if path not in self.seen:
            if not path.is_file():
                self._look(images)
            with np.load(path) as archive:
                self.seen[path] = archive["rows"]
        return self.seen[path]

    def _look(self, images: ImageSet) -> None:
        """Decodes the set and writes the rows of every probe that has not seen it yet."""
        missing = {n: p for n, p in self.probes.items() if not self._path(images, n).is_file()}
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in missing}
        starts = range(0, len(images), BATCH)
        for start in tracking.progress(starts, f"look at {images.folder.name} ({len(images)} images)"):
            decoded = np.stack([images.image(row) for row in images.rows[start : start + BATCH]])
            batch = torch.from_numpy(decoded).to(self.device)
            for name, probe in missing.items():
                found[name].append(probe(batch))
        for name, rows in found.items():
            with files.replacing(self._path(images, name)) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, rows=np.concatenate(rows))

    def _path(self, images: ImageSet, name: str) -> Path:
        content = files.fingerprint([row["sha256"] for row in images])
        return self.folder / f"{content}-{self.probes[name].id}.npz"


def open_view(params: Params, judge: Segmenter | None, device: torch.device) -> View:
    """The view that the metrics of a study need: its extractors, and the judge where there is one."""
    probes: dict[str, Probe] = {name: plugins.load("features", name).build() for name in params.score.extractors}
    if judge is not None:
        probes[JUDGE] = JudgeProbe(f"judge-{files.tree_sha256(paths.judge(params.study))[:16]}", judge)
    return View(probes, params.score, params.seed, device)


def score_set(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """All scores of one synthetic set, in the order of `score.metrics`."""
    _check(real, synthetic)
    return [score for metric in _metrics(view) for score in metric.score(real, synthetic, view)]


def image_rows(real: ImageSet, synthetic: ImageSet, view: View) -> list[dict[str, Any]]:
    """One row per synthetic image: id, source_id, copy, the metrics' own columns, and the nearest training image.

    Nearest by cosine distance of the first extractor's features: small distances to other masks' images hint at copies.
    """
    columns: dict[str, list[Any]] = {key: [row[key] for row in synthetic] for key in ("id", "source_id", "copy")}
    for metric in _metrics(view):
        own: Callable[..., dict[str, list[Any]]] | None = getattr(metric, "per_image", None)
        columns |= own(real, synthetic, view) if own else {}
    if view.settings.extractors:
        train, extractor = real.split("train"), view.settings.extractors[0]
        index, distance = nearest(view.features(synthetic, extractor), view.features(train, extractor))
        columns["nearest"] = [train.rows[k]["id"] for k in index]
        columns["nearest_distance"] = [round(float(value), 6) for value in distance]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def publish_scores(folder: Path, scores: list[Score], images: list[dict[str, Any]]) -> None:
    """Writes images.csv, scores.json (all about each score) and, last, metrics.json (the values alone)."""
    tracking.write_table(folder / "images.csv", images)
    files.write_json(folder / "scores.json", [score.record() for score in scores])
    tracking.write_metrics(folder / "metrics.json", nested(scores))


def _metrics(view: View) -> list[ModuleType]:
    return [plugins.load("quality", name) for name in view.settings.metrics]


def _check(real: ImageSet, synthetic: ImageSet) -> None:
    if synthetic.spec != real.spec:
        raise UserError(f"{synthetic.folder} holds {synthetic.spec}, {real.folder} {real.spec}; run generate again")
    for name, images in (("train", real.split("train")), ("test", real.split("test")), ("synthetic", synthetic)):
        if not len(images):
            raise UserError(f"there is no {name} image to score with; {images.folder} holds none")
