"""The content of a release card: release_card.json, whose fields these are. Changes of meaning raise VERSION."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

FORMAT, VERSION = "twinsynth release card", 1
Kind = Literal["generator", "images"]


class Part(BaseModel):
    """A frozen part of a card; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UsedBase(Part):
    """The base model that the generator was fine-tuned on."""

    source: str  # scratch: pretrained in the study; or a name on a hub, of a folder or of a file
    family: str | None
    revision: str | None
    commit: str | None
    saw_training_images: bool | None  # None: it is not known
    unlabelled_images: int  # further images, without masks, on which it was pretrained in the study
    terms: str | None  # of a model whose licence its name tells


class TrainedOn(Part):
    """What the generator was trained on; None where it is not known."""

    data_set: str
    reader: str
    extent: tuple[int, ...]  # pixels of each image
    classes: int  # background included
    images: int | None  # training images; None: another program made the images
    masks: int | None
    groups: int | None  # patients or sequences; None: they are not known
    limit: str | None  # of the entry on the training pairs
    pseudo_labelled: int  # further training images, whose masks segmenters predicted
    manifest_sha256: str  # of metadata.jsonl of the real images, all splits
    terms: str | None  # of the training images, as whoever made the card gave them
    base: UsedBase | None  # None: the method uses none


class Privacy(Part):
    """The privacy budget that was spent on the generator."""

    epsilon: float
    delta: float
    unit: str
    accountant: str
    noise_multiplier: float
    max_grad_norm: float
    sampling: str
    covers: str


class Made(Part):
    """How the generator was trained and its images were made."""

    method: str
    trained: bool  # False: the method learns nothing
    elsewhere: bool  # whether another program made the images
    made_by: str | None  # that program, as the study names it
    version: str  # of twinsynth, which made the images
    study_seed: int
    entry_seed: int
    same_recipe: tuple[str, ...]  # entries that differ in their seed alone
    steps: int | None
    settings: dict[str, Any]  # by dotted path
    privacy: Privacy | None  # None: there is no guarantee
    generator_sha256: str  # of the names and contents of the generator's files; in the rows of its images too
    images: int
    image_masks: int  # different masks that the images follow
    mask_source: str  # key masks of the entry
    notice: str  # how synthetic the images are


class FoundRate(Part):
    """The training images that an attack finds at one rate of false positives."""

    false_positive_rate: float
    share: float | None  # None: it could not be measured
    low: float | None  # exact interval, which counts images as independent
    high: float | None
    bootstrap_low: float | None  # interval over patients, or over images where none are known
    bootstrap_high: float | None
    reason: str | None


class AttackResult(Part):
    """One membership attack."""

    score: str
    attacker_has: str
    auc: float
    low: float | None  # 95 % interval
    high: float | None
    interval_reason: str | None
    meaning: str
    found: tuple[FoundRate, ...]


class Attacks(Part):
    """The membership attacks on the generator."""

    members: int
    controls: int
    member_groups: int | None
    control_groups: int | None
    results: tuple[AttackResult, ...]
    absent: dict[str, str]  # reason by score that could not be computed


class Copies(Part):
    """The search for copies of training images."""

    images: int
    suspects: int
    share: float
    share_low: float  # 95 % interval, which counts images as independent
    share_high: float
    false_alarm_rate: float | None  # share of held-out images that may be called copies
    expected_false_alarms: float
    held_out: int | None
    near_share: float | None
    near_p: float | None
    spaces: tuple[str, ...]
    absent: dict[str, str]  # reason by space that could not be searched


class ImageScore(Part):
    """A score of the images."""

    name: str
    variant: str
    value: float
    low: float | None
    high: float | None
    floor: float | None
    p_value: float | None
    n: int
    n_groups: int | None
    direction: str


class Audits(Part):
    """What was measured on the images and, by attacks, on the weights."""

    attacks: Attacks | None  # None: none was run
    copies: Copies
    scores: tuple[ImageScore, ...]
    judge_dice: float | None  # of the judge of faithfulness on real test images


class ArmEffect(Part):
    """A training set with images of the generator against its reference."""

    segmenter: str
    training_set: str
    role: str
    multiplier: int
    reference: str
    n_images: int  # test images
    n_seeds: int
    dice: float
    difference: float | None
    low: float | None
    high: float | None
    verdict: str | None
    reason: str | None  # why there can be no verdict
    chosen: bool  # whether it has the highest Dice on validation images of the arms of this segmenter


class Confirmation(Part):
    """The arm that validation chose, trained again with fresh seeds."""

    segmenter: str
    training_sets: tuple[str, ...]
    reference: str
    difference: float
    low: float
    high: float
    verdict: str
    n_seeds: int


class Harm(Part):
    """A subgroup of the test images in which an arm is worse than its reference."""

    column: str
    level: str
    definition: str
    segmenter: str
    training_set: str
    models: str | None  # grid; or confirmation: trained again with fresh seeds
    reference: str
    n_images: int
    difference: float
    low: float
    high: float


class Effect(Part):
    """What the images do to segmenters."""

    reference: str
    confidence: float
    margin: float
    arms: tuple[ArmEffect, ...]
    confirmation: Confirmation | None
    subgroups: int  # comparisons by subgroup that were made of these arms
    subgroups_open: int  # of these, the ones without a possible verdict, such as for too few images
    harmed: tuple[Harm, ...]


class Findings(Part):
    """All that is known."""

    kind: Kind
    trained_on: TrainedOn
    made: Made
    audits: Audits
    effect: Effect


class Unknown(Part):
    """One thing that the card cannot say."""

    topic: str
    text: str


def _inside(path: str) -> str:
    """Refuse a path that does not lie below the folder that it is relative to."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"the path {path!r} does not lie below the folder of the study")
    return path


class ListedFile(Part):
    """A file that the card describes, by its hash."""

    path: Annotated[str, AfterValidator(_inside)]  # relative to the folder of params.yaml
    what: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int


class ReleaseCard(Findings):
    """The whole card."""

    format: Literal["twinsynth release card"] = FORMAT
    version: Literal[1] = VERSION
    twinsynth: str  # version that made the card
    study: str
    entry: str
    unknown: tuple[Unknown, ...]
    files: tuple[ListedFile, ...]
