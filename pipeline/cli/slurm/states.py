"""The states of the submitted jobs: from SLURM's queue, from what the jobs recorded, and from their logs."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.slurm import submission
from pipeline.cli.slurm.scheduler import QueuedJob
from pipeline.cli.slurm.submission import End, Submission

LEFT = re.compile(r"\| (\d+) s left")  # in lines of progress
TAIL = 16_384  # bytes of a log in which the last line of progress is looked for
FAILED = ("failed", "blocked")


@dataclass(frozen=True)
class JobState:
    """One job, as twinsynth jobs shows it."""

    stage: str
    job: str
    state: str  # done, unchanged, running, waiting, pending, blocked or failed
    attempts: int  # starts that failed
    seconds_left: int | None  # of the step that a running stage is at, as its log says
    start: str | None  # when SLURM expects to start a pending job
    note: str  # why it failed or waits
    log: Path


def job_states(submitted: Submission, queued: Mapping[str, QueuedJob]) -> list[JobState]:
    """Return the state of every job of a submission."""
    return [
        _state(name, job, queued.get(job), submission.read_end(name), submission.log(name))
        for name, job in submitted.jobs.items()
    ]


def _state(name: str, job: str, queued: QueuedJob | None, end: End | None, log: Path) -> JobState:
    state, note = _word(queued, end)
    left = seconds_left(log) if state == "running" else None
    start = queued.start if queued and state == "pending" else None
    return JobState(name, job, state, end.attempts if end else 0, left, start, note, log)


def _word(queued: QueuedJob | None, end: End | None) -> tuple[str, str]:
    """Return the state of a job, and the reason for it."""
    if end and end.result != "failed":
        return end.result, ""
    reason = end.reason if end else ""
    if queued is None or not queued.active:
        ended = f"SLURM ended it: {queued.state}" if queued else "it ended without a record; see its log"
        return "failed", reason or ended
    if queued.state == "PENDING":
        return _waiting(queued.reason, reason)
    return "running", reason and f"the attempt before failed: {reason}"


def _waiting(why: str, failure: str) -> tuple[str, str]:
    """Return the state of a pending job, and the reason for it: that of the failed attempt before, if there was one."""
    if why == "DependencyNeverSatisfied":
        return "blocked", "a job before it failed"
    if why == "Dependency":
        return "waiting", ""
    return "pending", failure or why


def seconds_left(log: Path, now: float | None = None) -> int | None:
    """Return the seconds left by the last line of progress of a log, less the time since.

    None if there is no such line, or if that time is over.
    """
    if not log.is_file():
        return None
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        found = LEFT.findall(file.read().decode(errors="replace"))
    age = (time.time() if now is None else now) - log.stat().st_mtime
    left = round(int(found[-1]) - age) if found else 0
    return left if left > 0 else None
