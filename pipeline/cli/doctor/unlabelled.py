"""Check that something sees the images without masks."""

from collections.abc import Iterator

from pipeline.cli.doctor.findings import Finding, warning
from pipeline.stages.base.params import Base
from pipeline.stages.prepare.params import Data


def findings(data: Data, base: Base | None) -> Iterator[Finding]:
    """Find images without masks that no stage sees: only a base that is made from scratch is pretrained on them."""
    if data.unlabelled is None or (base is not None and base.source == "scratch"):
        return
    why = "the study has no base" if base is None else f"base.source is {base.source}"
    cure = "set base.source: scratch with the sections autoencoder and denoiser, or remove data.unlabelled"
    yield warning("unlabelled", f"data.unlabelled names images without masks that no stage sees: {why}", cure)
