"""The whole examination, one check after the other; a check that cannot be made is a finding too."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pipeline.cli.doctor import devices, dvc_state, pictures, storage, stored_weights, study, versions
from pipeline.cli.doctor.findings import SEVERITIES, Finding, error, errors, note
from pipeline.cli.forecast import alike, counted, disk, known_pairs, listed_pairs
from pipeline.core.errors import UserError
from pipeline.study import Params

Check = Callable[[], Iterable[Finding]]


def examine(path: Path, quick: bool = False) -> list[Finding]:
    """Everything that can be found about a study on this machine, the worst first; `quick` counts no memory or disk.

    Run in the project's folder.
    """
    params, found = study.read(path)
    refused = bool(found)
    found += _made("packages", versions.findings) + _made("dvc", dvc_state.repository)
    found += _made("permissions", storage.permissions)
    if params is None:
        found.append(note("parameters", "data, weights and memory were not checked", "mend the study file first"))
        return _sorted(found)
    for name, check in of_data(params):
        found += _made(name, check)
    if not refused:
        for name, check in of_machine(params, quick):
            found += _made(name, check)
    return _sorted(found)


def of_data(params: Params) -> Iterator[tuple[str, Check]]:
    """What needs a study whose sections are right."""
    yield "data", lambda: pictures.findings(params)
    yield "dvc_running", dvc_state.running
    yield "outputs", lambda: dvc_state.outputs(params)
    yield "dvc", lambda: dvc_state.watched(params)
    yield "stale_work", lambda: storage.stale_work(params)


def of_machine(params: Params, quick: bool) -> Iterator[tuple[str, Check]]:
    """What needs its plug-ins too."""
    launch = os.environ.get("LAUNCH") or None
    yield "weights", lambda: stored_weights.findings(params)
    here = devices.hardware()
    yield "gpu", lambda: devices.gpus(params, here, launch)
    if not quick:
        yield "disk", lambda: _space(params)
        yield "memory", lambda: devices.memory(params, here, launch)


def _space(params: Params) -> Iterable[Finding]:
    costs = {name: counted(params, names[0])[1] for names in alike(params).values() for name in names}
    return storage.space(disk(params, costs, known_pairs(params) or listed_pairs(params)))


def _made(name: str, check: Check) -> list[Finding]:
    """The findings of one check; what keeps it from being made is one of them."""
    found = []
    try:
        found += check()
    except UserError as fault:
        found += errors(name, str(fault), "see docs/doctor.md")
    except ImportError as fault:
        found.append(error("packages", f"{name} cannot be checked: {fault}", versions.CURE))
    except OSError as fault:
        found.append(error(name, f"{fault.filename or 'a file'}: {fault.strerror or fault}", "mend it, and ask again"))
    return found


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
