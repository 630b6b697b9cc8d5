"""All weights that a study needs before it can run without a network, and fetching those that are missing.

The base, encoders of segmenters, networks that find edges for hints, and feature extractors.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.cli.counts import dataset_spec
from pipeline.cli.extractor_weights import WeightsState, state_of
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.networks.pretrained import HUB, Weights
from pipeline.networks.stable_diffusion import families
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.base import base_source
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.study import Params

STATED = "see the page of the repository"  # licence
ENCODER_FILES = ("model.safetensors", "pytorch_model.bin")  # names under which libraries publish an encoder


def study_states(params: Params, fetch: bool = True) -> Iterator[WeightsState]:
    """Yield the state of one file, or repository, after the other; `fetch` downloads what is missing."""
    if params.base is not None and params.base.source != "scratch":
        yield base_state(params.base, fetch)
    spec = dataset_spec(params.study, params.data)
    for name, segmenter in params.segmenters.items():
        yield from _encoder(name, segmenter, spec, fetch)
    for name, entry in params.generators.items():
        yield from _conditioning(name, entry, fetch)
    if params.generators:
        for name in dict.fromkeys([*params.score.extractors, *params.audit.extractors]):
            yield state_of(name, plugins.load("features", name).WEIGHTS, params.score.weights, fetch)


def base_state(base: Base, fetch: bool) -> WeightsState:
    """Return whether a base is here: a folder, a file, or the cached files of a repository."""
    what = f"base.source {base.source}"
    try:
        kind = base_source.kind_of(base.source)
        if kind == "hub":
            return _hub_state(what, base, fetch)
        if kind == "folder":
            base_source.in_folder(base)
        else:
            base_source.single_file(base.source)
    except UserError as fault:
        return WeightsState(what, "missing", str(fault))
    return WeightsState(what, "present", "it is here")


def _hub_state(what: str, base: Base, fetch: bool) -> WeightsState:
    """Return the state of a base on the hub. Raises UserError where it can be neither found nor fetched."""
    size = float(sum(families.SIZES[families.published(base.source).family].values()))
    repository = base_source.repository(base.source)
    about = Weights("its weights", f"{HUB}{repository}", None, STATED, size=size)
    missing = base_source.missing_files(base)
    if missing is None:
        return WeightsState(what, "present", "in the hub's cache", about)
    if not fetch:
        return WeightsState(what, "missing", f"{missing}; hf download {repository}", about)
    base_source.on_hub(base)
    return WeightsState(what, "fetched", "into the hub's cache", about)


def _encoder(name: str, entry: SegmenterEntry, spec: DatasetSpec, fetch: bool) -> Iterator[WeightsState]:
    """Yield the initial weights of a segmenter's encoder where params.yaml names a file or the hub."""
    method, what = entry.method_of(name), f"segmenters.{name}.weights"
    options: Any = plugins.read_params("segmenters", method, entry.options, f"segmenters.{name}")
    weights = getattr(options, "weights", "none")
    if isinstance(weights, Path):
        yield _own_file(what, weights)
    elif weights == "hub":
        module = plugins.load("segmenters", method)
        repository = module.hub_repository(options)
        about = Weights("its encoder", f"{HUB}{repository}", None, STATED)
        if _is_cached(repository):
            yield WeightsState(what, "present", "in the hub's cache", about)
        elif fetch:
            yield _built(module, options, spec, WeightsState(what, "fetched", "into the hub's cache", about))
        else:
            yield WeightsState(what, "missing", f"hf download {repository}", about)


def _built(module: Any, options: Any, spec: DatasetSpec, fetched: WeightsState) -> WeightsState:
    """Build a segmenter, so that its library downloads exactly what it will look for."""
    try:
        module.build(options, spec)
    except UserError as fault:
        return WeightsState(fetched.extractor, "missing", str(fault), fetched.published)
    return fetched


def _is_cached(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):  # an architecture without a repository
        return any(isinstance(try_to_load_from_cache(repository, file), str) for file in ENCODER_FILES)
    return False


def _conditioning(name: str, entry: GeneratorEntry, fetch: bool) -> Iterator[WeightsState]:
    """Yield the weights of a generator's conditioning where it is a network."""
    conditioning = str(entry.options.get("conditioning", "mask"))
    published: Weights | None = getattr(plugins.load("conditioning", conditioning), "WEIGHTS", None)
    own = (entry.options.get("conditioning_params") or {}).get("file")
    if own is not None:
        yield _own_file(f"generators.{name}.conditioning_params.file", Path(str(own)))
    elif published is not None:
        yield state_of(conditioning, published, {}, fetch)


def _own_file(what: str, path: Path) -> WeightsState:
    if path.is_file():
        return WeightsState(f"{what} {path}", "present", "it is here")
    return WeightsState(f"{what} {path}", "missing", "put the file there")
