"""Shared by readers of folders: files by stem, pairs of two folders, safe ids."""

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.data import dicom_elements
from pipeline.data.decoding import IMAGE_TYPES, Fault, FilePair, InvalidData, Item, display_path
from pipeline.methods.readers._lists import key, read_manifest, read_splits, selected


def safe_id(text: str) -> str:
    """Return the text in a-z 0-9 _ -: without accents, other letters by code point, anything else as an underscore."""
    plain = (c for c in unicodedata.normalize("NFKD", text.lower()).lower() if not unicodedata.combining(c))
    return "".join(_safe_character(c) for c in plain) or "_"


def _safe_character(c: str) -> str:
    if c.isascii():
        return c if c.isalnum() or c in "_-" else "_"
    return f"x{ord(c):x}" if c.isalnum() else "_"


def existing(folder: Path, setting: str) -> Path:
    """Return the folder. Raises UserError naming the parameter that leads to it."""
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserError(f"{setting}: {folder} is not a folder; see docs/your_own_data.md for the layouts")
    return folder


def scan(
    root: Path, folder: Path, suffix: str = "", types: tuple[str, ...] = IMAGE_TYPES
) -> tuple[dict[str, Path], list[Fault]]:
    """Return image files of a folder by key, their stem without `suffix`; files that share a key are faults.

    Hidden files, other types and stems that do not end with `suffix` are ignored.
    """
    by_key: dict[str, list[Path]] = {}
    for path in sorted(existing(folder, "data.root").iterdir()):
        if path.suffix.lower() in types and not path.name.startswith(".") and path.is_file():
            stem = key(path.stem)
            if stem.endswith(key(suffix)):
                by_key.setdefault(stem.removesuffix(key(suffix)), []).append(path)
    faults = [_ambiguous(root, paths) for paths in by_key.values() if len(paths) > 1]
    return {name: paths[0] for name, paths in by_key.items()}, faults


def _ambiguous(root: Path, paths: list[Path]) -> Fault:
    names = " and ".join(display_path(path, root) for path in paths)
    return Fault(names, "differ only in case, encoding of accents or file type; rename or remove all but one")


def unpaired(root: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Iterator[Fault]:
    """Yield images without a mask and masks without an image."""
    for name in sorted(images.keys() - masks.keys()):
        yield Fault(display_path(images[name], root), "has no mask; add one of the same name or remove the image")
    for name in sorted(masks.keys() - images.keys()):
        yield Fault(display_path(masks[name], root), "has no image; add one of the same name or remove the mask")


@dataclass(frozen=True)
class PairFolders:
    """A folder of images and one of masks, all of one source and split."""

    root: Path
    images: Path
    masks: Path
    source: str
    split: str | None = None
    prefix: str = ""  # of ids
    suffix: str = ""  # of the masks' stems
    types: tuple[str, ...] = IMAGE_TYPES  # of images


def paired(folders: PairFolders) -> Iterator[Item]:
    """Yield pairs of two folders by stem."""
    root = folders.root
    images, image_faults = scan(root, folders.images, types=folders.types)
    masks, mask_faults = scan(root, folders.masks, folders.suffix)
    yield from (*image_faults, *mask_faults, *unpaired(root, images, masks))
    for name in sorted(images.keys() & masks.keys()):
        sample_id = safe_id(folders.prefix + images[name].stem)
        yield FilePair(sample_id, images[name], masks[name], root, split=folders.split, source=folders.source)


def pair_or_faults(pair: FilePair) -> Iterator[Item]:
    """Yield the pair, or a fault for each of its two files that does not exist."""
    missing = [path for path in (pair.image, pair.mask) if not _is_file(path)]
    yield from (Fault(display_path(path, pair.root), "does not exist") for path in missing)
    if not missing:
        yield pair


def _is_file(path: Path) -> bool:
    """Return whether the file exists, False for names that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


@dataclass(frozen=True)
class Subfolders:
    """Folders below root of pairs by stem; in a shared folder the suffix of masks distinguishes them from images."""

    images: Path = Path("images")
    masks: Path = Path("masks")
    suffix: str = ""  # of the masks' stems


DEFAULT = Subfolders()


def listed_pairs(root: Path, source: str, source_column: str = "", subfolders: Subfolders = DEFAULT) -> Iterator[Item]:
    """Yield pairs of the layout images/ + masks/ with optional splits/*.txt and manifest.csv."""
    images, image_faults = scan(root, root / subfolders.images)
    masks, mask_faults = scan(root, root / subfolders.masks, subfolders.suffix)
    if subfolders.images == subfolders.masks:
        images = {name: path for name, path in images.items() if not name.endswith(key(subfolders.suffix))}
    splits, split_faults = read_splits(root, images)
    manifest, manifest_faults = read_manifest(root, images, source_column)
    yield from (*image_faults, *mask_faults, *unpaired(root, images, masks), *split_faults, *manifest_faults)
    patients = dict(_patients(images))
    for name in sorted(masks.keys() & selected(splits, images)):
        row = manifest.get(name, {})
        metadata = {
            "split": splits.get(name),
            "source": row.get(source_column) or source,
            "group": row.get("group") or patients.get(str(images[name]), ""),
        }
        yield FilePair(safe_id(images[name].stem), images[name], masks[name], root, **metadata)


def _patients(images: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Yield the patients of DICOM images, as keyed hashes, by path; decoding names the files that cannot be read."""
    headers = []
    for path in images.values():
        with suppress(InvalidData, OSError):
            if path.suffix.lower() == dicom_elements.TYPE and dicom_elements.is_dicom(path):
                headers.append((str(path), dicom_elements.read_header(path)))
    yield from dicom_elements.patient_groups(headers).items()
