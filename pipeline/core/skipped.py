"""Records of skipped stages: where no generator needs them, base and judge publish a note that there is none."""

from pathlib import Path

from pipeline.core import files, paths

NO_GENERATORS = "the study has no generators"


def record(what: str, target: Path, reason: str = NO_GENERATORS) -> None:
    """Publish a folder whose metrics.json says that there is no such thing, and why."""
    message = {what: f"none: {reason}"}
    work = paths.work(what, files.fingerprint(message))
    files.write_json(work / "metrics.json", message)
    files.publish(work, target)
