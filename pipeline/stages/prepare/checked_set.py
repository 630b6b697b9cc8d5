"""From a reader to a data set without faults: decode, check, split, name. Nothing is written."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.core import files, plugins
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data import hashing, splitting
from pipeline.data.decoding import Fault, Item
from pipeline.data.sample import Sample
from pipeline.stages.prepare import set_checks, unlabelled
from pipeline.stages.prepare.attributes import Values, read_attributes
from pipeline.stages.prepare.pair_checks import Candidate, check_pair
from pipeline.stages.prepare.params import Data
from pipeline.stages.prepare.unlabelled import UnlabelledImages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadPairs:
    """The pairs of a reader after the checks of single pairs."""

    candidates: tuple[Candidate, ...]
    faults: tuple[Fault, ...]
    lost_splits: frozenset[
        str | None
    ]  # splits of pairs that cannot be used; None if a pair has none or it is not known


@dataclass(frozen=True)
class NearDuplicate:
    """Two images in different splits that look alike: positions in the list of pairs, and how many bits differ."""

    first: int
    second: int
    bits: int  # of hashing's 191


@dataclass(frozen=True)
class InspectedSet:
    """A data set with its faults: the pairs that can be used, their splits, and all that is wrong."""

    candidates: tuple[Candidate, ...]
    original_splits: tuple[str, ...]  # of every pair, before regrouping
    splits: tuple[str, ...]  # and after
    near_duplicates: tuple[NearDuplicate, ...]
    faults: tuple[Fault, ...]
    units: tuple[str, ...]  # of every pair: what a drawn split or a fold does not divide
    unlabelled: tuple[Candidate, ...] = ()  # images without masks of data.unlabelled.folder
    attributes: tuple[Values, ...] = ()  # of every pair, by column of data.attributes


@dataclass(frozen=True)
class CheckedSet:
    """A data set without faults: samples under pseudonyms, sorted by id, and the facts of the data report."""

    samples: tuple[Sample, ...]
    near_duplicates: tuple[tuple[str, str, int], ...]  # ids of pairs across splits, and how many bits differ
    moved: tuple[str, ...]  # ids that regrouping moved into train
    digest: str  # of images, masks, names and splits
    unlabelled: UnlabelledImages = field(default_factory=UnlabelledImages)
    attributes: Mapping[str, Values] = field(default_factory=dict)  # by id


def load_checked_set(data: Data, seed: int) -> CheckedSet:
    """Read and check a data set. Raises UserError naming every fault."""
    inspected = inspect(data, seed)
    if inspected.faults:
        raise UserError(_message(inspected.faults))
    _warn(inspected, data)
    checked = assign_names(inspected, data, seed)
    if absent := set_checks.absent_classes(checked.samples, data.num_classes):
        raise UserError(_message(absent))
    return replace(checked, unlabelled=_unlabelled(inspected, checked, data))


def inspect(data: Data, seed: int) -> InspectedSet:
    """Read a data set and find all its faults but absent classes. Raises UserError."""
    pairs = read_pairs(data)
    candidates, faults = pairs.candidates, [*pairs.faults]
    alike = hashing.near_duplicates([c.perceptual_hash for c in candidates])
    units = _units(candidates, alike, data)
    if faults and _too_few_for_folds(units, data):  # the pairs with faults are missing, and these are what to mend
        undivided = ("train",) * len(candidates)
        faults += unlabelled.read_folder(data)[1]
        return InspectedSet(candidates, undivided, undivided, (), tuple(faults), tuple(units))
    original = _splits(pairs, units, data, seed)
    near = [NearDuplicate(*pair) for pair in alike if _across_splits(pair, candidates, original)]
    splits = original
    if data.near_duplicates == "regroup":
        groups = [c.split_group for c in candidates]
        splits = splitting.regroup(original, groups, [(i, j) for i, j, _ in alike])
    if data.near_duplicates == "error":
        faults += _near_faults(near, candidates, original)
    faults += set_checks.repeated_images(candidates, original)
    faults += set_checks.set_faults(candidates, splits, pairs.lost_splits, data)
    more, more_faults = unlabelled.read_folder(data)
    faults += [*more_faults, *unlabelled.held_out_faults(more, candidates, splits, data)]
    attributes, table_faults = read_attributes(data, [c.location for c in candidates])
    faults += table_faults
    parts = tuple(original), tuple(splits), tuple(near), tuple(faults), tuple(units), tuple(more), tuple(attributes)
    return InspectedSet(candidates, *parts)


def read_pairs(data: Data) -> ReadPairs:
    """Return all pairs that can be used, and the faults of the others."""
    return check_items(list_items(data), data)


def list_items(data: Data) -> list[Item]:
    """Return what the reader finds, undecoded where it lies in files. Raises UserError."""
    reader_params = plugins.read_params("readers", data.reader, data.options, "data")
    return list(plugins.load("readers", data.reader).read(data, reader_params))


def check_items(items: Sequence[Item], data: Data) -> ReadPairs:
    """Decode and check items of the reader; return the pairs that can be used, and the faults of the others."""
    candidates: list[Candidate] = []
    faults: list[Fault] = []
    lost_splits: set[str | None] = set()
    for item in track(items, "prepare: checking"):
        result = check_pair(item, data)
        if isinstance(result, Candidate):
            candidates.append(result)
        else:
            faults += result
            lost_splits.add(None if isinstance(item, Fault) else item.split)
    return ReadPairs(tuple(candidates), tuple(faults), frozenset(lost_splits))


def _units(candidates: Sequence[Candidate], alike: Sequence[tuple[int, int, int]], data: Data) -> list[str]:
    """Return what is dealt and drawn as one: a group, and in folds with near_duplicates regroup all that look alike.

    So every image is tested once. Without folds, near-duplicates across splits move into train instead.
    """
    groups = [c.split_group for c in candidates]
    if data.folds is None or data.near_duplicates != "regroup":
        return groups
    return splitting.join(groups, [(i, j) for i, j, _ in alike])


def _splits(pairs: ReadPairs, groups: Sequence[str], data: Data, seed: int) -> list[str]:
    """Return the split of every pair; a split of the data set is not drawn, even if none of its pairs can be used."""
    splits: list[str | None] = [c.sample.split for c in pairs.candidates]
    shares = {"test": data.test_share, "val": data.val_share}
    if data.folds is not None:
        splits, shares = _fold(splits, groups, data, seed), {"val": data.val_share}
    missing = {split: share for split, share in shares.items() if split not in pairs.lost_splits}
    return splitting.assign_splits(splits, groups, missing, seed)


def _fold(splits: Sequence[str | None], groups: Sequence[str], data: Data, seed: int) -> list[str | None]:
    """Return test for the images of the study's fold. Raises UserError if there are splits, or too few groups."""
    if present := sorted({split for split in splits if split}):
        raise UserError(f"data.folds: the data set has splits of its own ({', '.join(present)}); folds would mix them")
    if _too_few_for_folds(groups, data):
        raise UserError(f"data.folds is {data.folds}, but there are {len(set(groups))} images or groups to divide")
    folds = splitting.assign_folds(groups, data.folds or 1, seed)
    return ["test" if fold == data.fold else None for fold in folds]


