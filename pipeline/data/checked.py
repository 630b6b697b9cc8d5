"""From a reader to a data set without faults: decode, check, split, name. Writes nothing."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline import files, plugins, tracking
from pipeline.data import checks, hashing, splitting
from pipeline.data.candidates import Candidate, examine
from pipeline.data.decoding import Fault
from pipeline.data.sample import Sample
from pipeline.errors import UserError
from pipeline.params import Data

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Near:
    """Two images in different splits that look the same: positions in the list of pairs, and how many bits differ."""

    first: int
    second: int
    bits: int  # of hashing's 191


@dataclass(frozen=True)
class Checked:
    """A data set without faults: samples under pseudonyms, sorted by id, and what the data report tells of them."""

    samples: tuple[Sample, ...]
    near: tuple[tuple[str, str, int], ...]  # ids of look-alikes that lay in two splits, and how many bits differ
    moved: tuple[str, ...]  # ids that regrouping moved into train
    digest: str  # of images, masks, names and splits


def check(data: Data, seed: int) -> Checked:
    """Reads and checks a data set. Raises UserError naming every fault."""
    candidates, faults = read(data)
    groups = [c.split_group for c in candidates]
    shares = {"test": data.test_share, "val": data.val_share}
    brought = splitting.fill([c.sample.split for c in candidates], groups, shares, seed)
    pairs = hashing.near_pairs([c.look for c in candidates])
    near = [Near(*pair) for pair in pairs if _look_alikes_apart(pair, candidates, brought)]
    splits = brought
    if data.near_duplicates == "regroup":
        splits = splitting.regroup(brought, groups, [(i, j) for i, j, _ in pairs])
    if data.near_duplicates == "error":
        faults += _near_faults(near, candidates, brought)
    if candidates or not faults:
        faults += [*checks.repeated_images(candidates, brought), *checks.check_set(candidates, splits, data)]
    if faults:
        raise UserError(_told(faults))
    _warn(candidates, splits, near, data)
    return _named(candidates, brought, splits, near, data)


def read(data: Data) -> tuple[list[Candidate], list[Fault]]:
    """All pairs that can be used, and what is wrong with the others."""
    own = plugins.read_params("readers", data.reader, data.own, "data")
    items = list(plugins.load("readers", data.reader).read(data, own))
    candidates: list[Candidate] = []
    faults: list[Fault] = []
    for item in tracking.progress(items, "prepare: checking"):
        found = examine(item, data)
        if isinstance(found, Candidate):
            candidates.append(found)
        else:
            faults += found
    return candidates, faults


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


def _warn(candidates: Sequence[Candidate], splits: Sequence[str], near: Sequence[Near], data: Data) -> None:
    if near:
        what = "moved into train" if data.near_duplicates == "regroup" else "kept (data.near_duplicates: warn)"
        log.warning("near-duplicates across splits: %d pairs, %s; real_report.json lists them", len(near), what)
    if divided := checks.groups_across(candidates, splits):
        log.warning("groups that the split lists divide: %d, for example %s", len(divided), divided[0])


def _named(
    candidates: Sequence[Candidate], brought: Sequence[str], splits: Sequence[str], near: Sequence[Near], data: Data
) -> Checked:
    """Gives every sample its pseudonym and its prompt."""
    ids = pseudonyms(candidates, splits)
    samples = [
        replace(c.sample, id=i, split=s, prompt=prompt(c.sample, data))
        for c, i, s in zip(candidates, ids, splits, strict=True)
    ]
    moved = sorted(i for i, before, after in zip(ids, brought, splits, strict=True) if before != after)
    look_alikes = sorted((ids[pair.first], ids[pair.second], pair.bits) for pair in near)
    content = sorted(
        (s.id, s.origin, s.prompt, s.source, hashing.content(s.masks), c.digest)
        for s, c in zip(samples, candidates, strict=True)
    )
    by_id = sorted(samples, key=lambda sample: sample.id)
    return Checked(tuple(by_id), tuple(look_alikes), tuple(moved), files.fingerprint(content))


def pseudonyms(candidates: Sequence[Candidate], splits: Sequence[str]) -> list[str]:
    """<split>_<number>, numbered by content: an id tells nothing of the file's name or its place among the others."""
    ids = [""] * len(candidates)
    count: Counter[str] = Counter()
    for position in sorted(range(len(candidates)), key=lambda p: (candidates[p].digest, candidates[p].where)):
        split = splits[position]
        ids[position] = f"{split}_{count[split]:05d}"
        count[split] += 1
    return ids


def prompt(sample: Sample, data: Data) -> str:
    """The pair's own prompt, else the one that params.yaml has for all or for its source."""
    return sample.prompt or (data.prompt if isinstance(data.prompt, str) else data.prompt[sample.source])
