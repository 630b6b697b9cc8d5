"""twinsynth doctor: what would go wrong with a study on this machine, and what to do about it."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json
from pipeline.cli.verbs.study import study_file

if TYPE_CHECKING:
    from pipeline.cli.doctor.findings import Finding

SHOWN = 10  # findings of one check and severity; --json lists all


def add(subparsers: Any) -> None:
    """Declare the verb."""
    parser = declare(
        subparsers,
        "doctor",
        "check data, weights, memory, disk, versions and DVC, and say what to do",
        "twinsynth doctor",
        "twinsynth doctor --study polyps --quick",
        "twinsynth doctor --thorough",
        "twinsynth doctor --json > findings.json",
    )
    parser.add_argument("--study", default="params.yaml", help="a study file, or a name in configs/studies")
    parser.add_argument("--quick", action="store_true", help="do not count memory and disk")
    parser.add_argument(
        "--thorough", action="store_true", help="decode every image of a large data set instead of a sample"
    )
    parser.add_argument("--verbose", action="store_true", help="also list notes")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; return 1 where there is an error. Raises UserError where there is no such study."""
    from pipeline.cli.doctor.examination import examine

    path = study_file(arguments.study)
    with redirect_stdout(sys.stderr):  # progress
        findings = examine(path, arguments.quick, arguments.thorough)
    if arguments.json:
        tell_json(record(arguments.study, findings))
    else:
        tell(as_text(findings, arguments.verbose))
    return int(any(finding.severity == "error" for finding in findings))


def record(study: str, findings: Sequence["Finding"]) -> dict[str, Any]:
    """Return {study, errors, warnings, notes, findings: [{severity, check, found, advice}]}."""
    counts = {f"{severity}s": count for severity, count in _counts(findings).items()}
    return {"study": study, **counts, "findings": [asdict(finding) for finding in findings]}


def as_text(findings: Sequence["Finding"], verbose: bool = False) -> str:
    """Return a block per finding, at most SHOWN of a kind, and how many there are."""
    lines, counts = [], Counter[tuple[str, str]]()
    for finding in findings:
        if finding.severity == "note" and finding.check != "sampled" and not verbose:
            continue
        kind = finding.severity, finding.check
        counts[kind] += 1
        if counts[kind] <= SHOWN:
            lines += [f"{finding.severity} {finding.check}: {finding.found}", f"    do: {finding.advice}"]
    lines += [
        f"{severity} {check}: {count - SHOWN} more; --json lists them"
        for (severity, check), count in counts.items()
        if count > SHOWN
    ]
    return "\n".join([*lines, _summary(findings)])


def _counts(findings: Sequence["Finding"]) -> dict[str, int]:
    return {kind: sum(finding.severity == kind for finding in findings) for kind in ("error", "warning", "note")}


def _summary(findings: Sequence["Finding"]) -> str:
    counts = _counts(findings)
    if not counts["error"] and not counts["warning"]:
        return "nothing to mend" + (f" ({counts['note']} notes: --verbose)" if counts["note"] else "")
    return ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())
