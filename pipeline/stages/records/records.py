"""Records of code: for every stage and every entry of params.yaml, the hash of each source file behind it.

A stage of dvc.yaml depends on its record and on those of its entry, not on folders or lists of modules. So an edit
re-runs the stages that import the edited file, a new plug-in re-runs nothing, and `git diff` or `twinsynth study why`
can name the file.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pipeline
from pipeline.core import files, paths, plugins
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.judge.params import Judge
from pipeline.stages.pseudo_labels.params import PseudoLabels
from pipeline.study import Params

ROOT = Path(pipeline.__path__[0])
STAGES = Path("stages")  # scripts, in the folder of dvc.yaml
DECLARED = "DATA_FILES"  # the constant in which a module lists the files beside it that it reads
# Reading, writing, checking and logging: these change no number, and everything imports them.
NOT_FOLLOWED = {
    f"pipeline.{name}"
    for name in (
        *("core.errors", "core.files", "core.gpus", "core.locks", "core.paths", "core.plugins", "core.progress"),
        *("core.tables", "stages.command", "stages.hardware", "stages.prepare.validation", "stages.records"),
        *("stages.records.records", "study"),
    )
}


def write_records(params: Params) -> None:
    """Publish one record per stage and per entry, and the names of the generators in the folders of paths.entries."""
    records = dict(all_records(params))
    work = paths.work("records", files.fingerprint(records))
    for name, record in records.items():
        files.write_json(work / f"{name}.json", record)
    files.publish(work, paths.records(params.study))
    for path in paths.entries(params.study):
        files.write_json(path, list(params.generators))


def all_records(params: Params) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the content of every record of a study."""
    yield from stage_records()
    yield from _entry_records(params)


def stage_records() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the record of every stage but this one; DVC watches all code for this one."""
    for script in sorted(STAGES.glob("*.py")):
        if script.stem != "records":
            yield f"stages/{script.stem}", code(script)


def _entry_records(params: Params) -> Iterator[tuple[str, Any]]:
    yield "reader", _record("readers", [params.data.reader])
    for name, entry in params.generators.items():
        hint = _record("conditioning", [str(entry.options.get("conditioning", "mask"))])
        watched = plugins.watched_files("generators", entry.method_of(name), entry.options, f"generators.{name}")
        yield f"generators/{name}", _record("generators", [entry.method_of(name)]) | hint | watched
        watched = plugins.watched_files("masks", entry.masks, entry.mask_params, f"generators.{name}.mask_params")
        yield f"masks/{name}", _record("masks", [entry.masks]) | watched
    for name, segmenter in params.segmenters.items():
        yield f"segmenters/{name}", _record("segmenters", [segmenter.method_of(name)])
    yield "judge", _of_segmenter(params.segmenters, params.judge)
    yield "pseudo_labels", _of_segmenter(params.segmenters, params.pseudo_labels)
    yield "confirm", _confirm(params)
    if params.generators:
        yield "score", _record("image_metrics", params.score.metrics) | _record("features", params.score.extractors)
        masks = {entry.masks for entry in params.generators.values()}  # the audit moves images as they move masks
        features = params.audit.candidate_extractors(params.score.extractors)
        yield "audit", _record("features", features) | _record("masks", sorted(masks))


def _of_segmenter(segmenters: Mapping[str, SegmenterEntry], section: Judge | PseudoLabels | None) -> dict[str, Any]:
    """Return the entry of `segmenters` that a section names, and its code; nothing where there is no such section."""
    if section is None:
        return {}
    entry = segmenters[section.segmenter]
    return {"entry": entry.model_dump(mode="json"), **_record("segmenters", [entry.method_of(section.segmenter)])}


def _confirm(params: Params) -> dict[str, Any]:
    """Return the code of all segmenters, since any may be confirmed, or nothing in a study without confirmation."""
    if params.confirm is None:
        return {}
    return _record("segmenters", [entry.method_of(name) for name, entry in params.segmenters.items()])


def _record(kind: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {f"{kind}/{name}": code(plugins.source(kind, name)) for name in names}


def code(file: Path) -> dict[str, str]:
    """Return the sha256 of a source file, of the modules it imports, directly or not, and of their data files.

    The keys are paths relative to the repository; modules of NOT_FOLLOWED are left out.
    """
    sources = {file, *(source for module in reachable(file) if (source := source_of(module)) is not None)}
    everything = sources | {data for source in sources for data in data_files(source)}
    return {_relative(path): files.sha256(path) for path in sorted(everything)}


def _relative(path: Path) -> str:
    return (path.relative_to(ROOT.parent) if path.is_absolute() else path).as_posix()


def reachable(file: Path) -> set[str]:
    """Return the modules of this package that a source file imports, directly or through others."""
    found: set[str] = set()
    waiting = _loaded(file)
    while waiting:
        module = waiting.pop()
        found.add(module)
        source = source_of(module)
        waiting |= (_loaded(source) if source else set()) - found
    return found


def _loaded(file: Path) -> set[str]:
    """Return what a file imports and the packages around it (their __init__ runs too), without NOT_FOLLOWED."""
    modules = (imports(file) | _sections_read(file)) - NOT_FOLLOWED
    packages = {".".join(parts[:n]) for parts in (m.split(".") for m in modules) for n in range(2, len(parts))}
    return modules | packages - NOT_FOLLOWED


def _sections_read(file: Path) -> set[str]:
    """Return the modules of the sections that a file takes from the whole study, which itself is not followed."""
    if "pipeline.study" not in imports(file):
        return set()
    attributes = [node for node in ast.walk(_parsed(file)) if isinstance(node, ast.Attribute)]
    names = {node.attr for node in attributes if ast.unparse(node.value).split(".")[-1] == "params"}
    return {module for name in names & Params.model_fields.keys() for module in section_modules(name)}


def section_modules(name: str) -> set[str]:
    """Return the modules of ours that define the type of one field of the study."""
    waiting, modules = [Params.model_fields[name].annotation], set()
    while waiting:
        annotation = waiting.pop()
        waiting += get_args(annotation)
        modules.add(getattr(annotation, "__module__", ""))
    return {module for module in modules if module.startswith("pipeline.")}


def imports(file: Path) -> set[str]:
    """Return the modules of this package that a source file names in import statements, wherever these stand."""
    named: set[str] = set()
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module for module in named if module.split(".")[0] == "pipeline" and source_of(module) is not None}


def data_files(file: Path) -> list[Path]:
    """Return the files beside a module that its constant DATA_FILES lists: templates, style sheets, tables."""
    for node in _parsed(file).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", None) for t in node.targets] == [DECLARED]:
            return [file.parent / name for name in ast.literal_eval(node.value)]
    return []


def _parsed(file: Path) -> ast.Module:
    return _parsed_text(file.read_text(encoding="utf-8"))


@cache
def _parsed_text(text: str) -> ast.Module:
    return ast.parse(text)


def source_of(module: str) -> Path | None:
    """Return the source file of a module or package of ours; None where there is none (a name inside a module)."""
    place = ROOT.parent.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
