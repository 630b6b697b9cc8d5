"""Records of skipped stages: without generators, base and judge publish a note that there is none."""

from pathlib import Path

from pipeline.core import files, paths

REASON = "the study has no generators"


def record(what: str, target: Path) -> None:
    """Publish a folder whose metrics.json says that there is no such thing, and why."""
    message = {what: f"none: {REASON}"}
    work = paths.work(what, files.fingerprint(message))
    files.write_json(work / "metrics.json", message)
    files.publish(work, target)
