"""The section `audit` of a study: the search for copies of training images, and attacks on who was trained on."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core.section import Section

OFFLINE = ("efficientnet_lite0", "gradient_histograms")  # feature extractors that need no download

RELEASED, AUTOENCODER = "released", "autoencoder"  # scores of the synthetic images alone, and of the base
AttackScore = Literal["loss", "pia", "pian", "secmi", "released", "autoencoder"]


class Membership(Section):
    """Attacks that try to tell the training images of a generator from held-out images (membership inference)."""

    scores: tuple[AttackScore, ...] = ("loss", "pia", "released", "autoencoder")
    """Scores of an image by which it is called a training image. Of the weights: `loss`, `pia`, `pian`, `secmi`; of the
    base's weights: `autoencoder`; of the synthetic images alone: `released`.
    """
    noises: int = Field(default=16, gt=0)
    """Noises over which `loss` is averaged, the same for all images."""
    timesteps: tuple[int, ...] = (100, 200, 300)
    """Timesteps over which `loss`, `pia` and `pian` are averaged, of 1000. Choose them before you see a result."""
    bootstrap: int = Field(default=2000, ge=200)
    """Resamples of the intervals."""

    @property
    def of_weights(self) -> list[str]:
        """The scores that need the generator's weights."""
        return [name for name in self.scores if name != RELEASED]

    @field_validator("scores", "timesteps")
    @classmethod
    def some_and_none_twice(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"name at least one, and none twice; found {list(value)}")
        return value

    @field_validator("timesteps")
    @classmethod
    def timesteps_are_noisy(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := [t for t in value if not 0 < t < 1000]:
            raise ValueError(f"timesteps {wrong} do not lie between 1 and 999")
        return value


class Audit(Section):
    """The search for copies of training images among synthetic ones."""

    extractors: tuple[str, ...] = ()
    """Feature spaces of the search. Empty: the first two of `score.extractors`, `efficientnet_lite0` and
    `gradient_histograms` whose weights are available.
    """
    false_alarms: float = Field(default=0.01, gt=0, lt=0.5)
    """Share of held-out real images that may be called copies by mistake."""
    neighbours: int = Field(default=50, gt=1)
    """Number of nearest training images to whose mean distance the nearest one is compared."""
    permutations: int = Field(default=2000, ge=200)
    """Permutations of the test whether synthetic images lie nearer to the training images than held-out ones do."""
    pictures: int = Field(default=12, gt=0)
    """Closest pairs that the report shows."""
    membership: Membership | None = None
    """Attacks that try to tell training images from held-out images; `null` runs none."""

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it is not used, so that earlier fingerprints stay valid."""
        return {key: value for key, value in handler(self).items() if key != "membership" or value is not None}

    def candidate_extractors(self, scored: tuple[str, ...]) -> tuple[str, ...]:
        """Return the candidates for feature spaces in the order they are tried; `scored` is score.extractors."""
        return self.extractors or tuple(dict.fromkeys([*scored, *OFFLINE]))
