"""The dataset card of a synthetic set: README.md with the YAML header that Hugging Face reads."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.data import shards
from pipeline.data.manifest import MANIFEST
from pipeline.data.sample import DatasetSpec
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.params import COMPOSED, FROM_NOTHING
from pipeline.stages.generate.provenance import KEYWORD, PSEUDO_LABELLED, notice

SIZES = (1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
LOADED = (MANIFEST, "images/**")  # what Hugging Face's viewer loads; masks are named in the rows
LOADED_SHARDS = (f"{shards.FOLDER}/**",)
NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
TEXT = """
# {title}
{notice}

{images} images of {size} x {size} pixels with masks of {classes} classes (background included), study `{study}`.

## How it was made
{origin}

| setting | value |
|---|---|
{settings}

## Files
{files}
- `metadata.jsonl`: one line per image: id, files and their sha256, the mask's source and transform, prompt, seed,
  settings.
- `croissant.json`: the same described for machines. Its `url` stands for this folder and its `datePublished` for the
  release of the software: replace both when you publish the set.

`datasets.load_dataset({loaded})` opens the {container}.

## Intended use
Training data for segmentation models, beside real images, in research. Not for clinical use: not for diagnosis, not for
teaching what a disease looks like, not as a test set. Whether it helps must be measured on real images that neither the
generator nor the segmenter has seen.

## Limits
The images may repeat what the training images hold, bias included, and may resemble single training images; the study's
audit looks for such copies. An image may not follow its mask exactly; the study's scores say how well it does.
{privacy}
## Licence
{licence}
"""
FILES = """\
- `images/`: PNG. Each file says in its text chunks that it is synthetic and, under `{keyword}`, how it was made.
- `masks/`: PNG, label maps with the values 0 (background) to {last}."""
SHARDS = """\
- `shards/`: tar archives as WebDataset reads them. A pair is `NUMBER.image.png`, `NUMBER.json` and `NUMBER.mask.png`, a
  label map with the values 0 (background) to {last}. Each image says in its text chunks that it is synthetic and, under
  `{keyword}`, how it was made. In `metadata.jsonl`, `shard`, `image_offset`, `image_size`, `mask_offset` and
  `mask_size` say where the bytes of a pair lie; `file_name` and `mask` are names for files to be unpacked."""
DRAWN = (
    "twinsynth {version} drew {copies} image(s) for each of {masks} mask(s) (`masks: {source}`) with its generator\n"
    "`{method}`, fine-tuned on {pairs}. Masks of validation and test images are never"
    " used.\n"
    "The base model: {base}. Every image has a random stream of its own, named by seed, mask and copy."
)
PASTED = (
    "twinsynth {version} put together {copies} image(s) for each of {masks} mask(s) (`masks: {source}`) by the method\n"
    "`{method}`, from parts of {pairs}. No model was trained. Masks of\n"
    "validation and test images are never used. Every image has a random stream of its own, named by seed, mask and"
    " copy."
)
BROUGHT_IN = (
    "Another program made the images ({made_by}); twinsynth {version} took {copies} image(s) for each of {masks}\n"
    "mask(s) (`masks: {source}`) from a folder. How it was trained, and on what, is not known here: describe it\n"
    "before you pass the set on."
)
OUTSIDE_TERMS = (
    "The terms are those of the program that made the images, of what it was trained on, and of the masks. They are not"
    " known here: look them up before you pass the set on."
)
PASTED_TERMS = (
    "The images consist of parts of the study's training images, so the set is bound by the terms of those images. Look"
    " them up before you pass it on."
)
WITHOUT_BASE = (
    "The generator was trained from nothing on the study's training images, without a base model, so the set is bound"
    " by the terms of those images alone. Look them up before you pass it on."
)
OWN_BASE = (
    "The base model was trained from scratch on the study's training images, so the set is bound by the terms of those"
    " images alone. Look them up before you pass it on."
)
OWN_BASE_UNLABELLED = (
    "The base model was trained from scratch on the study's training images and on {images} images without masks, so"
    " the set is bound by the terms of both. Look them up before you pass it on."
)
FOREIGN_BASE = (
    "Two sets of terms travel with the images: those of the real training images, and those of the base model ({base})."
    " Stable Diffusion 1.5 and what is derived from it are under CreativeML OpenRAIL-M, Stable Diffusion 2 and XL under"
    " CreativeML Open RAIL++-M: their authors claim no rights in the output, but the use restrictions of Attachment A"
    " bind whoever uses the output, and must be passed on."
)


@dataclass(frozen=True)
class SetSummary:
    """What the dataset card and the Croissant file state of a set."""

    spec: DatasetSpec
    images: int
    masks: int
    copies: int
    base: str | None  # where the base model comes from; None: from scratch on the study's images, or there is none
    columns: Mapping[str, Any]  # that all rows share
    choices: Mapping[str, Any] = field(default_factory=dict)  # further settings: seed, those of the masks
    unlabelled: int = 0  # images without masks that the base was pretrained on too
    sharded: bool = False  # whether the pairs lie in tar shards

    @property
    def name(self) -> str:
        """The name of the set, without spaces."""
        return f"{self.spec.name}-{self.columns['generator']}"

    @property
    def licence(self) -> str:
        """The terms that bind users of the set."""
        if "made_by" in self.columns:
            return OUTSIDE_TERMS
        if self.columns["method"] in COMPOSED:
            return PASTED_TERMS
        if not self.uses_base:
            return WITHOUT_BASE
        if self.unlabelled:
            return OWN_BASE_UNLABELLED.format(images=self.unlabelled)
        return OWN_BASE if self.base is None else FOREIGN_BASE.format(base=self.base)

    @property
    def uses_base(self) -> bool:
        """Whether the method of the set has a base model."""
        return self.columns["method"] not in FROM_NOTHING

    @property
    def base_data(self) -> str:
        """What the base model was trained on, as far as it is known."""
        if not self.uses_base:
            return "none, the generator was trained from nothing on these images"
        more = f" and on {self.unlabelled} real images without masks" if self.unlabelled else ""
        return f"trained from scratch on the same images{more}" if self.base is None else self.base


def write(folder: Path, summary: SetSummary) -> None:
    """Write README.md into the folder of the set."""
    files.write_bytes(folder / "README.md", f"---\n{_header(summary)}---\n{_body(summary)}".encode())


def size_category(images: int) -> str:
    """Return Hugging Face's category of a number of images: n<1K, 1K<n<10K ... n>1B."""
    above = sum(images >= size for size in SIZES)
    if above == 0:
        return "n<1K"
    return "n>1B" if above == len(SIZES) else f"{NAMES[above - 1]}<n<{NAMES[above]}"


