"""What every feature extractor must do."""

import re
from functools import lru_cache

import numpy as np
import pytest
import torch

from pipeline import plugins
from pipeline.contracts import Embedder
from pipeline.features.efficientnet_lite0 import EfficientNetLite0, resized


@lru_cache
def built(name: str) -> Embedder:
    return plugins.load("features", name).build()


@pytest.fixture(params=plugins.names("features"))
def embed(request: pytest.FixtureRequest) -> Embedder:
    torch.set_num_threads(1)
    return built(request.param)


def images(count: int, size: int = 48) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8))


def test_one_finite_row_per_image(embed: Embedder) -> None:
    rows = embed(images(3))
    assert rows.dtype == np.float32
    assert rows.ndim == 2
    assert len(rows) == 3
    assert np.isfinite(rows).all()
    assert rows.std(0).max() > 0


def test_a_row_does_not_depend_on_its_batch(embed: Embedder) -> None:
    together = embed(images(3))
    for k in range(3):
        assert embed(images(3)[k : k + 1])[0] == pytest.approx(together[k], rel=1e-3, abs=1e-4)


def test_the_id_is_part_of_a_file_name(embed: Embedder) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", embed.id)


def test_the_id_names_extractor_weights_and_preprocessing() -> None:
    # sha256 of the package's weights file starts with 57934424, as its name says
    assert built("efficientnet_lite0").id == "efficientnet_lite0-579344248a93e230-bicubic224-half"


def test_efficientnet_gives_1280_pooled_features() -> None:
    assert built("efficientnet_lite0")(images(1)).shape == (1, 1280)


def test_the_weights_fit_the_network_and_its_normalisation() -> None:
    """Activations of the stem spread as the batch norm of ImageNet training says; another normalisation is off by 5."""
    from sklearn.datasets import load_sample_image

    extractor = built("efficientnet_lite0")
    assert isinstance(extractor, EfficientNetLite0)
    photos = [torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1) for name in ("china.jpg", "flower.jpg")]
    batch = resized(torch.stack(photos))
    with torch.no_grad():
        spread = extractor.network.conv_stem(batch * 2 - 1).var((0, 2, 3))
    expected = extractor.network.bn1.running_var
    used = expected > 1e-4
    assert 0.6 < (spread / expected)[used].median() < 1.8


def test_resizing_keeps_fractions_and_a_constant() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).repeat(3, 64, 1)[None]
    wide = resized(ramp)
    assert wide.shape == (1, 3, 224, 224)
    assert (wide * 255 - (wide * 255).round()).abs().max() > 0.1  # not rounded to bytes
    assert resized(torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)) == pytest.approx(
        torch.full((1, 3, 224, 224), 0.2)
    )


def test_shrinking_is_antialiased() -> None:
    stripes = (torch.arange(896) % 4 < 2).to(torch.uint8).repeat(3, 896, 1)[None] * 255
    assert (resized(stripes) - 0.5).abs()[..., 20:-20, 20:-20].max() < 0.05  # else: black and white
