"""Parameters of a study: params.yaml, read as DVC reads it, bounded, unknown keys refused with their dotted path.

The sections of every study stand here, so that each stage checks the whole file without loading torch; what only one
plug-in knows (generators.*, segmenters.*, the reader's keys of data) is checked by the plug-in's own `Params`.
A study may have no generators and compare segmenters of real images: then base, finetune, generate and judge are None.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, field_validator, model_validator

from pipeline.core.errors import UserError
from pipeline.core.section import Entry, Section, parse, read_yaml
from pipeline.segmentation.params import Compare, Segment
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.params import Finetune
from pipeline.stages.generate.params import Generate
from pipeline.stages.mix.params import TrainingSet, check_training_sets
from pipeline.stages.prepare.params import Data

OFFLINE = ("efficientnet_lite0", "gradient_histograms")  # feature extractors that need no download
NAME = r"^[a-z0-9][a-z0-9_]*$"
OF_GENERATORS = ("base", "finetune", "generate", "judge")  # sections that a study without generators may leave out


class GeneratorEntry(Entry):
    """A method, how often each mask is used, and the method's own keys."""

    method: str | None = None  # None: the entry's name
    seed: int = Field(default=0, ge=0)  # entries that differ in it alone show how much chance there is in a generator
    copies: int = Field(gt=0)  # images per mask
    masks: str = "real"  # a file of pipeline/methods/masks
    mask_params: dict[str, Any] = Field(default_factory=dict)  # the keys of that file
    count: int | None = Field(default=None, gt=0)  # masks; None: as many as the file of pipeline/methods/masks gives


class SegmenterEntry(Entry):
    """A segmenter and its own keys."""

    method: str | None = None  # None: the entry's name
    segment: dict[str, Any] = Field(default_factory=dict)  # its own values of the section segment, in every arm


class Judge(Section):
    """The segmenter, trained on real images only, that measures mask faithfulness; a key of `segmenters`."""

    segmenter: str
    max_steps: int | None = Field(default=None, gt=0)  # None: as in segment


class WeightFile(Section):
    """A file of weights that the user names."""

    file: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")  # None: that of the publisher


class Score(Section):
    """Scores of synthetic image sets."""

    metrics: tuple[str, ...] = ("frechet", "kernel", "faithfulness")
    extractors: tuple[str, ...] = ("efficientnet_lite0",)
    weights: Mapping[str, WeightFile] = {}  # by extractor; else the folder weights/, else the publisher's download
    resamples: int = Field(default=1000, ge=100)
    subsets: int = Field(default=100, gt=0)  # of the kernel distance
    subset_size: int = Field(default=100, gt=1)


class Audit(Section):
    """The search for copies of training images among synthetic ones."""

    extractors: tuple[str, ...] = ()  # feature spaces; none: the first two of score.extractors and OFFLINE
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)  # share of held-out images that may be called copies
    neighbours: int = Field(default=50, gt=1)  # nearest training images to whose mean the nearest is compared
    permutations: int = Field(default=2000, ge=200)
    pictures: int = Field(default=12, gt=0)  # closest pairs shown


class Report(Section):
    """The HTML report."""

    title: str = "twinsynth"
    samples: int = Field(default=8, gt=0)  # rows of the sample grid


