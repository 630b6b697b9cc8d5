"""The model card of an exported generator: README.md with the YAML header that Hugging Face reads."""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, cast

from ruamel.yaml import YAML

import pipeline
from pipeline.core import files, paths
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.data.pseudo_labels import labelled, pseudo_labelled
from pipeline.deploy.base_terms import TERMS, Terms
from pipeline.methods.conditioning.mask import palette
from pipeline.metrics.images.score import current_record
from pipeline.networks.stable_diffusion.families import SD1, Family
from pipeline.networks.stable_diffusion.model_index import CONTROL_PIPELINES
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.generator import options
from pipeline.study import Params

DATA_FILES = ("generator_card.md",)
TEMPLATE = Path(__file__).with_name(DATA_FILES[0])
WITH_NOISE = (
    "The scores are those of images to which sensor noise was added (`generate.sensor_noise`). This pipeline does not"
    " add it."
)
SCRATCH = (
    "The base model was trained from scratch on the same training images, so these weights are bound by the terms of"
    " those images alone. Look up whether they allow a model made from them to be passed on, and put their terms here."
)
SCRATCH_UNLABELLED = (
    "The base model was trained from scratch on the same training images and on {images} images without masks, so these"
    " weights are bound by the terms of both. Look up whether they allow a model made from them to be passed on, and"
    " put their terms here."
)
FOREIGN = (
    "Two sets of terms travel with these weights, whatever the licence of the code that made them: those of the"
    " training images and those of the base model ({base}). {rail}"
)
DENSE = (
    "The hint enters through a Dense Hint Input, which diffusers does not know: `controlnet/dense_hint_controlnet.py`"
    " brings it, and `trust_remote_code=True` allows it to run. Read the file first. Without it loading ends with an"
    " error."
)
SPARSE = "All parts are classes of diffusers and transformers; no code is brought along."
OF_MASK = """colours = torch.tensor({colours})
labels = torch.from_numpy(np.array(Image.open("mask.png"), dtype=np.int64))  # [H, W], values 0 to {last}
hint = colours[labels].permute(2, 0, 1)[None]"""
OF_PICTURE = """pixels = np.array(Image.open("hint.png").convert("RGB"))
hint = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255"""
SEES_MASK = (
    "`mask.png` is a label map: every pixel holds the number of its class. The ControlNet sees it in colours; as a"
    " tensor they arrive exactly as in training."
)
SEES_PICTURE = (
    "`hint.png` is what the ControlNet sees: a picture that twinsynth's conditioning `{conditioning}` (with its"
    " parameters below) makes of a mask, or of a mask and its image. Where it shows classes, they have these colours."
)


@dataclass(frozen=True)
class GeneratorSummary:
    """What the card states of an exported generator: no path, and no name of a patient or of a data file."""

    name: str
    study: str
    train: ImageSet
    method: str
    dense: bool
    conditioning: str  # what the ControlNet sees, a file of pipeline/methods/conditioning
    base: str | None  # where the base model comes from; None: trained from scratch on the study's images
    family: Family
    unlabelled: int  # images without masks that it was pretrained on too
    prompts: tuple[str, ...]
    dropout: float  # share of empty prompts
    steps: int
    guidance_scale: float
    eta: float
    settings: Mapping[str, Any]
    scores: tuple[Mapping[str, Any], ...]  # records of metrics.score.Score
    privacy: str = ""  # what is guaranteed; empty: nothing

    @property
    def terms(self) -> Terms:
        """The licence of the family of the base."""
        return TERMS[self.family]

    @property
    def is_stable_diffusion(self) -> bool:
        """Whether the name of the base tells that it is under that licence."""
        return self.base is not None and self.terms.is_of(self.base)


def gather(params: Params, name: str, train: ImageSet, dense: bool) -> GeneratorSummary:
    """Gather what the card states of a published generator of the study in the current folder."""
    entry, generate = params.generators[name], params.generate
    method, method_params = entry.method_of(name), options(name, entry)
    manifest = paths.base(params.study) / "manifest.json"
    base = files.read_json(manifest) if manifest.is_file() else {"source": "unknown"}
    prompts = params.data.prompt
    return GeneratorSummary(
        name=name,
        study=params.study,
        train=train,
        method=method,
        dense=dense,
        conditioning=str(getattr(method_params, "conditioning", "mask")),
        base=None if base["source"] == "scratch" else str(base["source"]),
        family=cast(Family, base.get("family", SD1)),
        unlabelled=unlabelled_images(params.study, _beyond(params.study, train)),
        prompts=(prompts,) if isinstance(prompts, str) else tuple(dict.fromkeys(prompts.values())),
        dropout=params.finetune.prompt_dropout,
        steps=generate.steps,
        guidance_scale=generate.guidance_scale,
        eta=generate.eta,
        settings={
            **dotted_values(
                "base", {key: value for key, value in base.items() if key != "fingerprint" and isinstance(value, str)}
            ),
            **dotted_values(f"generators.{name}", {"method": method, **method_params.model_dump(mode="json")}),
            **dotted_values("finetune", params.generators[name].settings(params.finetune).model_dump(mode="json")),
            **dotted_values("generate", generate.model_dump(mode="json")),
            "seed": params.seed,
        },
        scores=_scores(params.study, name),
        privacy=privacy_record.statement(paths.generator(params.study, name)),
    )


def _pseudo_labelled(train: ImageSet) -> str:
    """Return a row of the table of training data on images with pseudo-labels; nothing where there are none."""
    count = len(pseudo_labelled(train))
    return f"| training images with masks that segmenters predicted (pseudo-labels) | {count} |\n" if count else ""


