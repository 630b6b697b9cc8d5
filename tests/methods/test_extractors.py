"""The extractors against the libraries that define them: preprocessing pixel for pixel, features, distances."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.methods.features import _clip, _dinov2, _inception, _lpips, _preprocessing
from pipeline.networks import pretrained
from tests import weight_files

SIZES = [(64, 64), (256, 256), (299, 299), (384, 384), (600, 450), (100, 333)]  # height, width


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("official")


def twenty() -> Iterator[torch.Tensor]:
    """uint8 [3, H, W]: noise and edges, larger and smaller than the networks' inputs, square and not."""
    rng = np.random.default_rng(0)
    for number in range(20):
        height, width = SIZES[number % len(SIZES)]
        image = rng.integers(0, 256, (3, height, width), np.uint8)
        image[:, height // 3 :, width // 3 :] = rng.integers(0, 256, (3, 1, 1))
        yield torch.from_numpy(image)


def few(size: int = 64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 3, size, size), np.uint8))


def picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def built(name: str, folder: Path) -> Any:
    return plugins.load("features", name).build(weight_files.write(name, folder))


def test_inception_prepares_as_clean_fid_does() -> None:
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    for image in twenty():
        expected = resize(np.asarray(picture(image))).transpose(2, 0, 1)
        assert np.array_equal(_inception.resize(image[None])[0].numpy(), expected)


@pytest.mark.parametrize("name, inside", [("inception", False), ("inception_legacy", True)])
def test_inception_gives_clean_fids_features(name: str, inside: bool, folder: Path) -> None:
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    rows = built(name, folder)(few())
    network = InceptionV3W(str(folder / "weights"), download=False, resize_inside=inside)
    resize = build_resizer("legacy_tensorflow" if inside else "clean")
    prepared = np.stack([resize(np.asarray(picture(image))).transpose(2, 0, 1) for image in few()])
    with torch.no_grad():
        expected = network(torch.from_numpy(prepared).float())
    assert rows == pytest.approx(expected.numpy(), abs=1e-4)
    assert np.abs(rows[0] - rows[1]).max() > 1e-2


def test_the_two_inceptions_differ(folder: Path) -> None:
    clean, legacy = (built(name, folder) for name in ("inception", "inception_legacy"))
    assert np.abs(clean(few()) - legacy(few())).max() > 1e-2
    assert clean.id.split("-")[1] == legacy.id.split("-")[1]  # the same file


def test_inceptions_file_without_its_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))
    with pytest.raises(UserError, match=r"inception-2015-12-05\.pt is not FID-Inception"):
        plugins.load("features", "inception").build(path)


@pytest.mark.parametrize("name", weight_files.CLIP)
def test_clip_prepares_as_open_clip_does(name: str) -> None:
    import open_clip

    architecture = weight_files.CLIP[name]
    with torch.device("meta"):
        _, _, expected = open_clip.create_model_and_transforms(architecture, device="meta")
    prepare = _clip.image_transform(architecture)
    for image in twenty():
        assert torch.equal(_preprocessing.preprocess(image[None], prepare)[0], expected(picture(image)))  # type: ignore


@pytest.fixture(scope="module")
def clip_file(folder: Path) -> Path:
    path = weight_files.write("clip_b32", folder)
    assert path is not None
    return path


@pytest.mark.parametrize("architecture, same", [("ViT-B-32-quickgelu", True), ("ViT-B-32", False)])
def test_clip_gives_open_clips_features_with_quick_gelu_only(architecture: str, same: bool, clip_file: Path) -> None:
    import open_clip

    whole, _, prepare = open_clip.create_model_and_transforms(architecture)
    whole.eval().load_state_dict(load_file(clip_file), strict=False)
    with torch.no_grad():
        batch = torch.stack([prepare(picture(image)) for image in few()])  # type: ignore[operator]
        expected = whole.encode_image(batch, normalize=True).numpy()  # type: ignore[operator]
    rows = plugins.load("features", "clip_b32").build(clip_file)(few())
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert bool(np.abs(rows - expected).max() < 1e-4) is same  # the other activation is off by 1e-3


@pytest.mark.parametrize("architecture", ["ViT-B-32", "no-such-network"])
def test_clip_without_quick_gelu_is_not_built(architecture: str) -> None:
    with pytest.raises(ValueError, match="OpenAI's activations"):
        _clip.build_tower(architecture)


