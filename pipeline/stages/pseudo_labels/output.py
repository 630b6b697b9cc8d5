"""What the stage pseudo_labels publishes beside its images. No torch."""

import shutil
from typing import Any

from pipeline.core import files, paths
from pipeline.data.image_set import ImageSet

RECORD = "pseudo_labels.json"  # in the folder of the set: settings, how many images, Dice on validation images


def publish_none(study: str) -> None:
    """Publish an empty set, for a study without pseudo-labels."""
    spec = ImageSet.open(paths.real(study)).spec
    work = paths.work("pseudo_labels", files.fingerprint("none", study, spec))
    ImageSet.finish(work, spec, ())
    files.publish(work, paths.pseudo_labels(study))
    shutil.rmtree(work)


def read_record(study: str) -> dict[str, Any] | None:
    """Return what is known of the pseudo-labels of a study; None where it has none."""
    path = paths.pseudo_labels(study) / RECORD
    return files.read_json(path) if path.is_file() else None