def _too_few_for_folds(groups: Sequence[str], data: Data) -> bool:
    return data.folds is not None and len(set(groups)) <= data.folds


def _across_splits(pair: tuple[int, int, int], candidates: Sequence[Candidate], splits: Sequence[str]) -> bool:
    """Return whether two images are in two splits; the very same image twice is another fault."""
    i, j, _ = pair
    return splits[i] != splits[j] and candidates[i].digest != candidates[j].digest


def _near_faults(
    near: Sequence[NearDuplicate], candidates: Sequence[Candidate], splits: Sequence[str]
) -> Iterator[Fault]:
    for pair in near:
        i, j = pair.first, pair.second
        message = f"look the same ({pair.bits} of 191 bits differ) and lie in {splits[i]} and {splits[j]}"
        cure = "keep them in one split, or set data.near_duplicates to regroup or warn"
        yield Fault(f"{candidates[i].location} and {candidates[j].location}", f"{message}; {cure}")


def _message(faults: Sequence[Fault]) -> str:
    lines = list(dict.fromkeys(map(str, faults)))
    count = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    return "\n  ".join([f"the data set has {count}; nothing was written", *lines])


def _warn(inspected: InspectedSet, data: Data) -> None:
    if inspected.near_duplicates:
        action = "moved into train" if data.near_duplicates == "regroup" else "kept (data.near_duplicates: warn)"
        count = len(inspected.near_duplicates)
        log.warning("near-duplicates across splits: %d pairs, %s; real_report.json lists them", count, action)
    if divided := set_checks.groups_across(inspected.candidates, inspected.splits):
        log.warning("groups that the split lists divide: %d, for example %s", len(divided), divided[0])


