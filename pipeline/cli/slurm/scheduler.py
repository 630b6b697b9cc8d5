"""The commands of SLURM that are used here: sbatch, scontrol, scancel, squeue and sinfo."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError

JOB_ID = re.compile(r"^(\d+)(?:;\S+)?$", re.MULTILINE)  # of sbatch --parsable; a cluster may follow the id
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "REVOKED",
    "TIMEOUT",
)


@dataclass(frozen=True)
class QueuedJob:
    """A job as squeue lists it."""

    state: str  # RUNNING, PENDING, ...
    reason: str  # why a pending job waits: Dependency, Resources, ...
    start: str | None  # when it started or is expected to; None where SLURM does not know

    @property
    def active(self) -> bool:
        """Whether the job runs or may still run."""
        return self.state.partition(" ")[0] not in ENDED


def check_available() -> None:
    """Raise UserError where a command of SLURM is missing."""
    absent = [name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None]
    if absent:
        raise UserError(
            f"there is no {absent[0]} on PATH; run this on a machine with SLURM's commands, such as a login node"
            " (twinsynth submit --dry-run needs none of them)"
        )


def submit(script: Path, after: Sequence[str]) -> str:
    """Submit a script that starts once all jobs `after` have succeeded; without any, it is held until `release`.

    Returns the job's id. Raises UserError with what sbatch says, and the partitions if it refuses the partition. Lines
    of text that a cluster's own sbatch prints beside the id are passed over.
    """
    start = f"--dependency=afterok:{':'.join(after)}" if after else "--hold"
    ended = _run("sbatch", "--parsable", start, script.as_posix())
    if ended.returncode:
        reason = _words(ended.stderr)
        if "partition" in reason.lower():
            known = _run("sinfo", "--noheader", "--format=%R") if shutil.which("sinfo") else None
            there = ", ".join(sorted(set(known.stdout.split()))) if known and not known.returncode else "see sinfo"
            reason += f"; the partitions are: {there}"
        raise UserError(f"sbatch refuses {script}: {reason}")
    if not (found := JOB_ID.findall(ended.stdout)):
        printed = _words(ended.stdout + ended.stderr) or "nothing"
        raise UserError(
            f"sbatch accepted {script} without printing a job id; it printed: {printed}; look for the job with squeue,"
            " and cancel it with scancel"
        )
    return found[-1]


def release(jobs: Iterable[str]) -> None:
    """Let held jobs start. Raises UserError."""
    _checked("scontrol", "release", ",".join(jobs))


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended are left alone. Raises UserError where some run or wait all the same."""
    listed = list(jobs)
    if not listed or not (ended := _run("scancel", *listed)).returncode:
        return
    known = queue()  # scancel also fails where a job has ended meanwhile
    if left := [job for job in listed if job in known and known[job].active and known[job].state != "COMPLETING"]:
        raise UserError(f"scancel failed: {_words(ended.stderr)}; these jobs still run or wait: {', '.join(left)}")


def requeue(job: str) -> str | None:
    """Put a running job back into the queue under its own id. Returns what SLURM says if it refuses."""
    if shutil.which("scontrol") is None:
        return "there is no scontrol on PATH"
    ended = _run("scontrol", "requeue", job)
    return _words(ended.stderr) or f"status {ended.returncode}" if ended.returncode else None


def queue() -> dict[str, QueuedJob]:
    """Return this user's jobs by id; SLURM forgets those that ended more than some minutes ago. Raises UserError."""
    text = _checked("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r|%S")
    jobs = {}
    for line in text.splitlines():
        identity, state, reason, start = line.strip().split("|")[:4]
        jobs[identity] = QueuedJob(state, reason, None if start in ("", "N/A") else start)
    return jobs


def _checked(*command: str) -> str:
    ended = _run(*command)
    if ended.returncode:
        raise UserError(f"{command[0]} failed: {_words(ended.stderr) or f'status {ended.returncode}'}")
    return ended.stdout


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _words(text: str) -> str:
    """Return what a command of SLURM says, in one line."""
    lines = [line.partition("error: ")[2] or line for line in text.splitlines() if line.strip()]
    return "; ".join(lines)
