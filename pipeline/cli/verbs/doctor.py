"""twinsynth doctor: names what would go wrong with a study on this machine, and says what to do."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import add_json, declare, tell, tell_json

if TYPE_CHECKING:
    from pipeline.cli.doctor.findings import Finding

SHOWN = 10  # findings of one check and severity; --json tells all


def add(subparsers: Any) -> None:
    """Declares the verb."""
    parser = declare(
        subparsers,
        "doctor",
        "check data, weights, memory, disk, versions and DVC, and say what to do",
        "twinsynth doctor",
        "twinsynth doctor --study polyps --quick",
        "twinsynth doctor --json > findings.json",
    )
    parser.add_argument("--study", default="params.yaml", help="a study file, or a name in configs/studies")
    parser.add_argument("--quick", action="store_true", help="count neither memory nor disk")
    parser.add_argument("--verbose", action="store_true", help="tell notes too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; 1 where there is an error. Raises UserError where there is no such study."""
    from pipeline.cli.commands.check_study import find
    from pipeline.cli.doctor.examination import examine

    path = Path(arguments.study)
    with redirect_stdout(sys.stderr):  # progress
        found = examine(
            path if path.is_file() or path.name == "params.yaml" else find(arguments.study), arguments.quick
        )
    if arguments.json:
        tell_json(plain(arguments.study, found))
    else:
        tell(as_text(found, arguments.verbose))
    return int(any(finding.severity == "error" for finding in found))


def plain(study: str, found: Sequence["Finding"]) -> dict[str, Any]:
    """{study, errors, warnings, notes, findings: [{severity, check, found, advice}]}."""
    counts = {f"{kind}s": sum(one.severity == kind for one in found) for kind in ("error", "warning", "note")}
    return {"study": study, **counts, "findings": [asdict(one) for one in found]}


def as_text(found: Sequence["Finding"], verbose: bool = False) -> str:
    """A block per finding, and how many there are."""
    told = [one for one in found if verbose or one.severity != "note"]
    lines, seen = [], dict[tuple[str, str], int]()
    for one in told:
        key = one.severity, one.check
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= SHOWN:
            lines += [f"{one.severity} {one.check}: {one.found}", f"    do: {one.advice}"]
    lines += [
        f"{severity} {check}: {count - SHOWN} more; --json lists them"
        for (severity, check), count in seen.items()
        if count > SHOWN
    ]
    return "\n".join([*lines, _summary(found)])


def _summary(found: Sequence["Finding"]) -> str:
    counts = {kind: sum(one.severity == kind for one in found) for kind in ("error", "warning", "note")}
    if not counts["error"] and not counts["warning"]:
        return "nothing to mend" + (f" ({counts['note']} notes: --verbose)" if counts["note"] else "")
    return ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items())
