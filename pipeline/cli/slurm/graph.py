"""The study's graph as DVC reads it from dvc.yaml, dvc.lock and params.yaml: stages, commands, states and hashes.

These functions take no lock of DVC and write nothing that DVC tracks, so the jobs of many machines may call them at
once. Only `commit` changes dvc.lock.
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from pipeline.core import files
from pipeline.core.errors import UserError

COMMAND = (sys.executable, "-m", "dvc")


@dataclass(frozen=True)
class Node:
    """A stage of the graph, such as finetune@siamese."""

    name: str
    command: str  # with the templates of dvc.yaml filled in
    after: tuple[str, ...]  # the stages whose outputs it reads
    outdated: bool  # whether dvc repro would run it, or may have to because a stage before it runs


@contextmanager
def repository() -> Iterator[Any]:
    """Yield DVC's repository of the current folder. Raises UserError with DVC's words where it refuses."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except DvcException as error:
        reason = " ".join(filter(None, (str(error), str(error.__cause__ or "")))).replace("\n", " ")
        raise UserError(f"DVC cannot read the study's graph: {reason}") from None


def read_graph(repo: Any) -> list[Node]:
    """Return the stages, each behind the stages that it depends on, otherwise in the order of dvc.yaml."""
    graph = {stage: [*repo.index.graph.successors(stage)] for stage in repo.index.stages}
    nodes: dict[str, Node] = {}
    for stage in _ordered(graph):
        after = tuple(sorted(before.addressing for before in graph[stage]))
        outdated = any(nodes[before].outdated for before in after) or is_outdated(stage)
        nodes[stage.addressing] = Node(stage.addressing, stage.cmd, after, outdated)
    return list(nodes.values())


def _ordered(graph: Mapping[Any, Sequence[Any]]) -> Iterator[Any]:
    position = {stage: number for number, stage in enumerate(graph)}
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda stage: position[stage])
        yield from ready
        sorter.done(*ready)


def is_outdated(stage: Any) -> bool:
    """Return whether a stage's command, parameters, dependencies or outputs differ from dvc.lock."""
    return bool(
        stage.changed_stage()
        or any(dependency.status() for dependency in stage.deps)
        or any(out.status() for out in stage.outs)
    )


def input_hashes(stage: Any) -> dict[str, str | None]:
    """Return a hash of every dependency and of the parameters of a stage; None for what does not exist."""
    return {str(dependency): _hash(dependency) for dependency in stage.deps}


def output_hashes(stage: Any) -> dict[str, str | None]:
    """Return a hash of every output of a stage; None for what does not exist."""
    return {str(out): _hash(out) for out in stage.outs}


def _hash(entry: Any) -> str | None:
    return files.fingerprint(entry.get_hash().value) if entry.exists else None


def differences(before: dict[str, str | None], now: dict[str, str | None]) -> list[str]:
    """Return the names whose hashes differ."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def remove_outputs(stage: Any) -> None:
    """Remove the outputs of a stage, as DVC does before it runs the stage's command."""
    for out in stage.outs:
        out.remove(ignore_remove=False)


def find(repo: Any, names: Iterable[str]) -> list[Any]:
    """Return the stages with these names. Raises UserError naming one that the graph does not have."""
    stages = {stage.addressing: stage for stage in repo.index.stages}
    wanted = list(names)
    if absent := [name for name in wanted if name not in stages]:
        raise UserError(f"dvc.yaml and params.yaml define no stage {absent[0]}; the study has changed since its submit")
    return [stages[name] for name in wanted]


def commit(names: Sequence[str]) -> None:
    """Write the present inputs and outputs of these stages into dvc.lock and DVC's cache; run nothing."""
    if names:
        _dvc("commit", "--force", *names)


def reproduce() -> str:
    """Run dvc repro and return what it says."""
    return _dvc("repro")


def _dvc(*arguments: str) -> str:
    """Run a command of DVC. Raises UserError with its last line where it fails."""
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.strip()] or [f"status {ended.returncode}"]
        raise UserError(f"dvc {arguments[0]} failed: {' '.join(lines[-3:])}")
    return ended.stdout + ended.stderr
