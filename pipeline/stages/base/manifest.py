"""What the manifest of a published base says of the images that it was pretrained on."""

from pipeline.core import files, paths
from pipeline.data.splitting import UNLABELLED

FILE = "manifest.json"


def unlabelled_images(study: str) -> int:
    """Return on how many images without masks the base was pretrained; 0 for a base from elsewhere, or for none."""
    path = paths.base(study) / FILE
    return files.read_json(path).get(UNLABELLED, {}).get("images", 0) if path.is_file() else 0
