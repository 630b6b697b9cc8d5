"""What every feature extractor must do; those with weights are built from files in the official format."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import plugins
from pipeline.core.contracts import Comparer, Embedder
from pipeline.core.errors import UserError
from pipeline.methods.features.efficientnet_lite0 import EfficientNetLite0, resize
from pipeline.networks.pretrained import Weights
from tests import weight_files

LARGE = {"clip_l14_336", "dinov2_b", "dinov2_l", "lpips_vgg"}
WIDTH = {"inception": 2048, "inception_legacy": 2048, "clip_b32": 512, "clip_l14_336": 768}
WIDTH |= {"dinov2_s": 384, "dinov2_b": 768, "dinov2_l": 1024, "efficientnet_lite0": 1280}
Build = Callable[[str], Any]


def named(gives: str) -> list[Any]:
    """The plug-ins that give rows, or distances; large ones are for the slow run."""
    names = [name for name in plugins.names("features") if gives == plugins.load("features", name).OUTPUT]
    return [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in names]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds an extractor once, from a file with random weights."""
    torch.set_num_threads(1)
    folder, built = tmp_path_factory.mktemp("official"), {}

    def build(name: str) -> Any:
        if name not in built:
            built[name] = plugins.load("features", name).build(weight_files.write(name, folder))
        return built[name]

    return build


@pytest.fixture(params=named("rows"))
def embed(request: pytest.FixtureRequest, build: Build) -> Embedder:
    return build(request.param)


@pytest.fixture(params=named("distances"))
def compare(request: pytest.FixtureRequest, build: Build) -> Comparer:
    return build(request.param)


def images(count: int, size: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), np.uint8))


def test_one_finite_row_per_image(embed: Embedder) -> None:
    rows = embed(images(3))
    assert rows.dtype == np.float32
    assert rows.shape == (3, WIDTH.get(embed.id.partition("-")[0], rows.shape[1]))
    assert np.isfinite(rows).all()
    assert rows.std(0).max() > 1e-4


def test_a_row_does_not_depend_on_its_batch(embed: Embedder) -> None:
    together = embed(images(3))
    for k in range(3):
        assert embed(images(3)[k : k + 1])[0] == pytest.approx(together[k], rel=1e-3, abs=1e-4)


def test_an_image_lies_at_no_distance_from_itself(compare: Comparer) -> None:
    assert compare(images(2, 64), images(2, 64)) == pytest.approx(np.zeros(2), abs=1e-7)


def test_distances_are_of_pairs_and_symmetric(compare: Comparer) -> None:
    first, second = images(3, 64), images(3, 64, seed=1)
    there = compare(first, second)
    assert there.dtype == np.float32
    assert there.shape == (3,)
    assert (there > 0).all()
    assert compare(second, first) == pytest.approx(there, rel=1e-3)
    assert compare(first[1:2], second[1:2]) == pytest.approx(there[1:2], rel=1e-3)


def test_a_larger_change_is_farther(compare: Comparer) -> None:
    image = images(1, 64) // 2
    near, far = (compare(image, image + change) for change in (4, 100))
    assert near < far


@pytest.mark.parametrize("name", [*named("rows"), *named("distances")])
def test_the_id_is_part_of_a_file_name_and_names_the_extractor(name: str, build: Build) -> None:
    assert re.fullmatch(rf"{name}-[A-Za-z0-9_.-]+", build(name).id)
    if plugins.load("features", name).WEIGHTS is not None:
        assert re.fullmatch(rf"{name}-[0-9a-f]{{16}}-[A-Za-z0-9_.-]+", build(name).id)


@pytest.mark.parametrize("name", plugins.names("features"))
def test_weights_say_where_they_come_from(name: str) -> None:
    published: Weights | None = plugins.load("features", name).WEIGHTS
    if published is not None:
        assert published.source.startswith(("https://", "hf:"))
        assert published.licence
        assert published.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", published.sha256)


def test_every_file_has_its_own_place() -> None:
    published = {plugins.load("features", name).WEIGHTS for name in plugins.names("features")} - {None}
    assert (
        len({weights.place for weights in published}) == len(published) == 8
    )  # 9 extractors, Inception's file serves 2


@pytest.mark.parametrize("name", sorted(plugins.names("features")))
def test_a_file_that_is_none_of_weights_is_told_by_its_name(name: str, tmp_path: Any) -> None:
    published: Weights | None = plugins.load("features", name).WEIGHTS
    if published is not None:
        path = tmp_path / published.file
        path.write_bytes(b"<html>Not found</html>")
        with pytest.raises(UserError, match=re.escape(str(path))):
            plugins.load("features", name).build(path)


def test_the_id_names_extractor_weights_and_preprocessing(build: Build) -> None:
    # sha256 of the package's weights file starts with 57934424, as its name says
    assert build("efficientnet_lite0").id == "efficientnet_lite0-579344248a93e230-bicubic224-half"


def test_the_weights_fit_the_network_and_its_normalisation(build: Build) -> None:
    """Activations of the stem spread as the batch norm of ImageNet training says; another normalisation is off by 5."""
    from sklearn.datasets import load_sample_image

    extractor = build("efficientnet_lite0")
    assert isinstance(extractor, EfficientNetLite0)
    photos = [torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1) for name in ("china.jpg", "flower.jpg")]
    batch = resize(torch.stack(photos))
    with torch.no_grad():
        spread = extractor.network.conv_stem(batch * 2 - 1).var((0, 2, 3))
    expected = extractor.network.bn1.running_var
    used = expected > 1e-4
    assert 0.6 < (spread / expected)[used].median() < 1.8


def test_resizing_keeps_fractions_and_a_constant() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).repeat(3, 64, 1)[None]
    wide = resize(ramp)
    assert wide.shape == (1, 3, 224, 224)
    assert (wide * 255 - (wide * 255).round()).abs().max() > 0.1  # not rounded to bytes
    assert resize(torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)) == pytest.approx(torch.full((1, 3, 224, 224), 0.2))


def test_shrinking_is_antialiased() -> None:
    stripes = (torch.arange(896) % 4 < 2).to(torch.uint8).repeat(3, 896, 1)[None] * 255
    assert (resize(stripes) - 0.5).abs()[..., 20:-20, 20:-20].max() < 0.05  # else: black and white