def assign_names(inspected: InspectedSet, data: Data, seed: int) -> CheckedSet:
    """Return a set without faults with the pseudonym and the prompt of every sample."""
    candidates = inspected.candidates
    ids = pseudonyms(candidates)
    samples = [
        replace(_drop_unused_native(c.sample, s), id=i, split=s, prompt=prompt_of(c.sample, data), group=group)
        for c, i, s, group in zip(candidates, ids, inspected.splits, _groups(candidates, ids), strict=True)
    ]
    by_id = sorted(_limited(samples, inspected.units, data, seed), key=lambda sample: sample.id)
    transitions = zip(ids, inspected.original_splits, inspected.splits, strict=True)
    moved = sorted(i for i, before, after in transitions if before != after)
    near = tuple(sorted((ids[pair.first], ids[pair.second], pair.bits) for pair in inspected.near_duplicates))
    images = {i: c.digest for i, c in zip(ids, candidates, strict=True)}
    content = [
        (s.id, s.split, s.origin, s.prompt, s.source, images[s.id], hashing.content_hash(s.masks)) for s in by_id
    ]
    attributes = dict(zip(ids, inspected.attributes, strict=True))
    return CheckedSet(tuple(by_id), near, tuple(moved), files.fingerprint(content), attributes=attributes)


def _drop_unused_native(sample: Sample, split: str) -> Sample:
    """Keep masks of the images' own size for validation and test only: they are for scoring."""
    return sample if split in splitting.HELD_OUT else replace(sample, native=b"")


def _groups(candidates: Sequence[Candidate], ids: Sequence[str]) -> list[str]:
    """Return group_<number> of every pair in a group, numbered by its lowest id, so that no patient's name leaks."""
    lowest: dict[str, str] = {}
    for name, candidate in sorted(zip(ids, candidates, strict=True), key=lambda pair: pair[0]):
        lowest.setdefault(candidate.sample.group, name)
    number = {group: rank for rank, group in enumerate(group for group in lowest if group)}
    return [f"group_{number[c.sample.group]:05d}" if c.sample.group else "" for c in candidates]


def _unlabelled(inspected: InspectedSet, checked: CheckedSet, data: Data) -> UnlabelledImages:
    """Return the images without masks. Raises UserError where data.unlabelled leaves none."""
    named = {sample.id: sample for sample in checked.samples}
    samples = [named[name] for name in pseudonyms(inspected.candidates)]
    ids = pseudonyms(inspected.unlabelled, splitting.UNLABELLED)
    return unlabelled.choose(inspected.unlabelled, ids, inspected.candidates, samples, checked.near_duplicates, data)


def _limited(samples: Sequence[Sample], units: Sequence[str], data: Data, seed: int) -> list[Sample]:
    """Return all samples; training samples beyond data.train_limit become the split `reserve`.

    The first ones by id stay: ids are numbered by content, so the choice is arbitrary but fixed. In folds whole groups
    stay, in seeded order, for the training images of a fold are made of the groups of the others.
    """
    if data.train_limit is None:
        return list(samples)
    train = [position for position, sample in enumerate(samples) if sample.split == "train"]
    if data.folds is None:
        beyond = {*sorted(train, key=lambda position: samples[position].id)[data.train_limit :]}
    else:
        far = splitting.beyond_limit([units[position] for position in train], data.train_limit, seed)
        beyond = {position for position, is_beyond in zip(train, far, strict=True) if is_beyond}
    return [replace(s, split=splitting.RESERVE) if position in beyond else s for position, s in enumerate(samples)]


def pseudonyms(candidates: Sequence[Candidate], prefix: str = "case") -> list[str]:
    """Return <prefix>_<number>, numbered by content: an id reveals neither the name of the file nor its position.

    It does not name the split either: Hugging Face's imagefolder takes "train" in a file's name for a split and then
    ignores the metadata. It is not a hash: synthetic images carry it and must not lead back to a real one.
    """
    order = sorted(range(len(candidates)), key=lambda p: (candidates[p].digest, candidates[p].location))
    number = {position: rank for rank, position in enumerate(order)}
    return [f"{prefix}_{number[position]:05d}" for position in range(len(candidates))]


def prompt_of(sample: Sample, data: Data) -> str:
    """Return the prompt of the pair, else the one of params.yaml for all or for its source."""
    return sample.prompt or (data.prompt if isinstance(data.prompt, str) else data.prompt[sample.source])
