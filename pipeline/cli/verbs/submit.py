"""twinsynth submit: the stages of the study that are not up to date, as SLURM jobs that wait for each other."""

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.cli.slurm.planning import Job
    from pipeline.cli.slurm.submission import Submission


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "submit",
        "submit the stages that are not up to date as SLURM jobs, one per stage, that wait for each other",
        "twinsynth submit --dry-run",
        "twinsynth submit --resources gpu8",
    )
    parser.add_argument(
        "--resources", default="gpu1", metavar="NAME", help="a file of configs/slurm, without .yaml; default: gpu1"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the jobs, the jobs that each of them waits for, and the scripts, but submit nothing; works without"
        " SLURM",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Submit the study in params.yaml. Raises UserError."""
    from pipeline.core import locks

    if arguments.dry_run:
        jobs = _plan(arguments.resources)
        _show(arguments, jobs, None)
        return 0
    with locks.exclusive("submit"):
        return _submit(arguments)


def _plan(resources: str) -> "list[Job]":
    from pipeline.cli.slurm import planning
    from pipeline.study import load_params

    return planning.read_plan(load_params().study, resources)


def _submit(arguments: argparse.Namespace) -> int:
    from pipeline.cli.slurm import results, scheduler, submission, submit
    from pipeline.cli.slurm.resources import load
    from pipeline.study import load_params

    scheduler.check_available()
    study = load_params().study
    before = submission.read()
    if active := submit.active_jobs(before):
        names = ", ".join(f"{name} ({job})" for name, job in list(active.items())[:5])
        more = f" and {len(active) - 5} more" if len(active) > 5 else ""
        raise UserError(
            f"jobs of the study {before.study if before else study} still run or wait: {names}{more}; wait for them"
            " (twinsynth jobs) or cancel them (twinsynth jobs --cancel)"
        )
    if before is not None:
        results.commit_finished(before.jobs)
    jobs = _plan(arguments.resources)
    if jobs:
        attempts = load(arguments.resources, [job.name for job in jobs]).attempts
        empty = submission.Submission(study, attempts, submission.study_state())
        _show(arguments, jobs, submit.submit(jobs, empty))
    else:
        _show(arguments, jobs, None)
    return 0


def _show(arguments: argparse.Namespace, jobs: "list[Job]", submitted: "Submission | None") -> None:
    from pipeline.cli.slurm import planning

    if arguments.json:
        ids = submitted.jobs if submitted else {}
        tell_json(
            [{"stage": job.name, "job": ids.get(job.name), "after": job.after, "script": job.script} for job in jobs]
        )
        return
    if not jobs:
        tell("every stage is up to date; there is nothing to submit")
        return
    for line in planning.drawn(jobs):
        tell(line)
    if submitted is None:
        for job in jobs:
            tell(f"\n# {job.name}: {job.command}\n{job.script.rstrip()}")
    else:
        tell(f"{len(jobs)} jobs submitted; twinsynth jobs shows them")
