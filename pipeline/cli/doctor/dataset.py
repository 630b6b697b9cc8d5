"""Checks of the data set: all faults of stage prepare, and problems that it accepts silently."""

import statistics
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.cli.doctor.findings import Finding, count, error, errors, note, shortened, warning
from pipeline.cli.init_study.survey import spaced
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.decoding import Fault, FilePair, Item, channel_spread, headers_agree
from pipeline.data.image_files import RGB_CHANNELS, majority_vote
from pipeline.data.splitting import SPLITS
from pipeline.stages.prepare import checked_set, set_checks
from pipeline.stages.prepare.checked_set import InspectedSet
from pipeline.stages.prepare.pair_checks import Candidate
from pipeline.stages.prepare.params import Data

SAMPLED = 100  # pairs that are decoded where there are more, unless all are asked for
TINY = 16  # pixels at the study's size; a quarter of the 8 x 8 that one latent of Stable Diffusion covers
EMPTY = 0.25  # share of a split's masks
RARE = 0.02  # share of training masks that hold a class
THIN = 0.001  # share of training pixels of a class
FULL = 0.5  # share of an image that is foreground
GREY_LEVELS = 2  # between the channels of an image without colour
ASPECT = 2.0  # factor between an image's aspect and the median one
ENLARGED = 2.0  # factor
SMALL_TEST = 20  # images
GUIDE = "see docs/your_own_data.md"


def findings(data: Data, seed: int, thorough: bool = True) -> Iterator[Finding]:
    """Read the data set as stage prepare does and check it; unless `thorough`, of a large one a sample."""
    try:
        items = [] if thorough else checked_set.list_items(data)
        if len(items) > SAMPLED:
            yield from sample_findings(items, data)
            return
        examined = checked_set.inspect(data, seed)
    except UserError as fault:
        yield from errors("data", str(fault), GUIDE)
        return
    yield from (_fault(str(fault)) for fault in examined.faults)
    yield from leaks(examined, data.near_duplicates)
    if data.shape is None:
        yield from lesions(examined.candidates, data.size)
    yield from _empty(examined, _lost(examined.candidates) if data.shape is None else ())
    yield from classes(examined, data, seed)
    if data.planes == RGB_CHANNELS:
        yield from _grey(examined.candidates)
    if data.shape is None:
        yield from _sizes(examined.candidates, data.size)


def _fault(text: str) -> Finding:
    return next(errors("data", text, GUIDE))


def sample_findings(items: Sequence[Item], data: Data) -> Iterator[Finding]:
    """Check what the reader lists, the headers of all picture files, and the pixels of SAMPLED pairs, evenly spaced."""
    pairs = [item for item in items if not isinstance(item, Fault)]
    chosen = spaced(pairs, SAMPLED)
    decoded = {id(item) for item in chosen}
    others = [item for item in pairs if isinstance(item, FilePair) and id(item) not in decoded]
    odd = [item for item in track(others, "doctor: headers") if not headers_agree(item)]
    read = checked_set.check_items([*(item for item in items if isinstance(item, Fault)), *chosen, *odd], data)
    yield note(
        "sampled",
        f"{count(len(chosen) + len(odd), 'pair')} of {len(pairs)} decoded; no copies across splits, near-duplicates,"
        " divided groups or classes were looked for",
        "twinsynth doctor --thorough reads all; so does prepare",
    )
    yield from (_fault(str(fault)) for fault in read.faults)
    if data.shape is None:
        yield from lesions(read.candidates, data.size)
        yield from _sizes(read.candidates, data.size)
    if data.planes == RGB_CHANNELS:
        yield from _grey(read.candidates)


def leaks(examined: InspectedSet, near_duplicates: str) -> Iterator[Finding]:
    """Find near-duplicates and groups in two splits (an identical image is a fault of prepare)."""
    if near_duplicates == "warn" and examined.near_duplicates:
        pairs = [
            f"{examined.candidates[pair.first].location} ({examined.original_splits[pair.first]}) and"
            f" {examined.candidates[pair.second].location} ({examined.original_splits[pair.second]})"
            for pair in examined.near_duplicates
        ]
        yield warning(
            "near_duplicates",
            f"{count(len(pairs), 'pair')} of images that look the same in two splits: {shortened(pairs)}",
            "set data.near_duplicates: regroup, or give the images of one patient or video one group in manifest.csv",
        )
    if divided := set_checks.groups_across(examined.candidates, examined.splits):
        yield warning(
            "divided_groups",
            f"{count(len(divided), 'group')} divided by the split lists: {shortened(divided)}",
            "put all images of a group into one list of splits/, or remove the lists to have the split drawn",
        )


def lesions(candidates: Sequence[Candidate], size: int) -> Iterator[Finding]:
    """Find masks that are lost or tiny at the study's size, or cover most of the image."""
    areas = [int((majority_vote(c.sample.masks) > 0).sum()) for c in candidates]
    lost = _lost(candidates)
    tiny = [c.location for c, area in zip(candidates, areas, strict=True) if 0 < area < TINY]
    if lost:
        yield warning(
            "lost_lesions",
            f"{count(len(lost), 'mask')} whose foreground vanishes at {size} pixels: {shortened(lost)}",
            "raise data.size, or crop the images around the lesions",
        )
    if tiny:
        yield warning(
            "tiny_lesions",
            f"{count(len(tiny), 'mask')} with fewer than {TINY} foreground pixels at {size} pixels: {shortened(tiny)}",
            "raise data.size, crop the images, or remove stray pixels from the masks",
        )
    full = [c.location for c, area in zip(candidates, areas, strict=True) if area > FULL * size * size]
    if len(full) > len(areas) / 2:
        yield warning(
            "inverted_masks",
            f"foreground covers more than half of the image in {len(full)} of {len(areas)} masks",
            "look at a few: are lesion and background exchanged? Foreground is what exceeds 127, or a label above 0",
        )


