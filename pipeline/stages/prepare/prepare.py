"""Stage prepare: publish the checked real image set of a study, its images without masks, data report and names.

Nothing is written before everything is checked. The ids of the set are pseudonyms; only work/names/<study>.csv maps
them to files, and no stage reads it and no export contains it.
"""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import files, paths, tables
from pipeline.core.contracts import IGNORED
from pipeline.core.progress import track
from pipeline.data import nifti
from pipeline.data.image_set import ImageSet, write_image, write_native
from pipeline.data.labels import IGNORED_PIXELS, foreground
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.data.splitting import RESERVE, SPLITS
from pipeline.segmentation.params import entry_settings
from pipeline.stages.prepare.attributes import write_attributes
from pipeline.stages.prepare.checked_set import CheckedSet, load_checked_set
from pipeline.stages.prepare.params import Data
from pipeline.stages.prepare.unlabelled import UnlabelledImages
from pipeline.study import Params

VERSION = 1  # increased by hand when the same files give another set
PROMPTS = "prompts.jsonl"


def prepare(params: Params) -> ImageSet:
    """Publish the real image set with splits train, val and test. Raises UserError naming every fault."""
    checked = load_checked_set(params.data, params.seed)
    test_sets = [sample.source for sample in checked.samples if sample.split == "test"]
    for name in params.segmenters:  # a wrong name should not wait for the stage that needs it
        entry_settings(params.segment, name, params.segmenters[name]).check_unseen(test_sets)
    work = paths.work("prepare", files.fingerprint(VERSION, params.study, params.data, checked.digest))
    spec = dataset_spec(params.study, params.data, checked.samples[0])
    samples = track(checked.samples, "prepare: writing")
    grouped = any(sample.group for sample in checked.samples)  # then the column is there, in every row
    ignores = params.data.ignore_label is not None
    pairs = ((sample, _columns(sample, grouped, ignores) | write_native(work, sample)) for sample in samples)
    images = ImageSet.create(work, spec, pairs)
    write_prompts(images)
    write_names(params.study, [*((s.id, s.origin) for s in checked.samples), *checked.unlabelled.files])
    files.sweep(report_path(params.study).parent)
    files.write_json(report_path(params.study), data_report(params.study, params.data, checked))
    columns = params.data.attributes.columns if params.data.attributes else ()
    write_attributes(params.study, columns, checked.attributes)
    files.publish(work, paths.real(params.study))
    shutil.rmtree(work)  # real images should not lie in more places than needed
    publish_unlabelled(params.study, spec, checked.unlabelled)
    return ImageSet.open(paths.real(params.study))


def _columns(sample: Sample, grouped: bool, ignores: bool) -> dict[str, Any]:
    """Return the columns of a sample in sets that have groups, or pixels whose label is not known."""
    group = {"group": sample.group} if grouped else {}
    return group | ({IGNORED_PIXELS: int((sample.masks == IGNORED).sum())} if ignores else {})


def publish_unlabelled(study: str, spec: DatasetSpec, images: UnlabelledImages) -> None:
    """Publish the images without masks as a set of their own, which no stage reads by accident; empty without any."""
    work = paths.work("unlabelled", files.fingerprint(VERSION, study, spec, images.digest))
    samples = track(images.samples, "prepare: writing unlabelled images") if images.samples else ()
    ImageSet.finish(work, spec, (write_image(work, sample) for sample in samples))
    files.publish(work, paths.unlabelled(study))
    shutil.rmtree(work)


def dataset_spec(study: str, data: Data, sample: Sample) -> DatasetSpec:
    """Return the properties that all samples of a checked set share; `sample` is any of them."""
    common = DatasetSpec(
        name=study, size=data.size, channels=data.planes, num_classes=data.num_classes, raters=len(sample.masks)
    )
    if data.shape is None or sample.affine is None:
        return common
    x, y, z = (round(side, 6) for side in data.spacing or nifti.spacing(sample.affine))
    return common.model_copy(update={"ndim": 3, "shape": data.shape, "spacing": (x, y, z)})


def report_path(study: str) -> Path:
    """Return the path of the data report: contents, corrections, near-duplicates; by ids only."""
    return paths.outputs(study) / "real_report.json"


def names_path(study: str) -> Path:
    """Return the path of the local map of ids to files."""
    return paths.WORK / "names" / f"{study}.csv"


def write_prompts(images: ImageSet) -> None:
    """Write the pairs as the authors' code expects them: one {"source": mask, "target": image, "prompt"} a line."""
    lines = [
        {"source": row["mask"], "target": row["file_name"], "prompt": row["prompt"], "split": row["split"]}
        for row in images
    ]
    files.write_bytes(images.folder / PROMPTS, "".join(json.dumps(line) + "\n" for line in lines).encode())


def write_names(study: str, names: Iterable[tuple[str, str]]) -> None:
    """Write the file (relative to data.root, of unlabelled images to the project's folder) of every id."""
    rows = [{"id": name, "file": file} for name, file in names]
    tables.write_table(names_path(study), rows, ["id", "file"])


def data_report(study: str, data: Data, checked: CheckedSet) -> dict[str, Any]:
    """Return counts per split, the corrections that were made, and near-duplicates across splits."""
    notes = defaultdict(list)
    for sample in checked.samples:
        for note in sample.notes:
            notes[note].append(sample.id)
    splits = [*SPLITS, *([RESERVE] if any(sample.split == RESERVE for sample in checked.samples) else [])]
    pairs = [{"first": first, "second": second, "bits": bits} for first, second, bits in checked.near_duplicates]
    report = {
        "study": study,
        "splits": {split: _count([s for s in checked.samples if s.split == split]) for split in splits},
        "notes": notes,
        "near_duplicates": {
            "mode": data.near_duplicates,
            "pairs": pairs,
            "moved_into_train": list(checked.moved),
        },
    }
    return report if data.unlabelled is None else report | {"unlabelled": unlabelled_report(checked.unlabelled)}


def unlabelled_report(images: UnlabelledImages) -> dict[str, Any]:
    """Return how many images without masks there are, and the ids of those that were left out, by reason."""
    near = [{"first": first, "second": second, "bits": bits} for first, second, bits in images.near]
    left_out = {"near_duplicates": near, "copies": list(images.copies), "groups": list(images.grouped)}
    counts = {"images": len(images.samples), "folder": len(images.samples) - images.rest, "rest": images.rest}
    return counts | {"left_out": left_out}


def _count(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the numbers of images, sources, empty masks, and of masks that hold each label."""
    labels = Counter(int(label) for sample in samples for label in np.unique(sample.masks))
    return {
        "images": len(samples),
        "sources": Counter(sample.source for sample in samples),
        "empty_masks": sum(not foreground(sample.masks).any() for sample in samples),
        "masks_with_label": {str(label): count for label, count in sorted(labels.items())},
    }
