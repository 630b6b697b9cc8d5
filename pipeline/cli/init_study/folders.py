"""Names of image files in folders: which folders hold images, which hold their masks, and how the names differ."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.data.decoding import IMAGE_TYPES
from pipeline.methods.readers._lists import key

IMAGE_NAMES = ("images", "image", "imgs", "img", "input", "inputs", "original", "originals", "pictures", "scans")
MASK_NAMES = ("masks", "mask", "labels", "label", "groundtruth", "gt", "annotations", "segmentations", "segmentation")
SAMPLED = 50  # masks whose names are compared with those of the images
AGREED = 0.5  # share of them that must find an image


@dataclass(frozen=True)
class FolderPair:
    """A folder of images and the folder of their masks, whose names have `suffix` before the dot."""

    images: Path
    masks: Path
    suffix: str = ""

    @property
    def root(self) -> Path:
        """The folder that holds both."""
        if self.images == self.masks:
            return self.images
        return Path(os.path.commonpath([self.images.parent.resolve(), self.masks.parent.resolve()]))

    def below_root(self, folder: Path) -> Path:
        """Return a folder relative to the root."""
        return Path(os.path.relpath(folder.resolve(), self.root.resolve()))


def stems(folder: Path) -> list[str]:
    """Return the sorted names without endings of a folder's image files, in the form in which readers compare them."""
    names = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_TYPES and path.name[0] != ".")
    return sorted(key(path.stem) for path in names)


def below(root: Path, depth: int = 2) -> Iterator[Path]:
    """Yield the folders below root, the nearest first, each level by name, without hidden ones."""
    if depth:
        children = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
        yield from children
        for child in children:
            yield from below(child, depth - 1)


def find_pair(root: Path) -> FolderPair | None:
    """Return the folders of images and masks by their usual names, or one folder that holds both; None: not found."""
    images = [folder for folder in below(root) if _letters(folder.name) in IMAGE_NAMES]
    for image_folder in images:
        for folder in below(image_folder.parent, 1):
            if _letters(folder.name) in MASK_NAMES:
                return pair_of(image_folder, folder)
    suffix = _suffix_in_one(stems(root))
    return FolderPair(root, root, suffix) if suffix else None


def pair_of(images: Path, masks: Path) -> FolderPair:
    """Return the two folders with the masks' suffix. Raises UserError where no names agree."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder")
        if not stems(folder):
            raise UserError(f"{folder} holds no image file ({', '.join(IMAGE_TYPES)})")
    same = images.resolve() == masks.resolve()
    suffix = _suffix_in_one(stems(images)) if same else _suffix(stems(images), stems(masks))
    if suffix is None:
        first = f"{stems(images)[0]!r} and {stems(masks)[0]!r}"
        raise UserError(
            f"the names in {images} and {masks} do not match ({first}); give each mask the name of its image"
        )
    return FolderPair(images, masks, suffix)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _suffix(images: Collection[str], masks: list[str]) -> str | None:
    """Return the most frequent suffix of the masks' names; None where less than AGREED of them have it."""
    sampled = masks[:: max(1, len(masks) // SAMPLED)][:SAMPLED]
    suffixes = _suffixes(images, sampled).most_common()
    suffix, count = min(suffixes, key=lambda item: (-item[1], len(item[0])), default=("", 0))
    return suffix if count >= AGREED * len(sampled) else None


def _suffix_in_one(names: list[str]) -> str | None:
    """Return the suffix of masks that lie beside their images: half of the files have it, each beside its image."""
    for suffix, _ in _suffixes(names, names[: 2 * SAMPLED]).most_common():
        masks = [name for name in names if suffix and name.endswith(suffix)]
        if masks and 2 * len(masks) == len(names) and all(name.removesuffix(suffix) in names for name in masks):
            return suffix
    return None


def _suffixes(images: Collection[str], masks: Collection[str]) -> Counter[str]:
    """Count what follows an image's name in the masks' names."""
    known = set(images)
    return Counter(mask[n:] for mask in masks for n in range(1, len(mask) + 1) if mask[:n] in known)
