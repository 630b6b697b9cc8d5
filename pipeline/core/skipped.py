"""Records of what a study without generators does not make: its stages base and judge say so, and publish no more."""

from pathlib import Path

from pipeline.core import files, paths

REASON = "the study has no generators"


def record(what: str, target: Path) -> None:
    """Publishes a folder with metrics.json only: that there is no such thing, and why."""
    told = {what: f"none: {REASON}"}
    work = paths.work(what, files.fingerprint(told))
    files.write_json(work / "metrics.json", told)
    files.publish(work, target)
