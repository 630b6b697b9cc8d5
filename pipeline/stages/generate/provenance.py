"""Where a synthetic image comes from: the columns of its row, and the text that its file carries wherever it goes."""

import json
from collections.abc import Mapping
from typing import Any

import pipeline
from pipeline.core.contracts import ConditioningMask
from pipeline.core.pair_limit import UNUSED
from pipeline.data.image_set import ImageSet
from pipeline.data.pseudo_labels import pseudo_labelled
from pipeline.stages.finetune.params import COMPOSED, OUTSIDE, GeneratorEntry
from pipeline.stages.generate.params import Generate

PSEUDO_LABELLED = "pseudo_labelled_images"
KEYWORD = "twinsynth"  # of the text chunk that holds the row as JSON
NOTICE = (
    "Synthetic image made by a generative model. It may resemble an image that the model was trained on; it is not for"
    " clinical use."
)
NOTICE_COMPOSED = (
    "Image that was put together from parts of real training images, without a generative model. Protect it as those"
    " images are protected; it is not for clinical use."
)
NOTICE_KEPT = (
    "Partly synthetic image: a generative model drew lesions into a real training image, whose other pixels it keeps."
    " Protect it as that image is protected; it is not for clinical use."
)
NOTICE_FROM_IMAGE = (
    "Synthetic image that a generative model made from a real training image, which it may resemble. Protect it as that"
    " image is protected; it is not for clinical use."
)
NOTICE_OUTSIDE = (
    "Image that was brought in from outside as a synthetic one; how it was made is not known here. It is not for"
    " clinical use."
)
# The digital source type of the International Press Telecommunications Council, which picture software looks for.
XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta><?xpacket end="r"?>"""
XMP_KEPT = XMP.replace("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")
XMP_COMPOSED = XMP.replace("trainedAlgorithmicMedia", "compositeCapture")


def set_columns(
    name: str,
    entry: GeneratorEntry,
    generate: Generate,
    weights: str,
    unlabelled: int = 0,
    image_weight: float | None = None,
    training_pairs: int | None = None,
) -> dict[str, Any]:
    """Return the columns that all images of a set share; `weights` is the hash of the trained generator's files.

    Images that another program made have its name, `made_by`, in place of settings. Images that were drawn with
    their training image as a hint have the columns `control` and `image_weight`.

    `unlabelled` counts the images without masks that the base was pretrained on; where there are none it has no column.
    An entry that sees only some of the training pairs has the columns `limit`, `training_pairs` (how many these are)
    and, of other draws, `limit_draw`.
    """
    about = {"generator": name, "method": entry.method_of(name), "generator_sha256": weights, "synthetic": True}
    if entry.limit is not None:
        about |= entry.model_dump(include={*UNUSED}) | {"training_pairs": training_pairs}
    if entry.method_of(name) in OUTSIDE:
        made_by = str(entry.options.get("made_by", ""))
        return {**about, "made_by": made_by, "masks": entry.masks, "version": pipeline.__version__}
    settings = generate.model_dump(mode="json", exclude={"batch_size", "shards", "sensor_noise"})
    plain = {k: v if isinstance(v, str | int | float) else json.dumps(v) for k, v in settings.items()}
    base = {"base_unlabelled_images": unlabelled} if unlabelled else {}
    shown = {} if image_weight is None else {"control": entry.control, "image_weight": image_weight}
    made = {**about, **plain, **base, **_real_pixels(entry), **shown, **_guidance(name, entry)}
    return {**made, "masks": entry.masks, "version": pipeline.__version__}


def pseudo_label_columns(entry: GeneratorEntry, train: ImageSet) -> dict[str, Any]:
    """Return how many of the images that an entry was fine-tuned on have pseudo-labels; none where it asks for none."""
    return {PSEUDO_LABELLED: len(pseudo_labelled(train))} if entry.pseudo_labels else {}


def _real_pixels(entry: GeneratorEntry) -> dict[str, Any]:
    """Return how real images lend their pixels: `keep_background` (JSON text) and `strength`, where they do."""
    keep, start = entry.keep_background, entry.from_image
    kept = {"keep_background": json.dumps(keep.model_dump(mode="json"), sort_keys=True)} if keep else {}
    return {**kept, **({"strength": start.strength} if start else {})}


def _guidance(name: str, entry: GeneratorEntry) -> dict[str, Any]:
    """Return the guidance of an entry: `guidance_scale`, and `guidance` (JSON text) with interval and snapshot.

    A method without prompts is not guided by them, whatever the section generate says: its scale is 1.
    """
    if entry.guidance is None:
        return {} if entry.uses_base(name) else {"guidance_scale": 1.0}
    more = entry.guidance.model_dump(mode="json", exclude={"scale"})
    return {"guidance_scale": entry.guidance.scale, "guidance": json.dumps(more, sort_keys=True)}


def notice(columns: Mapping[str, Any]) -> str:
    """Return the sentences that say how real an image of a set with these columns is."""
    if "made_by" in columns:
        return NOTICE_OUTSIDE
    if columns.get("method") in COMPOSED:
        return NOTICE_COMPOSED
    if "keep_background" in columns:
        return NOTICE_KEPT
    return NOTICE_FROM_IMAGE if {"strength", "image_weight"} & columns.keys() else NOTICE


def image_columns(shared: Mapping[str, Any], mask: ConditioningMask, copy: int, seed: int) -> dict[str, Any]:
    """Return the columns of one image; transform (JSON) and seed (decimal) are text, so that any reader keeps them."""
    about = {
        "source_id": mask.source_id,
        "mask_id": mask.id,
        "transform": json.dumps(dict(mask.transform), sort_keys=True),
        "copy": copy,
        "seed": str(seed),
    }
    return {**shared, **about}


def text_chunks(name: str, prompt: str, columns: Mapping[str, Any]) -> dict[str, str]:
    """Return one image's text chunks by keyword: standard ones, the digital source type, and all columns as JSON."""
    record = json.dumps({"id": name, "prompt": prompt, **columns}, sort_keys=True)
    software = f"twinsynth {pipeline.__version__}"
    return {"Description": notice(columns), "Software": software, KEYWORD: record, "XML:com.adobe.xmp": _xmp(columns)}


def _xmp(columns: Mapping[str, Any]) -> str:
    if columns.get("method") in COMPOSED:
        return XMP_COMPOSED
    return XMP_KEPT if "keep_background" in columns else XMP
