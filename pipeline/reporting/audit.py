"""The audit in the report: a row per generator and the picture of its closest pairs. No torch."""

import base64
from dataclasses import dataclass
from typing import Any

from pipeline import files, paths, tracking
from pipeline.params import Params

TOP = 12  # suspects listed per generator


@dataclass(frozen=True)
class AuditOf:
    """What the page shows of one generator's audit."""

    generator: str
    record: dict[str, Any]  # audit.json
    suspects: list[dict[str, str]]  # the first TOP rows of suspects.csv
    picture: str  # data URI of the closest pairs, suspects framed in red


def audits(params: Params) -> list[AuditOf]:
    """The audits there are, in the order of params.yaml; a generator that has not been audited is left out."""
    return [_audit(params, name) for name in params.generators if _folder(params, name).is_dir()]


def _audit(params: Params, generator: str) -> AuditOf:
    folder = _folder(params, generator)
    picture = base64.b64encode((folder / "closest.png").read_bytes()).decode()
    return AuditOf(
        generator,
        files.read_json(folder / "audit.json"),
        tracking.read_table(folder / "suspects.csv")[:TOP],
        f"data:image/png;base64,{picture}",
    )


def _folder(params: Params, generator: str) -> Any:
    return paths.audit(params.study, generator)
