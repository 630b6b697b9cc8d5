"""Files of an image set in another folder, as links where the file system has them, else as copies. No torch."""

from pathlib import Path

from pipeline.core import files
from pipeline.data.image_set import ImageSet, Row, files_of


def link_files(images: ImageSet, folder: Path) -> list[Row]:
    """Link or copy images and masks of a set into `folder`, and return its rows; files that are there stay."""
    for row in images:
        for name in files_of(row):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():
                files.link_or_copy(images.folder / name, folder / name)
    return list(images)
