"""Submission of a plan to SLURM: all jobs or none."""

from collections.abc import Sequence

from pipeline.cli.slurm import scheduler, submission
from pipeline.cli.slurm.planning import Job
from pipeline.cli.slurm.submission import Submission
from pipeline.core.errors import UserError


def active_jobs(submitted: Submission | None) -> dict[str, str]:
    """Return the jobs of a submission that run or may still run: their ids by name. Raises UserError without SLURM."""
    if submitted is None or not submitted.jobs:
        return {}
    queued = scheduler.queue()
    return {name: job for name, job in submitted.jobs.items() if job in queued and queued[job].active}


def submit(jobs: Sequence[Job], empty: Submission) -> Submission:
    """Submit the jobs of a plan and return the submission with their ids.

    Jobs that wait for no other are held until SLURM has accepted all, so that nothing starts if one is refused; then
    UserError is raised and the others are cancelled. Where not even that succeeds, they stay in the records, so that
    twinsynth jobs --cancel finds them.
    """
    submission.begin(empty, {job.name: job.script for job in jobs})
    made = empty
    try:
        for job in jobs:
            after = [made.jobs[name] for name in job.after]
            made = made.with_job(job.name, scheduler.submit(submission.script(job.name), after))
            made.write()  # so that jobs of a submission that is killed here can be found
        scheduler.release(made.jobs[job.name] for job in jobs if not job.after)
    except BaseException as error:
        try:
            scheduler.cancel(made.jobs.values())
        except UserError as failure:
            raise UserError(f"{error}; {failure}; run twinsynth jobs --cancel when SLURM answers again") from error
        empty.write()
        raise
    return made
