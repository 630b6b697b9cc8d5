"""From a reader to a data set without faults: decode, check, split, name. Writes nothing."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.core import files, plugins
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data import hashing, splitting
from pipeline.data.decoding import Fault
from pipeline.data.sample import Sample
from pipeline.stages.prepare import checks
from pipeline.stages.prepare.candidates import Candidate, examine
from pipeline.stages.prepare.params import Data

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What a reader gave, examined."""

    candidates: tuple[Candidate, ...]
    faults: tuple[Fault, ...]
    lost: frozenset[str | None]  # splits of what cannot be used; None where it has none or nobody knows


@dataclass(frozen=True)
class Near:
    """Two images in different splits that look the same: positions in the list of pairs, and how many bits differ."""

    first: int
    second: int
    bits: int  # of hashing's 191


@dataclass(frozen=True)
class Examined:
    """A data set as it is: the pairs that can be used, where they lie, and what is wrong with it."""

    candidates: tuple[Candidate, ...]
    brought: tuple[str, ...]  # split of every pair, before regrouping
    splits: tuple[str, ...]  # and after
    near: tuple[Near, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Checked:
    """A data set without faults: samples under pseudonyms, sorted by id, and what the data report tells of them."""

    samples: tuple[Sample, ...]
    near: tuple[tuple[str, str, int], ...]  # ids of look-alikes that lay in two splits, and how many bits differ
    moved: tuple[str, ...]  # ids that regrouping moved into train
    digest: str  # of images, masks, names and splits


def check(data: Data, seed: int) -> Checked:
    """Reads and checks a data set. Raises UserError naming every fault."""
    found = examine_set(data, seed)
    if found.faults:
        raise UserError(_told(found.faults))
    _warn(found, data)
    named = name(found, data)
    if absent := checks.absent_classes(named.samples, data.num_classes):
        raise UserError(_told(absent))
    return named


def examine_set(data: Data, seed: int) -> Examined:
    """Reads a data set and finds everything that is wrong with it, but for absent classes. Raises UserError."""
    found = read(data)
    candidates, faults = found.candidates, [*found.faults]
    brought = _splits(found, data, seed)
    pairs = hashing.near_pairs([c.look for c in candidates])
    near = [Near(*pair) for pair in pairs if _look_alikes_apart(pair, candidates, brought)]
    splits = brought
    if data.near_duplicates == "regroup":
        groups = [c.split_group for c in candidates]
        splits = splitting.regroup(brought, groups, [(i, j) for i, j, _ in pairs])
    if data.near_duplicates == "error":
        faults += _near_faults(near, candidates, brought)
    faults += checks.repeated_images(candidates, brought)
    faults += checks.check_set(candidates, splits, found.lost, data)
    return Examined(candidates, tuple(brought), tuple(splits), tuple(near), tuple(faults))


def read(data: Data) -> Found:
    """All pairs that can be used, and what is wrong with the others."""
    own = plugins.read_params("readers", data.reader, data.own, "data")
    items = list(plugins.load("readers", data.reader).read(data, own))
    candidates: list[Candidate] = []
    faults: list[Fault] = []
    lost: set[str | None] = set()
    for item in track(items, "prepare: checking"):
        examined = examine(item, data)
        if isinstance(examined, Candidate):
            candidates.append(examined)
        else:
            faults += examined
            lost.add(None if isinstance(item, Fault) else item.split)
    return Found(tuple(candidates), tuple(faults), frozenset(lost))


def _splits(found: Found, data: Data, seed: int) -> list[str]:
    """The split of every pair; one that the data set brings is not drawn, even where none of its pairs can be used."""
    candidates = found.candidates
    splits, groups = [c.sample.split for c in candidates], [c.split_group for c in candidates]
    shares = {"test": data.test_share, "val": data.val_share}
    if data.folds is not None:
        splits, shares = _fold(splits, groups, data, seed), {"val": data.val_share}
    missing = {split: share for split, share in shares.items() if split not in found.lost}
    return splitting.fill(splits, groups, missing, seed)


def _fold(splits: Sequence[str | None], groups: Sequence[str], data: Data, seed: int) -> list[str | None]:
    """test for the images of the study's fold. Raises UserError where the data set has splits, or too few groups."""
    if brought := sorted({split for split in splits if split}):
        raise UserError(f"data.folds: the data set has splits of its own ({', '.join(brought)}); folds would mix them")
    if len(set(groups)) <= (data.folds or 0):
        raise UserError(f"data.folds is {data.folds}, but there are {len(set(groups))} images or groups to deal out")
    dealt = splitting.deal(groups, data.folds or 1, seed)
    return ["test" if fold == data.fold else None for fold in dealt]


def _look_alikes_apart(pair: tuple[int, int, int], candidates: Sequence[Candidate], splits: Sequence[str]) -> bool:
    """Whether the two lie in two splits; the very same image twice is another fault."""
    i, j, _ = pair
    return splits[i] != splits[j] and candidates[i].digest != candidates[j].digest


def _near_faults(near: Sequence[Near], candidates: Sequence[Candidate], splits: Sequence[str]) -> Iterator[Fault]:
    for pair in near:
        i, j = pair.first, pair.second
        what = f"look the same ({pair.bits} of 191 bits differ) and lie in {splits[i]} and {splits[j]}"
        cure = "keep them in one split, or set data.near_duplicates to regroup or warn"
        yield Fault(f"{candidates[i].where} and {candidates[j].where}", f"{what}; {cure}")


def _told(faults: Sequence[Fault]) -> str:
    lines = list(dict.fromkeys(map(str, faults)))
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    return "\n  ".join([f"the data set has {count}; nothing was written", *lines])


def _warn(found: Examined, data: Data) -> None:
    if found.near:
        what = "moved into train" if data.near_duplicates == "regroup" else "kept (data.near_duplicates: warn)"
        log.warning("near-duplicates across splits: %d pairs, %s; real_report.json lists them", len(found.near), what)
    if divided := checks.groups_across(found.candidates, found.splits):
        log.warning("groups that the split lists divide: %d, for example %s", len(divided), divided[0])


def name(found: Examined, data: Data) -> Checked:
    """Gives every sample of a set without faults its pseudonym and its prompt."""
    candidates = found.candidates
    ids = pseudonyms(candidates)
    samples = [
        replace(_without_spare(c.sample, s), id=i, split=s, prompt=prompt(c.sample, data), group=group)
        for c, i, s, group in zip(candidates, ids, found.splits, _groups(candidates, ids), strict=True)
    ]
    by_id = limited(sorted(samples, key=lambda sample: sample.id), data.train_limit)
    changed = zip(ids, found.brought, found.splits, strict=True)
    moved = sorted(i for i, before, after in changed if before != after)
    apart = tuple(sorted((ids[pair.first], ids[pair.second], pair.bits) for pair in found.near))
    images = {own: c.digest for own, c in zip(ids, candidates, strict=True)}
    content = [(s.id, s.split, s.origin, s.prompt, s.source, images[s.id], hashing.content(s.masks)) for s in by_id]
    return Checked(tuple(by_id), apart, tuple(moved), files.fingerprint(content))


def _without_spare(sample: Sample, split: str) -> Sample:
    """Masks of their own size are for scoring, so those of validation and test are kept."""
    return sample if split in splitting.HELD_OUT else replace(sample, native=b"")


def _groups(candidates: Sequence[Candidate], ids: Sequence[str]) -> list[str]:
    """group_<number> of every pair that has a group, numbered by the lowest id in it: a patient's name stays."""
    lowest: dict[str, str] = {}
    for name, candidate in sorted(zip(ids, candidates, strict=True), key=lambda pair: pair[0]):
        lowest.setdefault(candidate.sample.group, name)
    number = {group: rank for rank, group in enumerate(group for group in lowest if group)}
    return [f"group_{number[c.sample.group]:05d}" if c.sample.group else "" for c in candidates]


def limited(samples: Sequence[Sample], train_limit: int | None) -> list[Sample]:
    """All samples; training samples after the first `train_limit` become the split `reserve`.

    Ids go by content, so the choice is blind but fixed.
    """
    train = [sample.id for sample in samples if sample.split == "train"]
    beyond = set(train[train_limit:]) if train_limit is not None else set()
    return [replace(sample, split=splitting.RESERVE) if sample.id in beyond else sample for sample in samples]


def pseudonyms(candidates: Sequence[Candidate]) -> list[str]:
    """case_<number>, numbered by content: an id tells nothing of the file's name or its place among the others.

    It does not name the split either: Hugging Face's imagefolder takes "train" in a file's name for a split of its own
    and then passes over the metadata. It is no hash: synthetic images carry it and must not lead back to a real one.
    """
    order = sorted(range(len(candidates)), key=lambda p: (candidates[p].digest, candidates[p].where))
    number = {position: rank for rank, position in enumerate(order)}
    return [f"case_{number[position]:05d}" for position in range(len(candidates))]


def prompt(sample: Sample, data: Data) -> str:
    """The pair's own prompt, else the one that params.yaml has for all or for its source."""
    return sample.prompt or (data.prompt if isinstance(data.prompt, str) else data.prompt[sample.source])
