"""twinsynth jobs: the jobs of the last twinsynth submit, with their states and logs."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.core.errors import UserError

if TYPE_CHECKING:
    from pipeline.cli.slurm.states import JobState


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "jobs",
        "show the jobs of the last twinsynth submit with their states, time left and logs, or cancel them",
        "twinsynth jobs",
        "twinsynth jobs --cancel",
    )
    parser.add_argument("--cancel", action="store_true", help="cancel the jobs that run or wait")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show or cancel the jobs; the status is 1 if one has failed. Raises UserError if there are none."""
    from pipeline.cli.slurm import scheduler, states, submission, submit

    scheduler.check_available()
    submitted = submission.read()
    if submitted is None:
        raise UserError(f"no jobs were submitted from this folder; run {submission.SUBMIT}")
    if arguments.cancel:
        active = submit.active_jobs(submitted)
        scheduler.cancel(active.values())
        tell(f"cancelled: {', '.join(active) or 'none; no job runs or waits'}")
        return 0
    rows = states.job_states(submitted, scheduler.queue())
    if arguments.json:
        tell_json([asdict(row) for row in rows])
    else:
        _show(rows)
    return int(any(row.state in states.FAILED for row in rows))


def _show(rows: "Sequence[JobState]") -> None:
    """Print a table, and below it why jobs have failed."""
    table = [("stage", "job", "state", "left or start", "log")]
    table += [(row.stage, row.job, row.state, _time(row), row.log.as_posix()) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        tell("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row.note:
            tries = f" (failed attempts: {row.attempts})" if row.attempts else ""
            tell(f"{row.stage}: {row.note}{tries}")
    if not rows:
        tell("none was accepted by SLURM")


def _time(row: "JobState") -> str:
    if row.seconds_left is None:
        return row.start or "-"
    minutes, seconds = divmod(row.seconds_left, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
