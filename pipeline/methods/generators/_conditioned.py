"""Parameters that all controlled generators share, apart from these, which load torch."""

from typing import Any, Self

from pydantic import Field, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core import plugins
from pipeline.core.contracts import Hint
from pipeline.core.section import Section


class Conditioned(Section):
    """What the control network sees of a pair (a file of pipeline/methods/conditioning, its keys), and what counts."""

    conditioning: str = "mask"
    """What the control network sees of a pair: a file of `pipeline/methods/conditioning`."""
    conditioning_params: dict[str, Any] = Field(default_factory=dict)
    """The keys of that file."""
    lesion_weight: float = Field(default=0.0, ge=0, lt=1)
    """Share of the loss that covers only the cells of lesions, so that every lesion counts the same; 0 switches it
    off.
    """

    min_snr: float | None = Field(default=None, gt=0)
    """Gamma of the min-SNR weights of the loss (Hang et al. 2023), 5 in that paper; `null` weights all levels of noise
    equally.
    """

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it is not used, so that earlier fingerprints stay valid."""
        later = {"lesion_weight": 0.0, "min_snr": None}
        return {key: value for key, value in handler(self).items() if key not in later or value != later[key]}

    @model_validator(mode="after")
    def conditioning_is_known(self) -> Self:
        self._options()
        return self

    def conditions(self, num_classes: int) -> Hint:
        """Build the conditioning for a number of classes. Raises UserError where its weights are not available."""
        return plugins.load("conditioning", self.conditioning).build(self._options(), num_classes)

    def _options(self) -> Section:
        return plugins.read_params("conditioning", self.conditioning, self.conditioning_params, "conditioning_params")
