"""Checks of weights: the base, feature extractors, segmenters and conditionings, without downloading anything."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.cli.doctor.findings import Finding, error, errors, note, warning
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.networks import pretrained
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.audit.params import OFFLINE
from pipeline.stages.base import base_source
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.score.params import WeightFile

GUIDE = "see docs/weights.md"


def base(section: Base) -> Iterator[Finding]:
    """Check that the base's source is on this machine or can be downloaded."""
    try:
        kind = base_source.kind_of(section.source)
        if kind == "folder":
            base_source.in_folder(section)
        elif kind == "file":
            base_source.single_file(section.source)
        elif kind == "hub" and (missing := base_source.missing_files(section)):
            found = f"base.source: {section.source} is not in the hub's cache: {missing}"
            yield _missing("base_weights", found, f"hf download {section.source}")
    except UserError as fault:
        yield from errors("base_weights", str(fault), "see docs/base_models.md")


def extractors(names: Iterable[str], overrides: Mapping[str, WeightFile]) -> Iterator[Finding]:
    """Check the files of feature extractors; `overrides` is score.weights."""
    for name in names:
        if name in OFFLINE:
            continue
        published: pretrained.Weights | None = plugins.load("features", name).WEIGHTS
        if published is None:
            continue
        try:
            file = pretrained.present(name, published, overrides)
        except UserError as fault:
            yield from errors("extractor_weights", str(fault), GUIDE)
            continue
        if file is None:
            advice = f"make weights, or put it at {published.place.as_posix()}"
            yield _missing("extractor_weights", f"{name}: {published.file} is not here", advice)


def segmenters(entries: Mapping[str, SegmenterEntry]) -> Iterator[Finding]:
    """Check the files that entries of segmenters name; weights from the hub are noted."""
    for name, entry in entries.items():
        params = plugins.read_params("segmenters", entry.method_of(name), entry.options, f"segmenters.{name}")
        weights: Any = getattr(params, "weights", None)
        if isinstance(weights, Path) and not weights.is_file():
            found = f"segmenters.{name}.weights: there is no file {weights}"
            yield error("segmenter_weights", found, "put it there, or set weights to hub or none")
        elif weights == "hub" and pretrained.offline():
            found = f"segmenters.{name}.weights is hub, and HF_HUB_OFFLINE is set"
            yield warning("segmenter_weights", found, "start once with a network to fill the cache, or name a file")
        elif weights == "hub":
            yield note("segmenter_weights", f"segmenters.{name}.weights: the hub's cache or a download", "nothing")


def conditionings(generators: Mapping[str, GeneratorEntry]) -> Iterator[Finding]:
    """Check the files of conditionings that are networks themselves."""
    for name, entry in generators.items():
        conditioning = entry.options.get("conditioning")
        if conditioning not in plugins.names("conditioning"):
            continue
        published: pretrained.Weights | None = getattr(plugins.load("conditioning", str(conditioning)), "WEIGHTS", None)
        if published is None:
            continue
        where = f"generators.{name}.conditioning"
        try:
            options = entry.options.get("conditioning_params") or {}
            yield from _conditioning(where, str(conditioning), published, options)
        except UserError as fault:
            yield from errors("conditioning_weights", str(fault), GUIDE)


def _conditioning(where: str, name: str, published: pretrained.Weights, params: dict[str, Any]) -> Iterator[Finding]:
    if (override := params.get("file")) is None:
        file = pretrained.present(name, published, {})
    else:
        path = Path(str(override))
        file = pretrained.checked(path, params.get("sha256") or published.sha256) if path.is_file() else None
    if file is None:
        advice = f"put {published.file} from {published.source} at {override or published.place.as_posix()}"
        yield _missing("conditioning_weights", f"{where}: {published.file} of {name} is not here", advice)


def _missing(check: str, found: str, advice: str) -> Finding:
    if pretrained.offline():
        return warning(check, f"{found}, and HF_HUB_OFFLINE is set, so that nothing is downloaded", advice)
    return warning(check, found, f"{advice}; where there is a network, the stage that needs it fetches it")
