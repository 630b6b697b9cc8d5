"""Checks of the study file: all its parameters, those of plug-ins included."""

from pathlib import Path

from pipeline.cli.doctor.findings import Finding, error, errors
from pipeline.cli.doctor.versions import CURE
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params, load_params

CHECK = "parameters"
ADVICE = "mend the study file; a file of configs/studies shows what there is"


def read(path: Path) -> tuple[Params | None, list[Finding]]:
    """Return the study with the findings about it; None in its place where nothing else can be checked."""
    try:
        read_yaml(path)
    except UserError as fault:
        return None, [error(CHECK, " ".join(str(fault).split()), ADVICE)]
    try:
        params = load_params(path)
    except UserError as fault:
        return None, list(errors(CHECK, str(fault), ADVICE))
    try:
        check_plugins(params)
    except UserError as fault:
        return params, list(errors(CHECK, str(fault), ADVICE))
    except ImportError as fault:
        return params, [error("packages", f"a plug-in cannot be loaded: {fault}", CURE)]
    return params, []
