"""Checks of a whole data set, each a list of faults: what no single pair shows."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from pipeline.data import grids, nifti
from pipeline.data.decoding import Fault
from pipeline.data.sample import Sample
from pipeline.data.splitting import SPLITS
from pipeline.stages.prepare.candidates import Candidate
from pipeline.stages.prepare.params import Data

SAFE_ID = re.compile(r"[a-z0-9_-]+")


def check_set(
    candidates: Sequence[Candidate], splits: Sequence[str], lost: frozenset[str | None], data: Data
) -> list[Fault]:
    """Every fault of the set as it will be written; `lost` are the splits of pairs that are faults themselves."""
    faults = [*unsafe_ids(candidates), *missing_prompts(candidates, data), *empty_masks(candidates, splits)]
    return [*faults, *differing_spacings(candidates), *differing_raters(candidates), *empty_splits(splits, lost)]


def unsafe_ids(candidates: Sequence[Candidate]) -> list[Fault]:
    """Ids with other signs than a-z 0-9 _ -, and two pairs with one id."""
    faults = [Fault(c.where, f"its id {c.sample.id!r} has signs other than a-z 0-9 _ -") for c in candidates if _odd(c)]
    for name, same in _by(candidates, lambda c: c.sample.id).items():
        if len(same) > 1:
            faults.append(Fault(_wheres(same), f"all come to the id {name!r}; rename all but one"))
    return faults


def missing_prompts(candidates: Sequence[Candidate], data: Data) -> list[Fault]:
    """Sources that the prompts of params.yaml do not name (a pair's own prompt comes first)."""
    if isinstance(data.prompt, str):
        return []
    sources = sorted({c.sample.source for c in candidates if not c.sample.prompt} - set(data.prompt))
    there = ", ".join(data.prompt) or "none"
    return [Fault("data.prompt", f"has no prompt for the source {source!r}; it names: {there}") for source in sources]


def repeated_images(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[Fault]:
    """Images whose pixels are found in more than one split."""
    split_of = {id(c): split for c, split in zip(candidates, splits, strict=True)}
    faults = []
    for same in _by(candidates, lambda c: c.digest).values():
        found = sorted({split_of[id(c)] for c in same}, key=SPLITS.index)
        if len(found) > 1:
            faults.append(Fault(_wheres(same), f"the same image in {' and '.join(found)}; keep it in one split"))
    return faults


def empty_splits(splits: Sequence[str], lost: frozenset[str | None]) -> list[Fault]:
    """Splits without any image (that no other fault has emptied); one line where there is no image at all."""
    if not splits:
        return [] if lost else [Fault("data", "no pair found; see docs/your_own_data.md for the layouts")]
    what = "holds no image; a split needs at least one, a drawn split at least three images or groups to draw from"
    return [Fault(f"split {split}", what) for split in SPLITS if split not in {*splits, *lost}]


def empty_masks(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[Fault]:
    """Splits whose masks hold background only; one line where this is so for the whole set."""
    if not candidates:
        return []
    full = {split for c, split in zip(candidates, splits, strict=True) if c.sample.masks.any()}
    empty = [split for split in SPLITS if split in splits and split not in full]
    what = "every mask is empty (background only); are these the right files, and is data.num_classes right?"
    return [Fault(f"split {split}", what) for split in empty] if full else [Fault("data", what)]


def absent_classes(samples: Sequence[Sample], num_classes: int) -> list[Fault]:
    """Labels that no training mask holds, background included: nobody can learn them."""
    found = Counter(label for s in samples if s.split == "train" for label in np.unique(s.masks).tolist())
    elsewhere = Counter(label for s in samples if s.split != "train" for label in np.unique(s.masks).tolist())
    faults = []
    for label in (label for label in range(num_classes) if not found[label]):
        name = f"label {label}" if label else "background (label 0)"
        there = f"{elsewhere[label]} other masks hold it" if elsewhere[label] else "nor in any other"
        cure = "check data.num_classes and the masks' values, and data.train_limit"
        faults.append(Fault(name, f"is in no training mask ({there}); {cure}"))
    return faults


def differing_spacings(candidates: Sequence[Candidate]) -> list[Fault]:
    """Volumes whose voxels have another size than those of most."""
    sizes = {id(c): nifti.spacing(c.sample.affine) for c in candidates if c.sample.affine is not None}
    usual = Counter(tuple(round(side, 3) for side in size) for size in sizes.values()).most_common(1)
    odd = [c for c in candidates if usual and not grids.same_spacing(sizes[id(c)], usual[0][0])]
    cure = "set data.spacing to resample all to one"
    return [Fault(c.where, f"has voxels of {_mm(sizes[id(c)])}, most others {_mm(usual[0][0])}; {cure}") for c in odd]


def differing_raters(candidates: Sequence[Candidate]) -> list[Fault]:
    """Samples with fewer or more masks than most."""
    usual = Counter(len(c.sample.masks) for c in candidates).most_common(1)
    odd = [c for c in candidates if len(c.sample.masks) != usual[0][0]]
    what = "has the masks of {} raters, most others of {}; add or remove some"
    return [Fault(c.where, what.format(len(c.sample.masks), usual[0][0])) for c in odd]


def _mm(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:.4g}" for side in sides) + " mm"


def groups_across(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[str]:
    """Groups that the data set's own lists divide between splits."""
    members = defaultdict(set)
    for candidate, split in zip(candidates, splits, strict=True):
        members[candidate.sample.group].add(split)
    return sorted(group for group, found in members.items() if group and len(found) > 1)


def _odd(candidate: Candidate) -> bool:
    return SAFE_ID.fullmatch(candidate.sample.id) is None


def _wheres(candidates: Iterable[Candidate]) -> str:
    return " and ".join(sorted(c.where for c in candidates))


def _by(candidates: Iterable[Candidate], key: Callable[[Candidate], str]) -> dict[str, list[Candidate]]:
    found = defaultdict(list)
    for candidate in candidates:
        found[key(candidate)].append(candidate)
    return found