def test_dinov2_prepares_as_dgm_eval_does() -> None:
    from torchvision import transforms as tv

    steps = [tv.Resize((224, 224), tv.InterpolationMode.BICUBIC), tv.ToTensor()]
    expected = tv.Compose([*steps, tv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    for image in twenty():
        assert torch.equal(_dinov2.preprocess(image[None])[0], expected(picture(image)))


def test_dinov2_reads_the_518_pixel_file_as_timm_does(folder: Path) -> None:
    import timm

    path = weight_files.write("dinov2_s", folder)
    assert path is not None
    assert load_file(path)["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    loaded = timm.create_model(
        weight_files.DINO["dinov2_s"],
        pretrained=True,
        pretrained_cfg_overlay={"file": str(path)},
        img_size=224,
        num_classes=0,
    ).eval()
    with torch.no_grad():
        expected = loaded(_dinov2.preprocess(few())).numpy()
        token = loaded.forward_features(_dinov2.preprocess(few()))[:, 0].numpy()
    rows = built("dinov2_s", folder)(few())
    assert rows == pytest.approx(expected, abs=1e-3)
    assert rows == pytest.approx(token, abs=1e-3)  # the class token
    assert np.abs(rows[0] - rows[1]).max() > 1e-2


@pytest.mark.parametrize("change", ["missing", "shape", "surplus"])
def test_weights_that_do_not_fit_are_told_by_file_and_tensor(change: str, folder: Path, tmp_path: Path) -> None:
    state = load_file(weight_files.write("dinov2_s", folder) or "")
    tensor = state.pop("blocks.3.mlp.fc1.weight")
    if change != "missing":
        state["blocks.3.mlp.fc1.weight" + ("_too" if change == "surplus" else "")] = tensor[:5].clone()
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    with pytest.raises(
        UserError, match=r"model\.safetensors does not hold the published weights: blocks\.3\.mlp\.fc1\.weight"
    ):
        plugins.load("features", "dinov2_s").build(path)


@pytest.mark.parametrize("name", [name for name in weight_files.DINO if name != "dinov2_s"])
def test_large_dinov2_files_fit(name: str) -> None:
    """Shapes only: nothing is held in memory."""
    with torch.device("meta"):
        network = _dinov2.build_backbone(weight_files.DINO[name])
        rows = network(torch.zeros(1, 3, 224, 224))
    assert rows.shape == (1, {"dinov2_b": 768, "dinov2_l": 1024}[name])


def test_large_clip_fits() -> None:
    tower = _clip.build_tower(weight_files.CLIP["clip_l14_336"])
    assert tower(torch.zeros(1, 3, 336, 336, device="meta")).shape == (1, 768)


@pytest.mark.parametrize("name", ["lpips_alex", pytest.param("lpips_vgg", marks=pytest.mark.slow)])
def test_lpips_equals_the_package(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package finds the same file where torchvision looks for its downloads."""
    import lpips

    published = plugins.load("features", name).WEIGHTS
    path = tmp_path / "hub" / "checkpoints" / published.file
    path.parent.mkdir(parents=True)
    torch.save(weight_files.trunk(weight_files.TRUNK[name], whole=True), path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs = lpips.LPIPS(net=name.removeprefix("lpips_"), verbose=False)
    ours = plugins.load("features", name).build(path)
    first, second = few(96), few(96).flip(0)
    with torch.no_grad():
        expected = theirs(first.float() / 255, second.float() / 255, normalize=True).flatten().numpy()
    assert expected.min() > 1e-3
    assert ours(first, second) == pytest.approx(expected, rel=1e-3)


def test_lpips_scales_bytes_to_one_and_minus_one() -> None:
    assert _lpips.rescale(torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1)).flatten().tolist() == [-1, 1]


def test_weights_that_would_run_code_are_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    path = tmp_path / "alexnet-owt-7be5be79.pth"
    torch.save({"features.0.weight": Trap()}, path)
    with pytest.raises(UserError, match=r"alexnet-owt-7be5be79\.pth"):
        plugins.load("features", "lpips_alex").build(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.hub
@pytest.mark.parametrize("name", sorted({*weight_files.CLIP, *weight_files.DINO, *weight_files.TRUNK, "inception"}))
def test_the_published_file_opens(name: str) -> None:
    """Needs the file in weights/ or in a cache: `make weights`."""
    module = plugins.load("features", name)
    try:
        extractor = module.build(pretrained.find(name, module.WEIGHTS, {}))
    except pretrained.Unavailable as missing:
        pytest.skip(str(missing))
    found = extractor(few(), few().flip(0)) if module.OUTPUT == "distances" else extractor(few())
    assert np.isfinite(found).all()
    assert np.abs(found).max() > 1e-3


@pytest.mark.hub
@pytest.mark.parametrize("name, inside", [("inception", False), ("inception_legacy", True)])
def test_the_published_inception_gives_clean_fids_features(name: str, inside: bool) -> None:
    from cleanfid.inception_torchscript import InceptionV3W

    module = plugins.load("features", name)
    try:
        file = pretrained.find(name, module.WEIGHTS, {})
    except pretrained.Unavailable as missing:
        pytest.skip(str(missing))
    network = InceptionV3W(str(file.parent), download=False, resize_inside=inside)
    with torch.no_grad():
        expected = network(few().float() if inside else _inception.resize(few())).numpy()
    assert module.build(file)(few()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["inception", "inception_legacy", "clip_b32", "dinov2_s"])
def test_rows_of_a_gpu_are_those_of_the_cpu(name: str, folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    extractor = built(name, folder)
    here = extractor(few())
    assert extractor(few().cuda()) == pytest.approx(here, rel=1e-2, abs=2e-2)