def _header(summary: SetSummary) -> str:
    terms = "training-data" if summary.base is None else "training-data-and-base-model"
    loaded = LOADED_SHARDS if summary.sharded else LOADED
    header = {
        "pretty_name": f"{summary.spec.name}, synthetic by {summary.columns['generator']}",
        "license": "other",
        "license_name": f"terms-of-{terms}",
        "task_categories": ["image-segmentation"],
        "tags": ["synthetic", "medical", "segmentation", "diffusion", "twinsynth"],
        "size_categories": [size_category(summary.images)],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": list(loaded)}]}],
    }
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(header, text)
    return text.getvalue()


def _body(summary: SetSummary) -> str:
    shared = summary.columns
    origin = _origin(shared).format(
        version=shared["version"],
        copies=summary.copies,
        masks=summary.masks,
        source=shared["masks"],
        method=shared["method"],
        made_by=shared.get("made_by") or "which one is not stated",
        base=summary.base_data,
        pairs=_pairs(shared),
    )
    settings = {**shared, **{key: _without_folders(value) for key, value in summary.choices.items()}}
    table = "\n".join(f"| {key} | {_cell(value)} |" for key, value in settings.items())
    return TEXT.format(
        title=f"{summary.spec.name}: synthetic images by {shared['generator']}",
        notice=notice(shared),
        images=summary.images,
        size=summary.spec.size,
        classes=summary.spec.num_classes,
        study=summary.spec.name,
        origin=origin,
        settings=table,
        files=(SHARDS if summary.sharded else FILES).format(keyword=KEYWORD, last=summary.spec.num_classes - 1),
        loaded='"webdataset", data_files="shards/**"' if summary.sharded else '"imagefolder", data_dir=...',
        container="shards" if summary.sharded else "folder",
        licence=summary.licence,
        privacy=f"\n{privacy_record.sentence(shared)}\n" if "epsilon" in shared else "",
    )


def _origin(columns: Mapping[str, Any]) -> str:
    """Return the template of how the images were made."""
    if "made_by" in columns:
        return BROUGHT_IN
    return PASTED if columns["method"] in COMPOSED else DRAWN


def _pairs(columns: Mapping[str, Any]) -> str:
    """Return in words which real images the generator was fine-tuned on."""
    if PSEUDO_LABELLED in columns:
        more = f"{columns[PSEUDO_LABELLED]} further real images whose masks segmenters predicted (pseudo-labels)"
        return f"the real training images of the study and on {more}"
    if "limit" not in columns:
        return "the real training images of the study"
    return f"{columns['training_pairs']} of the real training images of the study (`limit: {columns['limit']}`)"


def _without_folders(value: Any) -> Any:
    """Return a setting without paths of this machine: only the last part of an absolute path is left."""
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text.replace("|", "\\|").replace("\n", " ")
