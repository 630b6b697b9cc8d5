"""The licences of the bases, as the card of an exported generator states them."""

import re
from dataclasses import dataclass

from pipeline.networks.stable_diffusion.families import SD1, SD2, SDXL, Family

TEXT = (
    "{model} is under [{licence}]({address}), and so is all that is derived from it, such as these weights. Whoever"
    " passes them on must hand over a copy of that licence, say that the files were changed, keep the notices, and bind"
    " the receiver to the use restrictions of its Attachment A, which forbid, among others, medical advice and the"
    " interpretation of medical results."
)
RAIL_PLUS = "CreativeML Open RAIL++-M"


@dataclass(frozen=True)
class Terms:
    """The licence of the bases of one family."""

    model: str
    licence: str
    address: str
    hub: str  # the hub's name of the licence
    names: re.Pattern[str]  # in the names of bases that are under it

    @property
    def text(self) -> str:
        """What the licence asks for."""
        return TEXT.format(model=self.model, licence=self.licence, address=self.address)

    def is_of(self, base: str) -> bool:
        """Whether the name of a base tells that it is under this licence."""
        return self.names.search(base) is not None


TERMS: dict[Family, Terms] = {
    SD1: Terms(
        "Stable Diffusion 1.5",
        "CreativeML OpenRAIL-M",
        "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        "creativeml-openrail-m",
        re.compile(r"stable-diffusion-v?1|v1-5|sd-?v?1[-.]?[45]", re.IGNORECASE),
    ),
    SD2: Terms(
        "Stable Diffusion 2",
        RAIL_PLUS,
        "https://github.com/Stability-AI/stablediffusion/blob/main/LICENSE-MODEL",
        "openrail++",
        re.compile(r"stable-diffusion-v?2", re.IGNORECASE),
    ),
    SDXL: Terms(
        "Stable Diffusion XL",
        RAIL_PLUS,
        "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
        "openrail++",
        re.compile(r"stable-diffusion-xl|sdxl|sd_xl", re.IGNORECASE),
    ),
}
