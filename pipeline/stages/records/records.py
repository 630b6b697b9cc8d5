"""The code behind every entry of params.yaml: its plug-in's file and all modules of ours that it imports.

A stage of dvc.yaml depends on the record of its entry, not on a folder of plug-ins: so an entry may name another
method, and a new plug-in re-runs nothing that does not use it.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pipeline
from pipeline.core import files, paths, plugins
from pipeline.study import Params

ROOT = Path(pipeline.__path__[0])
# Reading, writing and telling: these change no number, and everything imports them.
PLUMBING = {
    f"pipeline.{name}"
    for name in (
        "core.errors",
        "core.files",
        "core.locks",
        "core.paths",
        "core.plugins",
        "core.tracking",
        "stages.command",
        "stages.prepare.validation",
        "stages.records",
        "stages.records.records",
    )
}


def write_methods(params: Params) -> None:
    """Publishes one record per entry (the plug-in's name and the hash of every file behind it) and paths.entries."""
    records = dict(_records(params))
    work = paths.work("methods", files.fingerprint(records))
    for name, record in records.items():
        files.write_json(work / f"{name}.json", record)
    files.publish(work, paths.methods(params.study))
    for path in paths.entries(params.study):
        files.write_json(path, list(params.generators))


def _records(params: Params) -> Iterator[tuple[str, Any]]:
    yield "reader", _record("readers", [params.data.reader])
    for name, entry in params.generators.items():
        hint = _record("conditioning", [str(entry.own.get("conditioning", "mask"))])
        yield f"generators/{name}", _record("generators", [entry.method or name]) | hint
        yield f"masks/{name}", _record("masks", [entry.masks])
    for name, segmenter in params.segmenters.items():
        yield f"segmenters/{name}", _record("segmenters", [segmenter.method or name])
    yield "judge", _judge(params)
    if params.generators:
        yield "score", _record("image_metrics", params.score.metrics) | _record("features", params.score.extractors)
        yield "audit", _record("features", params.audit_extractors)


def _judge(params: Params) -> dict[str, Any]:
    """The judge's entry of segmenters with its parameters; nothing where there is no judge."""
    if params.judge is None:
        return {}
    entry = params.segmenters[params.judge.segmenter]
    name = entry.method or params.judge.segmenter
    return {"entry": entry.model_dump(mode="json"), **_record("segmenters", [name])}


def _record(kind: str, names: Iterable[str]) -> dict[str, dict[str, str]]:
    return {f"{kind}/{name}": code(plugins.source(kind, name)) for name in names}


def code(file: Path) -> dict[str, str]:
    """The sha256 of a source file and of every module of ours that it imports, directly or not, without PLUMBING."""
    sources = {source for module in reachable(file) if (source := source_of(module)) is not None}
    return {path.relative_to(ROOT.parent).as_posix(): files.sha256(path) for path in {file, *sources}}


def reachable(file: Path) -> set[str]:
    """Modules of ours that a source file imports, directly or through others; PLUMBING is not followed."""
    found: set[str] = set()
    waiting = _loaded(file)
    while waiting:
        module = waiting.pop()
        found.add(module)
        source = source_of(module)
        waiting |= (_loaded(source) if source else set()) - found
    return found


def _loaded(file: Path) -> set[str]:
    """What a file imports, with the packages around it (their __init__ runs too), without PLUMBING."""
    modules = imports(file) - PLUMBING
    return modules | {module.rpartition(".")[0] for module in modules if module.count(".") > 1} - PLUMBING


def imports(file: Path) -> set[str]:
    """Modules of ours that a source file names in its import statements, wherever these stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {module for module in found if module.split(".")[0] == "pipeline" and source_of(module) is not None}


def source_of(module: str) -> Path | None:
    """The source file of a module or package of ours; None where there is none (a name inside a module)."""
    place = ROOT.parent.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
