"""What a job of each stage asks SLURM for: the files of configs/slurm."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from pipeline.core.errors import UserError
from pipeline.core.section import Section, parse, read_yaml

FOLDER = Path("configs/slurm")
PLAIN = re.compile(r"""[^\s'"\\#]+""")  # what sbatch reads as it stands
COMMIT = "commit"  # the name of the last job, beside the names of stages
Option = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$")]
Options = dict[Option, str | int | bool | None]
OWN = ("dependency", "hold", "job-name", "kill-on-invalid-dep", "open-mode", "output", "parsable", "requeue", "signal")
# With these, a job would not be one stage that runs in the project's folder and writes to its log.
REFUSED = ("array", "chdir", "error", "test-only", "wait", "wrap")


class Resources(Section):
    """The options of sbatch for the jobs of a study, and what every job does before its stage."""

    attempts: int = Field(default=3, ge=1)
    """How often a stage is started that fails or reaches its time limit. Preemptions do not count."""
    defaults: Options = Field(default={})
    """Long options of sbatch for every job, without their dashes: `cpus-per-task: 8`. With `true`, a flag."""
    stages: dict[str, Options] = Field(default={})
    """Options of the jobs of a stage (`finetune`), of one of its entries (`finetune@siamese`), or of the last job
    (`commit`). They are laid over the defaults; null takes an option away.
    """
    setup: str = ""
    """Lines of shell that each job runs first, such as `module load cuda`."""

    @field_validator("defaults")
    @classmethod
    def _defaults_are_free(cls, options: Options) -> Options:
        return _check_free(options)

    @field_validator("stages")
    @classmethod
    def _stages_are_free(cls, stages: dict[str, Options]) -> dict[str, Options]:
        return {name: _check_free(options) for name, options in stages.items()}

    def options(self, name: str) -> Options:
        """Return the options of one job."""
        merged = self.defaults | self.stages.get(name.partition("@")[0], {})
        merged |= self.stages.get(name, {})
        return {key: value for key, value in merged.items() if value is not None and value is not False}


def _check_free(options: Options) -> Options:
    if taken := sorted(set(options) & set(OWN)):
        raise ValueError(f"{taken[0]} is set by twinsynth submit itself; leave it out")
    if refused := sorted(set(options) & set(REFUSED)):
        raise ValueError(f"{refused[0]} cannot be combined with twinsynth submit; leave it out")
    if long := [key for key, value in options.items() if len(str(value).splitlines()) > 1]:
        raise ValueError(f"{long[0]} has several lines, but an option of sbatch takes one")
    return options


def names(folder: Path = FOLDER) -> list[str]:
    """List the names of the files."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load(name: str, stages: Iterable[str], folder: Path = FOLDER) -> Resources:
    """Read a file for a study with these stages. Raises UserError naming a key, an option or a stage that is wrong."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        there = ", ".join(names(folder)) or "none"
        raise UserError(f"there is no file {path}; the available ones are: {there}")
    try:
        resources = parse(Resources, read_yaml(path) or {})
    except UserError as error:
        raise UserError(str(error).replace("params.yaml", str(path), 1)) from None
    kinds = {COMMIT, *(stage.partition("@")[0] for stage in stages)}
    for stage in resources.stages:
        if stage.partition("@")[0] not in kinds:
            raise UserError(f"{path}: stages.{stage} is no stage of dvc.yaml; they are: {', '.join(sorted(kinds))}")
    return resources


def lines(options: Options) -> list[str]:
    """Return the options as the lines of a job script."""
    written = []
    for key, value in options.items():
        plain = str(value) if PLAIN.fullmatch(str(value)) else shlex.quote(str(value))
        written.append(f"#SBATCH --{key}" if value is True else f"#SBATCH --{key}={plain}")
    return written
