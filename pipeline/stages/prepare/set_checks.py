"""Checks of a data set as a whole, for faults that no single pair shows. Each returns a list of faults."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pipeline.data import grids, labels, nifti
from pipeline.data.decoding import Fault
from pipeline.data.sample import Sample
from pipeline.data.splitting import HELD_OUT, SPLITS
from pipeline.stages.prepare.pair_checks import Candidate
from pipeline.stages.prepare.params import Data

SAFE_ID = re.compile(r"[a-z0-9_-]+")


def set_faults(
    candidates: Sequence[Candidate], splits: Sequence[str], lost_splits: frozenset[str | None], data: Data
) -> list[Fault]:
    """Return every fault of the set as it will be written; `lost_splits` are those of pairs that cannot be used."""
    faults = [*unsafe_ids(candidates), *missing_prompts(candidates, data), *empty_masks(candidates, splits)]
    faults += ignored_in_held_out(candidates, splits)
    return [*faults, *differing_spacings(candidates), *differing_raters(candidates), *empty_splits(splits, lost_splits)]


def unsafe_ids(candidates: Sequence[Candidate]) -> list[Fault]:
    """Return ids with characters other than a-z 0-9 _ -, and ids that several pairs share."""
    faults = [
        Fault(c.location, f"its id {c.sample.id!r} has characters other than a-z 0-9 _ -")
        for c in candidates
        if _has_unsafe_id(c)
    ]
    for name, same in _group_by(candidates, lambda c: c.sample.id).items():
        if len(same) > 1:
            faults.append(Fault(_locations(same), f"all get the id {name!r}; rename all but one"))
    return faults


def missing_prompts(candidates: Sequence[Candidate], data: Data) -> list[Fault]:
    """Return sources without a prompt in params.yaml (the prompt of a pair takes precedence)."""
    if isinstance(data.prompt, str):
        return []
    sources = sorted({c.sample.source for c in candidates if not c.sample.prompt} - set(data.prompt))
    known = ", ".join(data.prompt) or "none"
    return [Fault("data.prompt", f"has no prompt for the source {source!r}; it names: {known}") for source in sources]


def repeated_images(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[Fault]:
    """Return images that are in more than one split, by their pixels."""
    split_of = {id(c): split for c, split in zip(candidates, splits, strict=True)}
    faults = []
    for same in _group_by(candidates, lambda c: c.digest).values():
        in_splits = sorted({split_of[id(c)] for c in same}, key=SPLITS.index)
        if len(in_splits) > 1:
            faults.append(Fault(_locations(same), f"the same image in {' and '.join(in_splits)}; keep it in one split"))
    return faults


def empty_splits(splits: Sequence[str], lost_splits: frozenset[str | None]) -> list[Fault]:
    """Return splits without any image that no other fault has emptied; one fault if there is no image at all."""
    if not splits:
        return [] if lost_splits else [Fault("data", "no pair found; see docs/your_own_data.md for the layouts")]
    message = "holds no image; a split needs at least one, a drawn split at least three images or groups to draw from"
    return [Fault(f"split {split}", message) for split in SPLITS if split not in {*splits, *lost_splits}]


def empty_masks(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[Fault]:
    """Return splits whose masks hold background only; one fault if all masks do."""
    if not candidates:
        return []
    pairs = zip(candidates, splits, strict=True)
    with_foreground = {split for c, split in pairs if labels.foreground(c.sample.masks).any()}
    empty = [split for split in SPLITS if split in splits and split not in with_foreground]
    message = "every mask is empty (background only); are these the right files, and is data.num_classes right?"
    return [Fault(f"split {split}", message) for split in empty] if with_foreground else [Fault("data", message)]


def ignored_in_held_out(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[Fault]:
    """Return validation and test masks with ignored pixels: every pixel of what is scored has a label."""
    message = "its mask has {} ignored pixels, but it is a {} image, and scores need every label; move it into train"
    return [
        Fault(c.location, message.format(c.ignored, split))
        for c, split in zip(candidates, splits, strict=True)
        if c.ignored and split in HELD_OUT
    ]


def absent_classes(samples: Sequence[Sample], num_classes: int) -> list[Fault]:
    """Return labels that no training mask holds, background included: they cannot be learned."""
    in_train = Counter(label for s in samples if s.split == "train" for label in np.unique(s.masks).tolist())
    elsewhere = Counter(label for s in samples if s.split != "train" for label in np.unique(s.masks).tolist())
    faults = []
    for label in (label for label in range(num_classes) if not in_train[label]):
        name = f"label {label}" if label else "background (label 0)"
        others = f"{elsewhere[label]} other masks hold it" if elsewhere[label] else "nor in any other"
        cure = "check data.num_classes and the masks' values, and data.train_limit"
        faults.append(Fault(name, f"is in no training mask ({others}); {cure}"))
    return faults


def differing_spacings(candidates: Sequence[Candidate]) -> list[Fault]:
    """Return volumes whose voxel size differs from the most common one."""
    sizes = {id(c): nifti.spacing(c.sample.affine) for c in candidates if c.sample.affine is not None}
    usual = Counter(tuple(round(side, 3) for side in size) for size in sizes.values()).most_common(1)
    different = [c for c in candidates if usual and not grids.same_spacing(sizes[id(c)], usual[0][0])]
    cure = "set data.spacing to resample all to one"
    return [
        Fault(c.location, f"has voxels of {_mm(sizes[id(c)])}, most others {_mm(usual[0][0])}; {cure}")
        for c in different
    ]


def differing_raters(candidates: Sequence[Candidate]) -> list[Fault]:
    """Return samples with fewer or more masks than the most common number."""
    usual = Counter(len(c.sample.masks) for c in candidates).most_common(1)
    different = [c for c in candidates if len(c.sample.masks) != usual[0][0]]
    message = "has the masks of {} raters, most others of {}; add or remove some"
    return [Fault(c.location, message.format(len(c.sample.masks), usual[0][0])) for c in different]


def _mm(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:.4g}" for side in sides) + " mm"


def groups_across(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[str]:
    """Return the groups that the split lists of the data set divide between splits."""
    members = defaultdict(set)
    for candidate, split in zip(candidates, splits, strict=True):
        members[candidate.sample.group].add(split)
    return sorted(group for group, in_splits in members.items() if group and len(in_splits) > 1)


def _has_unsafe_id(candidate: Candidate) -> bool:
    return SAFE_ID.fullmatch(candidate.sample.id) is None


def _locations(candidates: Iterable[Candidate]) -> str:
    return " and ".join(sorted(c.location for c in candidates))


def _group_by(candidates: Iterable[Candidate], key: Callable[[Candidate], str]) -> dict[str, list[Candidate]]:
    groups = defaultdict(list)
    for candidate in candidates:
        groups[key(candidate)].append(candidate)
    return groups
