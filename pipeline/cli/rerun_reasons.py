"""Why stages run again: what differs between dvc.lock and the working tree, by source file, parameter and input.

DVC itself is not asked; it knows a record of code only as one hash. Here the record that a stage last ran with is read
back, from the outputs or from DVC's cache, and compared with the code as it is now, file by file.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.cli.doctor.dvc_state import GRAPH, LOCK, differs
from pipeline.core import files, paths
from pipeline.core.section import read_yaml
from pipeline.stages.records.records import all_records
from pipeline.study import Params, load_params

PARAMS = Path("params.yaml")
CACHE = Path(".dvc/cache/files/md5")
FIRST = "records"  # the stage that writes the records; it watches all code and takes a second


@dataclass(frozen=True)
class Reason:
    """One difference that makes a stage run again."""

    stage: str  # as `dvc repro` takes it, for example finetune@siamese
    kind: str  # code, parameter, input, command, after (an earlier stage) or new (it has not run yet)
    name: str  # a source file, a dotted key, a path or a stage
    change: str = ""  # for example "changed", "added", "0.1 -> 0.2"

    def record(self) -> dict[str, str]:
        """Return the reason as a row of JSON."""
        return asdict(self)


def reasons() -> list[Reason]:
    """Return why each stage of the study in params.yaml would run again, in the order of dvc.yaml.

    Raises UserError where params.yaml, dvc.yaml or dvc.lock cannot be read.
    """
    params, values = load_params(PARAMS), read_yaml(PARAMS)
    graph = read_yaml(GRAPH)["stages"]
    locked: Mapping[str, Any] = (read_yaml(LOCK) or {}).get("stages", {}) if LOCK.is_file() else {}
    records = {(paths.records(params.study) / f"{name}.json").as_posix(): r for name, r in all_records(params)}
    rows: list[Reason] = []
    outdated: dict[str, str] = {}  # output -> the stage that makes it anew
    for stage in _stages(graph, values):
        of_stage = list(_of_stage(stage, locked.get(stage), records, values, outdated))
        if of_stage and stage != FIRST:
            rows += of_stage
            outdated |= {path: stage for path in _outputs(graph, stage, params)}
    return rows


def _stages(graph: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all stages; one with a matrix has a name per entry of the section that it names."""
    for name, stage in graph.items():
        matrix = stage.get("matrix")
        if not matrix:
            yield name
            continue
        section = str(next(iter(matrix.values()))).strip("${}")
        yield from (f"{name}@{entry}" for entry in values.get(section) or {})


def _of_stage(
    stage: str,
    lock: Mapping[str, Any] | None,
    records: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
    outdated: Mapping[str, str],
) -> Iterator[Reason]:
    if lock is None:
        yield Reason(stage, "new", stage, "has not run yet")
        return
    after = set()
    for dependency in lock.get("deps", ()):
        path = str(dependency["path"])
        if path in records:
            yield from (Reason(stage, "code", *change) for change in _code(path, dependency["md5"], records[path]))
        elif made_by := {by for out, by in outdated.items() if Path(out).is_relative_to(path) or path == out}:
            after |= made_by
        elif path != f"stages/{stage.partition('@')[0]}.py" and _input_differs(dependency):
            yield Reason(stage, "input", path, "changed" if Path(path).exists() else "missing")
    for key, old in lock.get("params", {}).get(str(PARAMS), {}).items():
        yield from (Reason(stage, "parameter", *change) for change in _changes(key, old, _value(values, key)))
    yield from (Reason(stage, "input", str(o["path"]), "missing") for o in lock.get("outs", ()) if _is_missing(o))
    yield from (Reason(stage, "after", name) for name in sorted(after))


def _code(path: str, md5: str, now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the source files, and how each has changed, since the record with this MD5 was written."""
    text = (json.dumps(now, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    if hashlib.md5(text, usedforsecurity=False).hexdigest() == md5:
        return
    kept = next((file for file in (Path(path), CACHE / md5[:2] / md5[2:]) if _has(file, md5)), None)
    if kept is None:
        yield path, "changed; the earlier record is not in DVC's cache, so the files cannot be named"
        return
    before, after = _hashes(files.read_json(kept)), _hashes(now)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield name, "added" if name not in before else "removed" if name not in after else "changed"


def _has(file: Path, md5: str) -> bool:
    return file.is_file() and hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() == md5


def _hashes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record flat: the hash of every source file, and what else the record of an entry holds."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= value if isinstance(value, Mapping) and name != "entry" else {name: value}
    return flat


def _input_differs(dependency: Mapping[str, Any]) -> bool:
    return not Path(dependency["path"]).exists() or differs(dependency)


def _is_missing(output: Mapping[str, Any]) -> bool:
    return not Path(output["path"]).exists()


def _changes(key: str, old: Any, new: Any) -> Iterator[tuple[str, str]]:
    """Yield the dotted keys below `key` whose values differ, and both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _changes(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield key, f"{_brief(old)} -> {_brief(new)}"


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _brief(value: Any, length: int = 40) -> str:
    text = "none" if value is None else re.sub(r"\s+", " ", json.dumps(value, default=str))
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _outputs(graph: Mapping[str, Any], stage: str, params: Params) -> Iterator[str]:
    """Yield the paths of a stage's outputs, with the study's and the entry's names in place of the templates."""
    name, _, entry = stage.partition("@")
    for kind in ("outs", "metrics", "plots"):
        for out in graph[name].get(kind, ()):
            path = next(iter(out)) if isinstance(out, Mapping) else out
            yield re.sub(r"\$\{item\.\w\}", entry, str(path).replace("${study}", params.study))
