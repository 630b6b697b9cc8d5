"""Names of distances: a published name only on the extractor that it was published with."""

from collections.abc import Mapping

CMMD_EXTRACTOR = "clip_l14_336"
PUBLISHED: Mapping[tuple[str, str], str] = {
    ("frechet", "inception"): "fid",
    ("frechet", "inception_legacy"): "fid_legacy",
    ("frechet_infinity", "inception"): "fid_infinity",
    ("frechet_infinity", "inception_legacy"): "fid_infinity_legacy",
    ("frechet_infinity_both", "inception"): "fid_infinity_both",
    ("frechet_infinity_both", "inception_legacy"): "fid_infinity_both_legacy",
    ("kernel", "inception"): "kid",
    ("kernel", "inception_legacy"): "kid_legacy",
    ("mmd_rbf", CMMD_EXTRACTOR): "cmmd",
    ("mmd_rbf_unbiased", CMMD_EXTRACTOR): "cmmd_unbiased",
}


def distance_name(distance: str, extractor: str) -> str:
    """Return `fid`, `kid`, `cmmd` on their published extractors; else `distance.extractor`."""
    return PUBLISHED.get((distance, extractor), f"{distance}.{extractor}")
