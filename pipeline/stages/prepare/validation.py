"""Checks of params.yaml that need the plug-ins themselves; they run before any work starts."""

from collections.abc import Callable, Iterator, Mapping

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.section import MethodEntry, Section
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.prepare.control import check_control
from pipeline.study import Params


def check_plugins(params: Params) -> None:
    """Check the name and the parameters of every plug-in. Raises UserError with every fault by its dotted path."""
    faults = [fault for check in _checks(params) if (fault := _run(check)) is not None]
    if faults:
        raise UserError("\n  ".join(faults))


def _checks(params: Params) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield a dotted path and a function that raises UserError if its plug-in or the plug-in's parameters are wrong."""
    data = params.data
    screened = (f"training_sets.{name}.screen" for name, arm in params.training_sets.items() if arm.pixel_screen)
    unlabelled_pixels = next(screened, None) if data.ignore_label is None else "data.ignore_label"
    yield "data.reader", lambda: plugins.read_params("readers", data.reader, data.options, "data")
    for kind in ("generators", "segmenters"):
        for name, entry in getattr(params, kind).items():
            where, method = f"{kind}.{name}", entry.method_of(name)
            yield where, lambda k=kind, m=method, e=entry, w=where: plugins.read_params(k, m, e.options, w)
            if kind == "segmenters" and unlabelled_pixels:
                cause = unlabelled_pixels
                yield where, lambda m=method, e=entry, w=where, c=cause: _check_ignored_pixels(c, m, e, w)
    yield from _checks_of_masks(params.generators)
    for metric in params.score.metrics:
        yield "score.metrics", lambda name=metric: plugins.source("image_metrics", name)
    for extractor in params.score.extractors:
        yield "score.extractors", lambda name=extractor: plugins.source("features", name)
    for extractor in params.audit.extractors:
        yield "audit.extractors", lambda name=extractor: plugins.source("features", name)


def _checks_of_masks(generators: Mapping[str, GeneratorEntry]) -> Iterator[tuple[str, Callable[[], object]]]:
    for name, entry in generators.items():
        where = f"generators.{name}.mask_params"
        yield where, lambda e=entry, w=where: plugins.read_params("masks", e.masks, e.mask_params, w)
        if entry.method_of(name) in plugins.names("generators") and entry.masks in plugins.names("masks"):
            yield f"generators.{name}.control", lambda n=name, e=entry: check_control(n, e)


def _check_ignored_pixels(cause: str, method: str, entry: MethodEntry, where: str) -> None:
    """Raise UserError where a segmenter needs every label: the parameter `cause` leaves pixels without one."""
    if getattr(_params_of(method, entry, where), "needs_every_label", False):
        raise UserError(f"{method} needs the label of every pixel, and {cause} leaves some without; remove one of them")


def _params_of(method: str, entry: MethodEntry, where: str) -> Section | None:
    """Return the parameters of a segmenter; None where they are wrong, which another check says."""
    try:
        return plugins.read_params("segmenters", method, entry.options, where)
    except UserError:
        return None


def _run(check: tuple[str, Callable[[], object]]) -> str | None:
    path, action = check
    try:
        action()
    except UserError as error:
        text = str(error)
        return text if text.startswith("params.yaml") else f"params.yaml: {path}: {text}"
    return None