class Params(Section):
    """A whole study."""

    study: str = Field(pattern=NAME)
    seed: int = Field(default=0, ge=0)
    threads: int = Field(gt=0)  # per process; another number changes bytes
    data: Data
    if TYPE_CHECKING:  # no stage that reads them runs where they are None
        base: Base
        finetune: Finetune
        generate: Generate
        generators: dict[str, GeneratorEntry]
        judge: Judge
    else:
        base: Base | None = None
        finetune: Finetune | None = None
        generate: Generate | None = None
        generators: dict[str, GeneratorEntry] = Field(default_factory=dict)
        judge: Judge | None = None
    score: Score = Score()
    audit: Audit = Audit()
    training_sets: dict[str, TrainingSet] = Field(min_length=1)
    segmenters: dict[str, SegmenterEntry] = Field(min_length=1)
    segment: Segment
    compare: Compare = Compare()
    report: Report = Report()

    @property
    def audit_extractors(self) -> tuple[str, ...]:
        """Candidates for the audit's feature spaces, in the order in which they are asked."""
        return self.audit.extractors or tuple(dict.fromkeys([*self.score.extractors, *OFFLINE]))

    @property
    def compared_on(self) -> str:
        """The training set on which segmenters are compared with each other."""
        between = self.compare.segmenters
        return (between and between.training_set) or self.compare.reference

    def segment_for(self, name: str) -> Segment:
        """The section `segment` with the own values of one entry of `segmenters`. Raises UserError."""
        values, own, where = self.segment.model_dump(), self.segmenters[name].segment, f"segmenters.{name}.segment"
        if own.keys() & {"seeds", "threads"}:
            raise UserError(f"params.yaml: {where}: seeds and threads are those of all segmenters; set them in segment")
        if own.keys() & {"max_steps", "epochs"}:
            values |= {"max_steps": None, "epochs": None}
        if "schedule" in own:
            values["milestones"] = ()
        return parse(Segment, values | own, where)

    @field_validator("generators", "score", "audit", mode="before")
    @classmethod
    def null_is_the_default(cls, value: Any) -> Any:
        return {} if value is None else value  # DVC wants the key there, whatever it holds

    @model_validator(mode="after")
    def generators_have_their_sections(self) -> Self:
        if self.generators and (absent := [name for name in OF_GENERATORS if getattr(self, name) is None]):
            raise ValueError(f"{absent[0]} is missing; a study with generators needs the section {absent[0]}")
        return self

    @model_validator(mode="after")
    def generators_draw_coloured_pictures(self) -> Self:
        if self.generators and "prompt" not in self.data.model_fields_set:
            raise ValueError("data.prompt: Field required by generators")
        if self.generators and (self.data.shape or self.data.planes != 3):
            what = "volumes" if self.data.shape else f"{self.data.planes} channels"
            raise ValueError(f"generators draw pictures of 3 channels, data has {what}; set generators: {{}}")
        return self

    @model_validator(mode="after")
    def own_values_of_segmenters_are_values_of_segment(self) -> Self:
        for name in self.segmenters:
            try:
                self.segment_for(name)
            except UserError as error:
                raise ValueError(str(error).removeprefix("params.yaml: ")) from None
        return self

    @model_validator(mode="after")
    def size_can_be_halved_often_enough(self) -> Self:
        if self.base and self.base.autoencoder and self.base.denoiser:
            halvings = len(self.base.autoencoder.channels) + len(self.base.denoiser.channels) - 2
            if self.data.size % 2**halvings:
                raise ValueError(f"data.size is {self.data.size}; the base's levels need a multiple of {2**halvings}")
        return self

    @model_validator(mode="after")
    def names_refer_to_something(self) -> Self:
        copies = {name: entry.copies for name, entry in self.generators.items()}
        check_training_sets(self.training_sets, copies, self.score.metrics)
        if self.judge:
            _known("judge.segmenter", self.judge.segmenter, self.segmenters)
        _known("compare.reference", self.compare.reference, self.training_sets)
        if between := self.compare.segmenters:
            _known("compare.segmenters.reference", between.reference, self.segmenters)
            _known("compare.segmenters.training_set", self.compared_on, self.training_sets)
            if len(self.segmenters) < 2:
                raise ValueError("compare.segmenters needs a second entry of segmenters")
        return self

    @model_validator(mode="after")
    def native_scores_have_native_masks(self) -> Self:
        if not self.data.native_masks and any(self.segment_for(n).resolution == "native" for n in self.segmenters):
            raise ValueError("resolution: native of section segment needs data.native_masks: true")
        return self

    @model_validator(mode="after")
    def keys_are_names(self) -> Self:
        for section in ("generators", "training_sets", "segmenters"):
            for key in getattr(self, section):
                if not re.fullmatch(NAME, key):
                    raise ValueError(f"{section}.{key}: a name has lower-case letters, digits and _ only")
        if "shuffled" in self.generators:
            raise ValueError("generators.shuffled: the name belongs to the control of faithfulness; choose another")
        return self


def _known(where: str, name: str, there: dict[str, Any]) -> None:
    if name not in there:
        raise ValueError(f"{where} is {name!r}; there are: {', '.join(there)}")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Reads and checks a study. Raises UserError."""
    return parse(Params, read_yaml(path))
