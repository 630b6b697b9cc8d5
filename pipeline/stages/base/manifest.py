"""What the manifest of a published base says of the images that it was pretrained on."""

from pipeline.core import files, paths
from pipeline.data.splitting import UNLABELLED

FILE = "manifest.json"


def base_source(study: str) -> str:
    """Return where the base of a study comes from: scratch, the name of a model, or unknown where there is none."""
    path = paths.base(study) / FILE
    return str(files.read_json(path).get("source", "unknown")) if path.is_file() else "unknown"


def network_of_losses(study: str) -> str | None:
    """Return the pretrained network that losses of the base use, by its name in timm; None where none does."""
    path = paths.base(study) / FILE
    known = files.read_json(path) if path.is_file() else {}
    return known.get("perceptual", {}).get("network")


def unlabelled_images(study: str, beyond: int = 0) -> int:
    """Return on how many images without masks the base was pretrained; 0 for a base from elsewhere, or for none.

    So many training images `beyond` the limit of a generator are among them, since the base sees all.
    """
    path = paths.base(study) / FILE
    known = files.read_json(path).get(UNLABELLED, {}).get("images", 0) if path.is_file() else 0
    return known + (beyond if saw_training_images(study) else 0)


def saw_training_images(study: str) -> bool:
    """Return whether the base was pretrained on the training images of the study, whatever the limits of others."""
    return base_source(study) == "scratch"
