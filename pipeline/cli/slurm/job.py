"""What a job runs: `python -m pipeline.cli.slurm.job STAGE` makes one stage, `... commit` writes dvc.lock at the end.

Jobs of several machines run at once, and DVC's own table of running commands (.dvc/tmp/rwlock) knows processes of one
machine only. So a job does not run `dvc repro STAGE`, but what it would: skip a stage that is up to date, remove its
outputs, run its command. The hashes of its inputs and outputs are recorded, and the last job commits them.
"""

import os
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

from pipeline.cli.slurm import graph, results, scheduler, submission
from pipeline.cli.slurm.resources import COMMIT
from pipeline.cli.slurm.submission import End, Submission
from pipeline.core.errors import UserError

WRONG = 2  # exit status of a mistake of the user's, which another attempt would only repeat
WAIT = 300.0  # seconds within which SLURM ends a job that it puts back into the queue
TIME_LIMIT = signal.SIGUSR1  # what the job's script asks SLURM to send before the time limit


class TimeLimitError(Exception):
    """The job is about to reach its time limit."""


def main(name: str) -> int:
    """Run one job and return its exit status. A failed one goes back into the queue while it has attempts left."""
    submitted = submission.read()
    if submitted is None:
        return _refuse(f"there is no {submission.FILE}; run {submission.SUBMIT} again")
    signal.signal(TIME_LIMIT, _on_time_limit)
    try:
        submission.check_unchanged(submitted)
        status = commit(submitted) if name == COMMIT else run_stage(name)
        return 0 if status == 0 else _failed(name, submitted, f"exit status {status}", status)
    except UserError as error:
        return _failed(name, submitted, str(error), WRONG)
    except TimeLimitError:
        return _failed(name, submitted, "the time limit was reached", 1)


def run_stage(name: str) -> int:
    """Make a stage unless it is up to date, record it, and return the exit status of its command."""
    with graph.repository() as repo:
        [stage] = graph.find(repo, [name])
        inputs = graph.input_hashes(stage)
        if absent := [path for path, value in inputs.items() if value is None]:
            raise UserError(f"{name} depends on {absent[0]}, which does not exist; run {submission.SUBMIT} again")
        if not graph.is_outdated(stage):
            _tell(f"{name} is up to date")
            submission.write_end(name, End("unchanged"))
            return 0
        graph.remove_outputs(stage)
        _tell(f"{name}: {stage.cmd}")
        status = subprocess.call(stage.cmd, shell=True)
        if status:
            return status
        _record(name, stage, inputs)
    return 0


def _record(name: str, stage: Any, inputs: dict[str, str | None]) -> None:
    """Record a finished stage. Raises UserError where an input changed meanwhile, or an output is missing."""
    if changed := graph.differences(inputs, graph.input_hashes(stage)):
        raise UserError(f"{', '.join(changed)} changed while {name} ran; run {submission.SUBMIT} again")
    outputs = graph.output_hashes(stage)
    signal.signal(TIME_LIMIT, signal.SIG_IGN)  # the stage is done, so there is nothing to try again
    if absent := [path for path, value in outputs.items() if value is None]:
        raise UserError(f"{name} ended without an error but did not write {absent[0]}")
    submission.write_end(name, End("done", _failures(name), inputs=inputs, outputs=outputs))


def _failures(name: str) -> int:
    """Return how many attempts of a job have failed so far."""
    before = submission.read_end(name)
    return before.attempts if before else 0


def commit(submitted: Submission) -> int:
    """Write what the jobs made into dvc.lock and let `dvc repro` confirm it. Raises UserError where a stage is left."""
    changed = results.commit_finished(submitted.jobs)
    if left := results.outdated_stages():
        causes = sorted({path for paths in changed.values() for path in paths})
        because = f", because {', '.join(causes)} changed after their jobs" if causes else ""
        raise UserError(f"{', '.join(left)} must run again{because}; run {submission.SUBMIT} again")
    _tell(graph.reproduce().rstrip())
    submission.write_end(COMMIT, End("done"))
    return 0


def _failed(name: str, submitted: Submission, reason: str, status: int) -> int:
    """Record a failure, and put the job back into the queue if another attempt may help and one is left."""
    signal.signal(TIME_LIMIT, signal.SIG_IGN)  # what follows is the same when the time limit is near
    attempts = 1 + _failures(name)
    submission.write_end(name, End("failed", attempts, reason))
    _tell(f"error: {name}: {reason} (attempt {attempts} of {submitted.attempts})", sys.stderr)
    job = os.environ.get("SLURM_JOB_ID")
    if status == WRONG or job is None or attempts >= submitted.attempts:
        return abs(status)
    refusal = scheduler.requeue(job)
    if refusal is None:
        _wait_for_end()
    _tell(f"error: SLURM does not put the job back into the queue: {refusal}", sys.stderr)
    return abs(status)


def _wait_for_end() -> NoReturn:
    time.sleep(WAIT)
    raise SystemExit(1)


def _on_time_limit(*_: object) -> NoReturn:
    raise TimeLimitError


def _refuse(message: str) -> int:
    _tell(f"error: {message}", sys.stderr)
    return WRONG


def _tell(text: str, stream: Any = sys.stdout) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
