"""Checks of weights: the base, feature extractors, segmenters and conditionings, without downloading anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.cli.doctor.findings import Finding, error, errors, note, warning
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.networks import pretrained
from pipeline.stages.base import base_source
from pipeline.study import Params

GUIDE = "see docs/weights.md"


def findings(params: Params) -> Iterator[Finding]:
    """What is missing, and what is not the file it should be."""
    if params.base is not None:
        yield from base(params)
    if params.generators:
        yield from extractors(params)
    yield from segmenters(params)
    yield from conditionings(params)


def base(params: Params) -> Iterator[Finding]:
    """The base's source is here, or can be downloaded."""
    try:
        kind = base_source.kind_of(params.base.source)
        if kind == "folder":
            base_source.in_folder(params.base)
        elif kind == "file":
            base_source.single_file(params.base.source)
        elif kind == "hub" and (lacks := base_source.lacking(params.base)):
            found = f"base.source: {params.base.source} is not in the hub's cache: {lacks}"
            yield _missing("base_weights", found, f"hf download {params.base.source}")
    except UserError as fault:
        yield from errors("base_weights", str(fault), "see docs/base_models.md")


def extractors(params: Params) -> Iterator[Finding]:
    """Files of score.extractors and audit.extractors."""
    for name in dict.fromkeys([*params.score.extractors, *params.audit.extractors]):
        published: pretrained.Weights | None = plugins.load("features", name).WEIGHTS
        if published is None:
            continue
        try:
            there = pretrained.present(name, published, params.score.weights)
        except UserError as fault:
            yield from errors("extractor_weights", str(fault), GUIDE)
            continue
        if there is None:
            advice = f"make weights, or put it at {published.place.as_posix()}"
            yield _missing("extractor_weights", f"{name}: {published.file} is not here", advice)


def segmenters(params: Params) -> Iterator[Finding]:
    """Files that entries of segmenters name; what comes from the hub is told."""
    for name, entry in params.segmenters.items():
        own = plugins.read_params("segmenters", entry.method or name, entry.own, f"segmenters.{name}")
        chosen: Any = getattr(own, "weights", None)
        if isinstance(chosen, Path) and not chosen.is_file():
            found = f"segmenters.{name}.weights: there is no file {chosen}"
            yield error("segmenter_weights", found, "put it there, or set weights to hub or none")
        elif chosen == "hub" and pretrained.offline():
            found = f"segmenters.{name}.weights is hub, and HF_HUB_OFFLINE is set"
            yield warning("segmenter_weights", found, "start once with a network to fill the cache, or name a file")
        elif chosen == "hub":
            yield note("segmenter_weights", f"segmenters.{name}.weights: the hub's cache or a download", "nothing")


def conditionings(params: Params) -> Iterator[Finding]:
    """Files of conditionings that are networks themselves."""
    for name, entry in params.generators.items():
        chosen = entry.own.get("conditioning")
        if chosen not in plugins.names("conditioning"):
            continue
        published: pretrained.Weights | None = getattr(plugins.load("conditioning", str(chosen)), "WEIGHTS", None)
        if published is None:
            continue
        where = f"generators.{name}.conditioning"
        try:
            yield from _conditioning(where, str(chosen), published, entry.own.get("conditioning_params") or {})
        except UserError as fault:
            yield from errors("conditioning_weights", str(fault), GUIDE)


def _conditioning(where: str, name: str, published: pretrained.Weights, own: dict[str, Any]) -> Iterator[Finding]:
    if (named := own.get("file")) is None:
        there = pretrained.present(name, published, {})
    else:
        path = Path(str(named))
        there = pretrained.checked(path, own.get("sha256") or published.sha256) if path.is_file() else None
    if there is None:
        advice = f"put {published.file} from {published.source} at {named or published.place.as_posix()}"
        yield _missing("conditioning_weights", f"{where}: {published.file} of {name} is not here", advice)


def _missing(check: str, found: str, advice: str) -> Finding:
    if pretrained.offline():
        return warning(check, f"{found}, and HF_HUB_OFFLINE is set, so that nothing is downloaded", advice)
    return warning(check, found, f"{advice}; where there is a network, the stage that needs it fetches it")
