"""Check that something sees the images without masks."""

from collections.abc import Iterator

from pipeline.cli.doctor.findings import Finding, warning
from pipeline.study import Params


def findings(params: Params) -> Iterator[Finding]:
    """Find images without masks that no stage sees: only a base that is made from scratch is pretrained on them."""
    if params.data.unlabelled is None or (params.base is not None and params.base.source == "scratch"):
        return
    why = "the study has no base" if params.base is None else f"base.source is {params.base.source}"
    cure = "set base.source: scratch with the sections autoencoder and denoiser, or remove data.unlabelled"
    yield warning("unlabelled", f"data.unlabelled names images without masks that no stage sees: {why}", cure)
