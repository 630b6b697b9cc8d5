"""Parameters of a study: params.yaml, read as DVC reads it, bounded, unknown keys refused with their dotted path.

The sections of every study stand here, so that each stage checks the whole file without loading torch; what only one
plug-in knows (generators.*, segmenters.*, the reader's keys of data) is checked by the plug-in's own `Params`.
A study may have no generators and compare segmenters of real images: then base, finetune, generate and judge are None.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, field_validator, model_validator

from pipeline.core.errors import UserError
from pipeline.core.pair_limit import PairLimit
from pipeline.core.privacy import check_private
from pipeline.core.section import Section, parse, read_yaml
from pipeline.segmentation.params import Segment, SegmenterEntry, entry_settings
from pipeline.stages.audit.params import Audit
from pipeline.stages.base.params import Base
from pipeline.stages.compare.params import (
    Compare,
    check_ladders,
    check_resamples,
    check_subgroups,
    common_training_set,
    reference_of,
    rivals,
)
from pipeline.stages.confirm.params import Confirm, check_fresh
from pipeline.stages.finetune.checks import check_generators
from pipeline.stages.finetune.params import OUTSIDE, TRAINING_FREE, Finetune, GeneratorEntry, rival_generators
from pipeline.stages.generate.params import Generate
from pipeline.stages.judge.params import Judge
from pipeline.stages.mix.checks import check_seeds, check_training, check_training_sets
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.prepare.params import Data
from pipeline.stages.pseudo_labels.params import PseudoLabels
from pipeline.stages.report.params import Report
from pipeline.stages.score.params import Score

NAME = r"^[a-z0-9][a-z0-9_]*$"
OF_GENERATORS = ("base", "finetune", "generate", "judge")  # sections that a study without generators may leave out


class Params(Section):
    """A whole study."""

    study: str = Field(pattern=NAME)
    """Name of the study. Its outputs lie in `outputs/<study>`, its report in `reports/<study>`. Lower-case letters,
    digits and `_`.
    """
    seed: int = Field(default=0, ge=0)
    """Seed of every random draw: splits, training, sampling, resampling. Equal seeds give equal results on equal
    machines.
    """
    threads: int = Field(gt=0)
    """Threads of each process. A different number changes the order of sums and thus the last bits of the results."""
    data: Data
    """The data set."""
    if TYPE_CHECKING:  # no stage that reads them runs where they are None
        base: Base
        finetune: Finetune
        generate: Generate
        generators: dict[str, GeneratorEntry]
        judge: Judge
    else:
        base: Base | None = None
        """The base model that the generators are fine-tuned on. `null` where no generator of the study uses one."""
        finetune: Finetune | None = None
        """How the generators are trained. `null` where the study has no generators."""
        generate: Generate | None = None
        """How images are drawn. `null` where the study has no generators."""
        generators: dict[str, GeneratorEntry] = Field(default_factory=dict)
        """One entry per generator; the key is its name. `{}` for a study that compares segmenters of real images."""
        judge: Judge | None = None
        """The segmenter that measures faithfulness. `null` where the study has no generators."""
    score: Score = Score()
    """Which scores of the synthetic image sets are computed."""
    audit: Audit = Audit()
    """The search for copies of training images."""
    training_sets: dict[str, TrainingSet] = Field(min_length=1)
    """One entry per arm of the study; the key is its name."""
    segmenters: dict[str, SegmenterEntry] = Field(min_length=1)
    """One entry per segmenter; the key is its name. Every segmenter is trained on every training set."""
    segment: Segment
    """How the segmenters are trained and scored."""
    confirm: Confirm | None = None
    """Fresh seeds for the headline. `null` for no confirmation."""
    compare: Compare = Compare()
    """How the arms are compared."""
    report: Report = Report()
    """The HTML report."""

    @field_validator("generators", "score", "audit", mode="before")
    @classmethod
    def null_is_the_default(cls, value: Any) -> Any:
        return {} if value is None else value  # DVC wants the key there, whatever it holds

    @model_validator(mode="after")
    def keys_are_names(self) -> Self:
        for section in ("generators", "training_sets", "segmenters"):
            for key in getattr(self, section):
                if not re.fullmatch(NAME, key):
                    raise ValueError(f"{section}.{key}: a name consists of lower-case letters, digits and _")
        if "shuffled" in self.generators:
            raise ValueError(
                "generators.shuffled: this name belongs to the control of faithfulness; choose another one"
            )
        return self

    @model_validator(mode="after")
    def generators_have_their_sections(self) -> Self:
        absent = [name for name in OF_GENERATORS if getattr(self, name) is None]
        if not any(entry.uses_base(name) for name, entry in self.generators.items()):
            absent = [name for name in absent if name != "base"]
        if self.generators and absent:
            raise ValueError(f"{absent[0]} is missing; a study with generators needs the section {absent[0]}")
        return self

    @model_validator(mode="after")
    def generators_draw_coloured_pictures(self) -> Self:
        if self.generators and "prompt" not in self.data.model_fields_set:
            raise ValueError("data.prompt: Field required by generators")
        if self.generators and (self.data.shape or self.data.planes != 3):
            what = "volumes" if self.data.shape else f"{self.data.planes} channels"
            raise ValueError(f"generators draw pictures of 3 channels, but data has {what}; set generators: {{}}")
        return self

    @model_validator(mode="after")
    def generators_see_every_label(self) -> Self:
        if self.generators and self.data.ignore_label is not None:
            raise ValueError(
                "data.ignore_label: generators follow masks in which every pixel has a label; set generators: {}, or"
                " complete the masks"
            )
        return self

    @model_validator(mode="after")
    def real_images_can_lend_their_pixels(self) -> Self:
        for name, entry in self.generators.items():
            if entry.needs_real_images and entry.method_of(name) in TRAINING_FREE:
                key = "keep_background" if entry.keep_background else "from_image"
                raise ValueError(
                    f"generators.{name}.{key}: {entry.method_of(name)} cannot draw into a given image; remove it"
                )
            if entry.from_image and int(self.generate.steps * entry.from_image.strength + 1e-9) < 1:
                raise ValueError(
                    f"generators.{name}.from_image.strength {entry.from_image.strength} of generate.steps"
                    f" {self.generate.steps} leaves no step to run; raise one of them"
                )
        return self

    @model_validator(mode="after")
    def private_training_is_possible(self) -> Self:
        for name, entry in self.generators.items():
            base, noise = self.base and self.base.source, bool(self.generate and self.generate.sensor_noise)
            check_private(name, entry, entry.settings(self.finetune), base, noise)
        return self

    @model_validator(mode="after")
    def generators_can_be_trained(self) -> Self:
        if self.pseudo_labels is not None:
            _known("data.unlabelled.pseudo_labels.segmenter", self.pseudo_labels.segmenter, self.segmenters)
        check_generators(self.generators, self.finetune, predicted=self.pseudo_labels is not None)
        return self

    @model_validator(mode="after")
    def reused_features_are_those_of_a_base(self) -> Self:
        for name, entry in self.generators.items():
            if self.generate.reused and not entry.uses_base(name):
                raise ValueError(
                    f"generate.reuse_encoder: generators.{name} ({entry.method_of(name)}) has no encoder of a base,"
                    " whose features could be reused; remove it"
                )
        return self

    @model_validator(mode="after")
    def images_from_outside_name_their_masks(self) -> Self:
        for name, entry in self.generators.items():
            if entry.method_of(name) in OUTSIDE and (entry.masks not in ("real", "bank") or entry.count is not None):
                raise ValueError(
                    f"generators.{name}: images of a {entry.method_of(name)} are named after training images or masks"
                    " of a bank; set masks to real or bank, without count"
                )
        return self

    @model_validator(mode="after")
    def own_values_of_segmenters_are_values_of_segment(self) -> Self:
        for name, entry in self.segmenters.items():
            try:
                entry_settings(self.segment, name, entry)
            except UserError as error:
                raise ValueError(str(error).removeprefix("params.yaml: ")) from None
        return self

    @model_validator(mode="after")
    def size_can_be_halved_often_enough(self) -> Self:
        if self.base and self.base.autoencoder and self.base.denoiser:
            halvings = len(self.base.autoencoder.channels) + len(self.base.denoiser.channels) - 2
            if self.data.size % 2**halvings:
                raise ValueError(f"data.size is {self.data.size}; the base's levels need a multiple of {2**halvings}")
            self.base.autoencoder.check_discriminator(self.data.size)
        return self

    @model_validator(mode="after")
    def names_refer_to_something(self) -> Self:
        copies = {name: entry.copies for name, entry in self.generators.items()}
        limits = {name: entry.pair_limit for name, entry in self.generators.items()}
        check_training_sets(self.training_sets, copies, self.score.metrics, limits, judge_maps=self.score.judge_maps)
        check_seeds(self.training_sets, self.segment.seeds)
        if self.judge:
            _known("judge.segmenter", self.judge.segmenter, self.segmenters)
        _known("compare.reference", self.compare.reference, self.training_sets)
        check_ladders(self.training_sets, self.compare.reference)
        if between := self.compare.segmenters:
            _known("compare.segmenters.reference", between.reference, self.segmenters)
            _known("compare.segmenters.training_set", common_training_set(self.compare), self.training_sets)
            if len(self.segmenters) < 2:
                raise ValueError("compare.segmenters needs a second entry of segmenters")
        if self.compare.subgroups and not self.generators:
            raise ValueError("compare.subgroups compares arms with synthetic images, and there is no generator")
        check_subgroups(self.compare, self.data.attributes.columns if self.data.attributes else ())
        return self

    @model_validator(mode="after")
    def confirmation_trains_fresh_seeds(self) -> Self:
        if self.confirm is None:
            return self
        sets, reference = self.training_sets, self.compare.reference
        against = rivals(sets, rival_generators(self.generators), reference)
        arms = [name for name, one in sets.items() if one.generator and name not in (reference, *against)]
        if not arms:
            raise ValueError(
                "confirm has no arm to choose: apart from the reference no training set holds synthetic images;"
                " set confirm: null"
            )
        trained_again = [*dict.fromkeys(reference_of(sets, reference, name) for name in arms), *arms, *against]
        check_fresh(self.confirm, self.segment.seeds, {n: one.seed_offset for n, one in sets.items()}, trained_again)
        check_seeds({name: sets[name] for name in trained_again}, self.confirm.seeds)
        return self

    @model_validator(mode="after")
    def arms_can_be_trained(self) -> Self:
        settings = [entry_settings(self.segment, name, entry) for name, entry in self.segmenters.items()]
        budgets = {segment.max_steps for segment in settings if segment.max_steps}
        there = {"unlabelled": self.data.unlabelled is not None, "predicted": self.pseudo_labels is not None}
        check_training(self.training_sets, budgets, **there)
        strong = {segment.augment for segment in settings} | {one.augment for one in self.training_sets.values()}
        if self.data.shape and "strong" in strong:
            raise ValueError("augment: strong works on images of two dimensions, but data.shape makes volumes; use own")
        return self

    @model_validator(mode="after")
    def resamples_suffice(self) -> Self:
        sets, reference = self.training_sets, self.compare.reference
        against = rivals(sets, rival_generators(self.generators), reference)
        synthetic = [name for name, one in sets.items() if one.generator and name not in (reference, *against)]
        family = max(len(synthetic), len(against))
        others = len(self.segmenters) - 1 if self.compare.segmenters else 0
        check_resamples(self.compare, max(family * len(self.segmenters), others))
        return self

    @model_validator(mode="after")
    def native_scores_have_native_masks(self) -> Self:
        settings = [entry_settings(self.segment, name, entry) for name, entry in self.segmenters.items()]
        if not self.data.native_masks and any(segment.resolution == "native" for segment in settings):
            raise ValueError("resolution: native of section segment needs data.native_masks: true")
        return self

    @property
    def pseudo_labels(self) -> PseudoLabels | None:
        """How masks are predicted for the images without masks; None where they are not."""
        return self.data.unlabelled and self.data.unlabelled.pseudo_labels

    @property
    def pair_limits(self) -> dict[str, PairLimit]:
        """The limits on real training pairs by the entry that has one, such as generators.siamese_16."""
        entries = {f"generators.{name}": entry.pair_limit for name, entry in self.generators.items()}
        entries |= {f"training_sets.{name}": one.pair_limit for name, one in self.training_sets.items()}
        return {where: limit for where, limit in entries.items() if limit is not None}


def _known(where: str, name: str, there: dict[str, Any]) -> None:
    if name not in there:
        raise ValueError(f"{where} is {name!r}; the available ones are: {', '.join(there)}")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a study. Raises UserError."""
    return parse(Params, read_yaml(path))
