"""What is known of the study's last submission: its jobs, the state of the study at that time, and how stages ended.

Everything lies in work/slurm: submission.json, scripts/, logs/ and, one file per job that has ended, ends/.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml

FOLDER = paths.WORK / "slurm"
FILE = FOLDER / "submission.json"
SUBMIT = "twinsynth submit"


@dataclass(frozen=True)
class Submission:
    """The jobs that one call of twinsynth submit made."""

    study: str
    attempts: int
    state: dict[str, str]  # as `study_state` returned it
    jobs: dict[str, str] = field(default_factory=dict)  # SLURM's id of each job, by the name of its stage

    def write(self) -> None:
        """Keep it for the jobs and for twinsynth jobs."""
        files.write_json(FILE, asdict(self) | {"jobs": list(self.jobs.items())})  # a list keeps their order

    def with_job(self, name: str, job: str) -> "Submission":
        """Return the submission with one more job."""
        return replace(self, jobs={**self.jobs, name: job})


@dataclass(frozen=True)
class End:
    """How the job of a stage ended."""

    result: Literal["done", "unchanged", "failed"]
    attempts: int = 0  # starts that failed or reached the time limit
    reason: str = ""  # of a failure
    inputs: dict[str, str | None] = field(default_factory=dict)  # hashes, as graph.input_hashes returns them
    outputs: dict[str, str | None] = field(default_factory=dict)


def script(name: str) -> Path:
    """Return the place of a job's script."""
    return FOLDER / "scripts" / f"{name}.sh"


def log(name: str) -> Path:
    """Return the place of a job's output."""
    return FOLDER / "logs" / f"{name}.log"


def _end(name: str) -> Path:
    return FOLDER / "ends" / f"{name}.json"


def write_end(name: str, end: End) -> None:
    """Record how a job ended."""
    files.write_json(_end(name), asdict(end))


def read_end(name: str) -> End | None:
    """Return how a job ended; None if it has not ended by itself."""
    return End(**files.read_json(_end(name))) if _end(name).is_file() else None


def read() -> Submission | None:
    """Return the last submission from this folder; None if there was none."""
    if not FILE.is_file():
        return None
    held = files.read_json(FILE)
    return Submission(**held | {"jobs": dict(held["jobs"])})


def begin(submission: Submission, scripts: Mapping[str, str]) -> None:
    """Replace the records of an earlier submission by those of a new one that has no job yet."""
    for folder in ("scripts", "logs", "ends"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
        (FOLDER / folder).mkdir(parents=True)
    for name, text in scripts.items():
        files.write_bytes(script(name), text.encode())
    submission.write()


def study_state() -> dict[str, str]:
    """Return hashes of what must not change while jobs wait: parameters, graph, and the code behind all stages."""
    from pipeline.stages.records.records import all_records
    from pipeline.study import load_params

    code: dict[str, Any] = dict(all_records(load_params()))
    return {
        "params.yaml": files.fingerprint(read_yaml(Path("params.yaml"))),
        "dvc.yaml": files.fingerprint(read_yaml(Path("dvc.yaml"))),
        "the code of the stages": files.fingerprint(code),
    }


def check_unchanged(submission: Submission) -> None:
    """Raise UserError if parameters, graph or code differ from those that were submitted."""
    now = study_state()
    changed = [name for name, value in submission.state.items() if now[name] != value]
    if changed:
        raise UserError(
            f"{' and '.join(changed)} changed after the study {submission.study} was submitted; restore what was"
            f" submitted, or cancel the jobs (twinsynth jobs --cancel), and run {SUBMIT} again"
        )
