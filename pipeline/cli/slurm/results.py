"""From what jobs recorded to dvc.lock: the stages that they finished are committed, none is run."""

from collections.abc import Iterable

from pipeline.cli.slurm import graph, submission


def commit_finished(names: Iterable[str]) -> dict[str, list[str]]:
    """Commit the stages that jobs ran to their end and whose inputs and outputs are still those of that moment.

    Returns, for each finished stage that was not committed, the inputs and outputs that have changed since. Stages that
    the graph has no longer are passed over.
    """
    ended = {name: end for name in names if (end := submission.read_end(name)) is not None and end.result == "done"}
    with graph.repository() as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages if stage.addressing in ended}
        changed = {
            name: graph.differences(ended[name].inputs, graph.input_hashes(stage))
            + graph.differences(ended[name].outputs, graph.output_hashes(stage))
            for name, stage in stages.items()
        }
        unrecorded = [name for name in changed if not changed[name] and graph.is_outdated(stages[name])]
    graph.commit(unrecorded)
    return {name: what for name, what in changed.items() if what}


def outdated_stages() -> list[str]:
    """Return the stages that dvc repro would run, or may have to."""
    with graph.repository() as repo:
        return [node.name for node in graph.read_graph(repo) if node.outdated]
