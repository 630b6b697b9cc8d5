"""The jobs of a submission: which stages need one, on which jobs each waits, and the script of each."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.slurm import graph, resources, submission
from pipeline.cli.slurm.graph import Node
from pipeline.cli.slurm.resources import COMMIT, Resources

GRACE = 120  # seconds before the time limit at which SLURM sends a job its warning signal
MODULE = "pipeline.cli.slurm.job"


@dataclass(frozen=True)
class Job:
    """A job to be submitted."""

    name: str  # of its stage, or COMMIT
    after: tuple[str, ...]  # the names of the jobs that it waits for
    command: str  # of its stage
    script: str


def plan(nodes: Sequence[Node], study: str, wanted: Resources) -> list[Job]:
    """Return a job for every outdated stage, each behind those it waits for, and one that commits; none if all is done.

    A stage that only follows an outdated one has a job too. That job ends at once if its inputs turn out unchanged.
    """
    outdated = [node for node in nodes if node.outdated]
    names = {node.name for node in outdated}
    after = nearest({node.name: tuple(before for before in node.after if before in names) for node in outdated})
    jobs = [Job(n.name, after[n.name], n.command, script(n.name, study, wanted)) for n in outdated]
    if not jobs:
        return []
    followed = {before for several in after.values() for before in several}
    last = tuple(name for name in after if name not in followed)
    return [*jobs, Job(COMMIT, last, "dvc commit, dvc repro", script(COMMIT, study, wanted))]


def nearest(after: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return what each stage follows without what these follow themselves; stages stand behind those they follow."""
    all_before: dict[str, set[str]] = {}
    for name, before in after.items():
        all_before[name] = set(before).union(*(all_before[one] for one in before))
    return {
        name: tuple(one for one in before if not any(one in all_before[other] for other in before))
        for name, before in after.items()
    }


def script(name: str, study: str, wanted: Resources) -> str:
    """Return the script of one job."""
    own = {
        "job-name": f"{study}:{name}",
        "output": submission.log(name).as_posix(),
        "open-mode": "append",
        "requeue": True,
        "kill-on-invalid-dep": "yes",
        "signal": f"B:USR1@{GRACE}",
    }
    binaries = shlex.quote(Path(sys.executable).parent.as_posix())
    lines = [
        "#!/bin/bash",  # clusters export the function `module` to bash, and other shells do not import functions
        *resources.lines(own | wanted.options(name)),
        "set -e",  # without -u, under which scripts such as those of conda and modules fail
        *wanted.setup.splitlines(),
        f'export PATH={binaries}:"$PATH"',
        f"exec python -m {MODULE} {shlex.quote(name)}",
    ]
    return "\n".join(lines) + "\n"


def drawn(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line per job: its name, and the jobs that it waits for."""
    width = max(len(job.name) for job in jobs)
    for job in jobs:
        yield f"{job.name:<{width}}  after {', '.join(job.after)}" if job.after else job.name


def read_plan(study: str, name: str) -> list[Job]:
    """Return the jobs of the study in params.yaml under a file of configs/slurm. Raises UserError."""
    with graph.repository() as repo:
        nodes = graph.read_graph(repo)
    return plan(nodes, study, resources.load(name, [node.name for node in nodes]))
