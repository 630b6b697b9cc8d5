"""All checks, one after the other; a check that cannot be run is a finding too."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pipeline.cli.doctor import dataset, devices, dvc_state, storage, stored_weights, study_file, unlabelled, versions
from pipeline.cli.doctor.findings import SEVERITIES, Finding, error, errors, note, warning
from pipeline.cli.forecast import disk_usage, generator_costs
from pipeline.cli.plan import training_pairs
from pipeline.core.errors import UserError
from pipeline.core.pair_limit import PairLimit
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.audit.params import Audit
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.prepare.params import Data
from pipeline.stages.score.params import Score
from pipeline.study import Params

Check = Callable[[], Iterable[Finding]]


def examine(path: Path, quick: bool = False, thorough: bool = True) -> list[Finding]:
    """Return all findings about a study on this machine, the worst first.

    `quick` counts no memory or disk; unless `thorough`, a sample of a large data set is decoded.

    Run in the project's folder.
    """
    params, findings = study_file.read(path)
    valid = not findings
    findings += _run("packages", versions.findings) + _run("dvc", dvc_state.repository)
    findings += _run("permissions", storage.permissions)
    if params is None:
        findings.append(note("parameters", "data, weights and memory were not checked", "mend the study file first"))
        return _sorted(findings)
    for name, check in study_checks(params, thorough):
        findings += _run(name, check)
    if valid:
        for name, check in machine_checks(params, quick):
            findings += _run(name, check)
    return _sorted(findings)


def study_checks(params: Params, thorough: bool) -> Iterator[tuple[str, Check]]:
    """Yield the checks that need a study with valid sections."""
    yield "data", lambda: dataset.findings(params.data, params.seed, thorough)
    yield "limits", lambda: _limits(params.pair_limits, params.study, params.data)
    learners = params.training_sets.values(), params.generators.values()
    yield "unlabelled", lambda: unlabelled.findings(params.data, params.base, *learners)
    yield "dvc_running", dvc_state.running
    yield "outputs", lambda: dvc_state.outputs(params.study)
    yield "dvc", lambda: dvc_state.unwatched_data(params.data)
    yield "stale_work", lambda: storage.stale_work(params.study)


def machine_checks(params: Params, quick: bool) -> Iterator[tuple[str, Check]]:
    """Yield the checks that need valid parameters of its plug-ins too."""
    launch = os.environ.get("LAUNCH") or None
    yield "weights", lambda: _weights(params.base, params.generators, params.segmenters, (params.score, params.audit))
    hardware = devices.hardware()
    yield "gpu", lambda: devices.gpus(precisions(params), hardware, launch)
    yield "gpu", lambda: devices.large_base(params.base, params.study, hardware)
    if not quick:
        counted = functools.cache(lambda: generator_costs(params))  # seconds, for both checks
        yield "disk", lambda: _space(params, counted()[0])
        yield "memory", lambda: devices.memory(hardware, launch, counted()[1])


def precisions(params: Params) -> set[str]:
    """Return the precisions in which the stages of a study compute."""
    sections = (params.finetune, params.generate, params.base, params.segment)
    return {section.precision for section in sections if section is not None}


def _weights(
    base: Base | None,
    generators: Mapping[str, GeneratorEntry],
    segmenters: Mapping[str, SegmenterEntry],
    scoring: tuple[Score, Audit],
) -> Iterator[Finding]:
    if base is not None:
        yield from stored_weights.base(base)
    if generators:
        score, audit = scoring
        extractors = dict.fromkeys([*score.extractors, *audit.extractors])
        yield from stored_weights.extractors(extractors, score.weights)
    yield from stored_weights.segmenters(segmenters)
    yield from stored_weights.conditionings(generators)


def _limits(limits: Mapping[str, PairLimit], study: str, data: Data) -> Iterator[Finding]:
    """Find limits beyond the training pairs, whose number is not known exactly where splits are drawn."""
    pairs = training_pairs(study, data) if limits else None
    for where, limit in limits.items():
        if pairs is not None and limit.pairs > pairs:
            yield warning(
                "limits", f"{where}.limit is {limit}, but there are about {pairs} training pairs", "lower the limit"
            )


def _space(params: Params, costs: Mapping[str, Cost | None]) -> Iterable[Finding]:
    return storage.space(disk_usage(params, costs, training_pairs(params.study, params.data)))


def _run(name: str, check: Check) -> list[Finding]:
    """Return the findings of one check; an error that stops the check is one of them."""
    findings = []
    try:
        findings += check()
    except UserError as fault:
        findings += errors(name, str(fault), "see docs/doctor.md")
    except ImportError as fault:
        findings.append(error("packages", f"{name} cannot be checked: {fault}", versions.CURE))
    except OSError as fault:
        findings.append(
            error(name, f"{fault.filename or 'a file'}: {fault.strerror or fault}", "mend it, and ask again")
        )
    return findings


def _sorted(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