def _beyond(study: str, train: ImageSet) -> int:
    """Return the number of training images beyond the limit of a generator, whose training pairs are `train`."""
    return len(ImageSet.open(paths.real(study)).split("train")) - len(labelled(train))


def write(folder: Path, summary: GeneratorSummary) -> None:
    """Write README.md into the exported folder."""
    yaml, header = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(_header(summary), header)
    files.write_bytes(folder / "README.md", f"---\n{header.getvalue()}---\n{_body(summary)}".encode())


def _scores(study: str, generator: str) -> tuple[Mapping[str, Any], ...]:
    """Return the scores of the images that these weights made; none where they made none."""
    path, images = paths.scores(study, generator) / "scores.json", paths.synthetic(study, generator)
    if not path.is_file() or not (images / MANIFEST).is_file():
        return ()
    made_by = {row.get("generator_sha256") for row in ImageSet.open(images)}
    if made_by != {files.tree_sha256(paths.generator(study, generator))}:
        return ()
    return tuple(score for score in map(current_record, files.read_json(path)) if score["value"] is not None)


def _header(summary: GeneratorSummary) -> dict[str, Any]:
    if summary.is_stable_diffusion:
        terms = {"license": summary.terms.hub}
    else:
        whose = "training-data" if summary.base is None else "training-data-and-base-model"
        terms = {"license": "other", "license_name": f"terms-of-{whose}"}
    on_hub = {"base_model": summary.base} if summary.base and re.fullmatch(r"[\w.-]+/[\w.-]+", summary.base) else {}
    return {
        **terms,
        **on_hub,
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["medical", "segmentation", "synthetic", "controlnet", "stable-diffusion", "diffusers", "twinsynth"],
    }


def _body(summary: GeneratorSummary) -> str:
    spec, rows = summary.train.spec, _colours(summary.train.spec.num_classes)
    of_mask = summary.conditioning == "mask"
    silent = ["the empty one"] if summary.dropout else []
    return TEMPLATE.read_text(encoding="utf-8").format(
        title=f"{spec.name}: images that follow masks, by {summary.name}",
        method=summary.method,
        version=pipeline.__version__,
        size=spec.size,
        pipeline=CONTROL_PIPELINES[summary.family],
        trust=", trust_remote_code=True" if summary.dense else "",
        code=DENSE if summary.dense else SPARSE,
        hint=OF_MASK.format(colours=rows, last=spec.num_classes - 1) if of_mask else OF_PICTURE,
        sees=SEES_MASK if of_mask else SEES_PICTURE.format(conditioning=summary.conditioning),
        prompt=repr(summary.prompts[0]),
        prompts=", ".join([*(f"`{prompt}`" for prompt in summary.prompts), *silent]),
        palette="\n".join(f"| {k} | {_meaning(k)} | {row} |" for k, row in enumerate(rows)),
        steps=summary.steps,
        guidance_scale=summary.guidance_scale,
        eta=f"\n    eta={summary.eta}," if summary.eta else "",
        data=spec.name,
        images=len(labelled(summary.train)),
        pseudo_labelled=_pseudo_labelled(summary.train),
        digest=summary.train.digest,
        base=_base(summary),
        settings="\n".join(f"| {key} | {_cell(value)} |" for key, value in summary.settings.items()),
        scores=_score_table(summary),
        licence=_licence(summary),
        privacy=f"\n\n{summary.privacy}" if summary.privacy else "",
    )


def _colours(num_classes: int) -> list[list[float]]:
    """Return the palette in the shortest decimals of the same float32 numbers."""
    return [[float(str(value)) for value in colour] for colour in palette(num_classes).numpy()]


def _licence(summary: GeneratorSummary) -> str:
    if summary.base is None:
        return SCRATCH_UNLABELLED.format(images=summary.unlabelled) if summary.unlabelled else SCRATCH
    terms = summary.terms
    unknown = "" if summary.is_stable_diffusion else f"Look them up; if it descends from {terms.model}, this holds: "
    return FOREIGN.format(base=summary.base, rail=unknown + terms.text)


def _base(summary: GeneratorSummary) -> str:
    more = f" and on {summary.unlabelled} images without masks" if summary.unlabelled else ""
    return f"trained from scratch on the same images{more}" if summary.base is None else summary.base


def _score_table(summary: GeneratorSummary) -> str:
    if not summary.scores:
        return "None at the time of the export."
    lines = ["| score | compared with | value | 95 % interval | images | better |", "|---|---|---|---|---|---|"]
    for score in summary.scores:
        interval = "" if score["low"] is None else f"{score['low']:.4g} to {score['high']:.4g}"
        about = (score["name"], score["variant"], f"{score['value']:.4g}", interval, score["n"], score["direction"])
        lines.append(f"| {' | '.join(map(str, about))} |")
    if summary.settings.get("generate.sensor_noise"):
        lines += ["", WITH_NOISE]
    return "\n".join(lines)


def _meaning(label: int) -> str:
    return "background" if label == 0 else f"class {label}"


def dotted_values(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted path, without those not set; of an absolute path only the last part."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= dotted_values(f"{section}.{key}", value)
        elif value is not None:
            absolute = isinstance(value, str) and PurePath(value).is_absolute()
            flat[f"{section}.{key}"] = PurePath(value).name if absolute else value
    return flat


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text.replace("|", "\\|").replace("\n", " ")
