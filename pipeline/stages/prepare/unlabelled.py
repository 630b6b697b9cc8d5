"""Images without masks (data.unlabelled): a folder of pictures, or the training images beyond data.train_limit.

None of them may be a validation or test image, nor look like one: a base that had seen it would flatter the scores.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data import decoding, hashing
from pipeline.data.decoding import IMAGE_TYPES, Fault, InvalidData
from pipeline.data.sample import Sample
from pipeline.data.splitting import HELD_OUT, RESERVE, UNLABELLED
from pipeline.stages.prepare.pair_checks import Candidate, with_channels
from pipeline.stages.prepare.params import Data

log = logging.getLogger(__name__)
FOLDER = "data.unlabelled.folder"
Near = tuple[str, str, int]  # ids of an unlabelled and a held-out image that look alike, and how many bits differ


@dataclass(frozen=True)
class UnlabelledImages:
    """The unlabelled images of a study, sorted by id, and the ids of those that were left out, by reason."""

    samples: tuple[Sample, ...] = ()
    near: tuple[Near, ...] = ()  # look like a validation or test image
    copies: tuple[str, ...] = ()  # equal an image of the training pairs or another unlabelled one
    grouped: tuple[str, ...] = ()  # lie in a group that validation or test has too
    files: tuple[tuple[str, str], ...] = ()  # id and file of all images of the folder, those left out included
    digest: str = ""  # of images, names and prompts

    @property
    def rest(self) -> int:
        """Number of training images among them."""
        names = dict(self.files)
        return sum(sample.id not in names for sample in self.samples)


@dataclass(frozen=True)
class Picture:
    """The pixels [C, size, size] of a picture, decoded whenever they are needed: folders may be large."""

    path: Path
    data: Data

    @property
    def ndim(self) -> int:
        """Number of axes, the channels included."""
        return 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.data.planes, self.data.size, self.data.size

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.uint8]:
        try:
            image = with_channels(decoding.read_image(self.path, self.data.picture_window)[0], self.data)
        except InvalidData as fault:
            raise UserError(f"{self.path} has changed since it was checked ({fault}); run prepare again") from None
        return decoding.resize_image(image, self.data.size)


def read_folder(data: Data) -> tuple[list[Candidate], list[Fault]]:
    """Return the usable pictures of data.unlabelled.folder, without masks, and the faults of the others."""
    if data.unlabelled is None or data.unlabelled.folder is None:
        return [], []
    folder = Path(data.unlabelled.folder).expanduser()
    try:
        paths = pictures(folder)
    except InvalidData as fault:
        return [], [Fault(FOLDER, str(fault))]
    candidates, faults = [], []
    for path in track(paths, "prepare: unlabelled images"):
        try:
            candidates.append(_check_picture(path, folder, data))
        except InvalidData as fault:
            faults.append(Fault(_location(path), str(fault)))
    return candidates, faults


def pictures(folder: Path) -> list[Path]:
    """Return the image files of a folder, not of those below it, sorted. Raises InvalidData where there is none."""
    if not folder.is_dir():
        raise InvalidData(f"{folder} is not a folder; name a folder of images")
    found = [path for path in sorted(folder.iterdir()) if _is_picture(path)]
    if not found:
        raise InvalidData(f"{folder} holds no image; files of these types are read: {', '.join(IMAGE_TYPES)}")
    return found


def held_out_faults(
    images: Sequence[Candidate], pairs: Sequence[Candidate], splits: Sequence[str], data: Data
) -> Iterator[Fault]:
    """Yield one fault for all unlabelled images that are validation or test images, one for all that look like them.

    Images that look alike are left out by `choose` unless data.near_duplicates is error.
    """
    held_out = {pair.digest: (pair, split) for pair, split in zip(pairs, splits, strict=True) if split in HELD_OUT}
    same = [(image, *held_out[image.digest]) for image in images if image.digest in held_out]
    cure = "remove such images: the base must not see what is tested"
    if same:
        image, pair, split = same[0]
        yield Fault(image.location, f"is the {split} image {pair.location}{_more(same)}; {cure} ({FOLDER})")
    near = [(images[i], pairs[j], splits[j]) for i, j, _ in _near_held_out(images, pairs, splits)]
    if near and data.near_duplicates == "error":
        image, pair, split = near[0]
        told = f"looks like the {split} image {pair.location}{_more(near, 'look like')}"
        yield Fault(image.location, f"{told}; {cure} ({FOLDER}), or set data.near_duplicates to warn or regroup")


def choose(
    images: Sequence[Candidate],
    image_ids: Sequence[str],
    pairs: Sequence[Candidate],
    samples: Sequence[Sample],
    near_pairs: Sequence[Near],
    data: Data,
) -> UnlabelledImages:
    """Return the unlabelled images: those of the folder, and of data.unlabelled.rest.

    `samples` are the named samples of `pairs`, in their order, and `near_pairs` their near-duplicates across splits.
    Raises UserError where no image is left.
    """
    if data.unlabelled is None:
        return UnlabelledImages()
    rest = _Rest.of(samples if data.unlabelled.rest else (), samples, near_pairs)
    known = ("train", RESERVE) if data.unlabelled.rest else ("train",)
    seen = {pair.digest for pair, sample in zip(pairs, samples, strict=True) if sample.split in known}
    near, copies, kept = _sift(images, image_ids, pairs, samples, seen)
    prompt = str(data.prompt if data.unlabelled.prompt is None else data.unlabelled.prompt)
    named = [replace(sample, prompt=prompt) for sample in kept]
    together = tuple(sorted([*rest.samples, *named], key=lambda sample: sample.id))
    digests = dict(zip(image_ids, (image.digest for image in images), strict=True))
    digests |= {sample.id: pair.digest for sample, pair in zip(samples, pairs, strict=True)}
    digest = files.fingerprint([(s.id, s.origin, s.prompt, s.source, digests[s.id]) for s in together])
    origins = tuple((i, image.location) for i, image in zip(image_ids, images, strict=True))
    left_out = tuple(sorted([*near, *rest.near])), tuple(copies), rest.grouped
    found = UnlabelledImages(together, *left_out, origins, digest)
    _report(found, data)
    return found


@dataclass(frozen=True)
class _Rest:
    """The training images beyond data.train_limit, without those that look like or belong to held-out ones."""

    samples: tuple[Sample, ...]
    near: tuple[Near, ...]
    grouped: tuple[str, ...]

    @classmethod
    def of(cls, chosen: Sequence[Sample], samples: Sequence[Sample], near_pairs: Sequence[Near]) -> "_Rest":
        reserve = {sample.id: sample for sample in chosen if sample.split == RESERVE}
        held_out = {sample.id: sample for sample in samples if sample.split in HELD_OUT}
        groups = {sample.group for sample in held_out.values()} - {""}
        both_ways = [*near_pairs, *((second, first, bits) for first, second, bits in near_pairs)]
        near = tuple((i, j, bits) for i, j, bits in both_ways if i in reserve and j in held_out)
        grouped = tuple(name for name, sample in reserve.items() if sample.group in groups)
        left_out = {*(name for name, _, _ in near), *grouped}
        return cls(tuple(_without_masks(s) for s in reserve.values() if s.id not in left_out), near, grouped)


def _sift(
    images: Sequence[Candidate],
    image_ids: Sequence[str],
    pairs: Sequence[Candidate],
    samples: Sequence[Sample],
    known: set[str],
) -> tuple[list[Near], list[str], list[Sample]]:
    """Return near-duplicates of held-out images, copies of known or earlier images, and the samples that are left."""
    splits = [sample.split or "" for sample in samples]
    alike = _near_held_out(images, pairs, splits)
    near = [(image_ids[i], samples[j].id, bits) for i, j, bits in alike]
    left_out = {i for i, _, _ in alike}
    copies, kept, seen = [], [], set(known)
    for i in sorted(set(range(len(images))) - left_out, key=lambda i: image_ids[i]):
        if images[i].digest in seen:
            copies.append(image_ids[i])
        else:
            seen.add(images[i].digest)
            kept.append(replace(images[i].sample, id=image_ids[i]))
    return near, copies, kept


def _near_held_out(
    images: Sequence[Candidate], pairs: Sequence[Candidate], splits: Sequence[str]
) -> list[tuple[int, int, int]]:
    """Return positions of images and of held-out pairs that look alike, and how many bits differ; not equal ones."""
    held_out = [j for j, split in enumerate(splits) if split in HELD_OUT]
    found = hashing.near_pairs([i.perceptual_hash for i in images], [pairs[j].perceptual_hash for j in held_out])
    near = ((i, held_out[j], bits) for i, j, bits in found)
    return [(i, j, bits) for i, j, bits in near if images[i].digest != pairs[j].digest]


def _report(found: UnlabelledImages, data: Data) -> None:
    """Warn of images that were left out. Raises UserError where none is left."""
    looking = len({name for name, _, _ in found.near})
    reasons = {
        "look-alikes of validation or test images": looking,
        "images of their groups": len(found.grouped),
        "copies": len(found.copies),
    }
    told = ", ".join(f"{reason}: {count}" for reason, count in reasons.items() if count)
    if not found.samples:
        beyond = f"no training image lies beyond data.train_limit ({data.train_limit})"
        raise UserError(f"data.unlabelled: no image is left ({told or beyond}); add images, or remove data.unlabelled")
    if told:
        log.warning("unlabelled images left out: %s; real_report.json lists them", told)


def _check_picture(path: Path, folder: Path, data: Data) -> Candidate:
    pixels, notes = decoding.read_image(decoding.ensure_inside(path, folder, FOLDER), data.picture_window)
    image = with_channels(pixels, data)
    masks = np.zeros((0, data.size, data.size), np.uint8)
    about = {"split": UNLABELLED, "source": UNLABELLED, "origin": _location(path), "notes": tuple(notes)}
    sample = replace(Sample(path.stem, image, masks), image=Picture(path, data), **about)
    shape = image.shape[1], image.shape[2]
    return Candidate(sample, hashing.content_hash(image), hashing.perceptual_hash(image), shape)


def _without_masks(sample: Sample) -> Sample:
    return replace(sample, masks=sample.masks[:0], native=b"", split=UNLABELLED)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_TYPES and not path.name.startswith(".") and path.is_file()


def _location(path: Path) -> str:
    return decoding.display_path(path, Path())


def _more(found: Sequence[object], relation: str = "are") -> str:
    return f", and {len(found) - 1} more {relation} held-out images" if len(found) > 1 else ""