def _lost(candidates: Sequence[Candidate]) -> list[str]:
    return [c.location for c in candidates if any("all foreground lost" in text for text in c.sample.notes)]


def _empty(examined: InspectedSet, lost: Sequence[str]) -> Iterator[Finding]:
    for split in SPLITS:
        members = [c for c, place in zip(examined.candidates, examined.splits, strict=True) if place == split]
        empty = [c.location for c in members if not c.sample.masks.any() and c.location not in lost]
        if EMPTY * len(members) < len(empty) < len(members):  # all of them is a fault of prepare
            yield warning(
                "empty_masks",
                f"{len(empty)} of {len(members)} masks of {split} are empty: {shortened(empty)}",
                "if there is nothing to see this is right, else find the masks; many empty masks teach to find nothing",
            )


def classes(examined: InspectedSet, data: Data, seed: int) -> Iterator[Finding]:
    """Find classes that are absent, rare or thin in training, or not tested."""
    if examined.faults:  # the splits may not be what they are meant to be
        return
    samples = checked_set.assign_names(examined, data, seed).samples
    yield from (_absent(str(fault)) for fault in set_checks.absent_classes(samples, data.num_classes))
    masks = {split: [majority_vote(s.masks) for s in samples if s.split == split] for split in SPLITS}
    for label in range(1, data.num_classes):
        counts = {split: sum(bool((mask == label).any()) for mask in masks[split]) for split in SPLITS}
        share = float(np.mean([(mask == label).mean() for mask in masks["train"]]))
        yield from _balance(label, counts, len(masks["train"]), share)
    if len(masks["test"]) < SMALL_TEST:
        yield note("small_test", f"the test split has {len(masks['test'])} images", "expect wide intervals")


def _absent(text: str) -> Finding:
    name, _, rest = text.partition(": ")
    found, _, cure = rest.rpartition("; ")
    return error("absent_classes", f"{name} {found}", cure)


def _balance(label: int, counts: dict[str, int], total: int, share: float) -> Iterator[Finding]:
    cure = "add images of it, merge it with another class, or report it apart"
    if 0 < counts["train"] < min(total, max(2, RARE * total)):
        yield warning("class_balance", f"label {label} is in {counts['train']} of {total} training masks", cure)
    elif 0 < share < THIN:
        message = f"label {label} covers {share:.2%} of the training pixels"
        yield warning("class_balance", message, "raise data.size or crop the images around it")
    for split in ("val", "test"):
        if counts["train"] and not counts[split]:
            yield warning("untested_classes", f"label {label} is in no mask of {split}", f"add images of it to {split}")


def _grey(candidates: Sequence[Candidate]) -> Iterator[Finding]:
    grey = [c.location for c in candidates if _is_grey(c)]
    if grey and len(grey) == len(candidates):
        yield note(
            "grey_images", "all images are grey; they are stored and generated as three equal channels", "nothing"
        )
    elif grey:
        yield warning(
            "grey_images",
            f"{len(grey)} of {len(candidates)} images without colour, the others with: {shortened(grey)}",
            "find out where they come from (another device, a converted copy); keep one kind, or make sources of them",
        )


def _is_grey(candidate: Candidate) -> bool:
    return int(channel_spread(np.asarray(candidate.sample.image, np.uint8)).max(initial=0)) <= GREY_LEVELS


def _sizes(candidates: Sequence[Candidate], size: int) -> Iterator[Finding]:
    if not candidates:
        return
    median = statistics.median(c.shape[1] / c.shape[0] for c in candidates)
    unusual = [c for c in candidates if not median / ASPECT <= c.shape[1] / c.shape[0] <= median * ASPECT]
    if unusual:
        names = shortened([_described(c) for c in unusual])
        yield warning(
            "mixed_sizes",
            f"{count(len(unusual), 'image')} much wider or narrower than the others: {names}",
            "all are squashed to a square; crop them to one aspect",
        )
    small = [c for c in candidates if min(c.shape) * ENLARGED < size]
    if small:
        names = shortened([_described(c) for c in small])
        yield warning(
            "small_images",
            f"{count(len(small), 'image')} smaller than half of {size} pixels: {names}",
            "lower data.size, or use the originals instead of thumbnails",
        )
    shapes = sorted({c.shape for c in candidates})
    if len(shapes) > 1:
        (low_h, low_w), (high_h, high_w) = shapes[0], shapes[-1]
        message = f"images have {len(shapes)} sizes, from {low_w} x {low_h} to {high_w} x {high_h}"
        yield note("mixed_sizes", message, f"all are squashed to {size} x {size}")


def _described(candidate: Candidate) -> str:
    height, width = candidate.shape
    return f"{candidate.location} ({width} x {height})"
