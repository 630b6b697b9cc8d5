"""An entry of a finished study: whether its results belong together, and the image sets that they are about."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.pseudo_labels import labelled
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.finetune.training_images import fine_tuning_pairs
from pipeline.stages.report.stage_outputs import LAST, unfinished_stages
from pipeline.study import Params

LISTED = 8  # stages named in an error


@dataclass(frozen=True)
class FinishedEntry:
    """One entry of the section `generators` of a study in the current folder. Raises UserError where it is unknown."""

    params: Params
    name: str

    def __post_init__(self) -> None:
        if self.name not in self.params.generators:
            names = ", ".join(self.params.generators) or "none, the study has no generators"
            raise UserError(f"there is no generator {self.name!r} in params.yaml; the available ones are: {names}")

    @property
    def study(self) -> str:
        """The name of the study."""
        return self.params.study

    @property
    def entry(self) -> GeneratorEntry:
        """The parameters of the entry."""
        return self.params.generators[self.name]

    @property
    def method(self) -> str:
        """The method of the entry."""
        return self.entry.method_of(self.name)

    @cached_property
    def real(self) -> ImageSet:
        """The real images of all splits."""
        return ImageSet.open(paths.real(self.study))

    @cached_property
    def train(self) -> ImageSet:
        """What the entry was fine-tuned on."""
        return fine_tuning_pairs(self.study, self.params.seed, self.name, self.entry, self.real)

    @property
    def beyond_limit(self) -> int:
        """The number of training images beyond the limit of the entry, which a base from scratch has seen too."""
        return len(self.real.split("train")) - len(labelled(self.train))

    @cached_property
    def images(self) -> ImageSet:
        """The images that the generator made."""
        return ImageSet.open(paths.synthetic(self.study, self.name))

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the trained generator."""
        return files.read_json(paths.generator(self.study, self.name) / "manifest.json")

    @cached_property
    def sha256(self) -> str:
        """The hash of the names and contents of the generator's files."""
        return files.tree_sha256(paths.generator(self.study, self.name))

    def check(self) -> None:
        """Raise UserError where a stage is missing, an output is damaged, or results do not belong together."""
        if missing := [stage for stage in unfinished_stages(self.params) if stage != LAST]:
            more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
            raise UserError(
                f"the study {self.study} is not finished, and a release card describes finished results; run dvc repro."
                f" These stages have not run: {', '.join(missing[:LISTED])}{more}"
            )
        for folder in (paths.generator, paths.synthetic, paths.scores, paths.audit):
            files.check(folder(self.study, self.name))
        for shared in (paths.base, paths.judge, paths.comparison, paths.confirmation):
            files.check(shared(self.study))
        if self.manifest["fingerprint"] != fingerprint(self.params, self.name, self.train):
            raise UserError(
                f"{paths.generator(self.study, self.name)} was trained with other parameters, data or base than the"
                " current ones, so its card would be wrong; run: dvc repro"
            )
        if {row.get("generator_sha256") for row in self.images} - {self.sha256}:
            raise UserError(
                f"the images in {self.images.folder} were not made by the generator in"
                f" {paths.generator(self.study, self.name)}; run: dvc repro"
            )
