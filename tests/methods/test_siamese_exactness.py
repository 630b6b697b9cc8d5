"""Thirteen facts in which Siamese-Diffusion is easily got wrong, and where each is tested.

| fact | test |
|---|---|
| 1 parameters of every part | test_siamese_exactness.py::test_parameters_of_every_part |
| 2 hint input and patch merging | test_siamese_exactness.py::test_the_hint_input_makes_48_cells_of_384_pixels |
| | test_siamese.py::test_patch_merging_gathers_columns_first |
| 3 identities of the first step | test_siamese.py::test_first_step_is_the_base_model |
| 4 which loss reaches which weights | test_siamese.py::test_gradient_table |
| | test_siamese.py::test_nothing_frozen_gets_a_gradient |
| 5 the step with deep copies, float64 | test_siamese.py::test_fast_step_equals_the_literal_one |
| 6 gates of online augmentation, full batch | test_siamese.py::test_augmentation_starts_after_a_third_of_training |
| | test_siamese.py::test_augmentation_takes_t_up_to_200_and_divides_by_the_full_batch |
| 7 latents noised again | test_siamese.py::test_noised_again_latents_have_the_closed_form |
| 8 DDIM timesteps and the alpha-bars between them | test_siamese_exactness.py::test_ddim_steps_from_981_to_1 |
| 9 the branch without prompt sees the mask | test_generators.py::test_the_branch_without_prompt_sees_the_mask |
| 10 a saved mask is the mask | test_siamese_exactness.py::test_a_saved_mask_is_the_mask |
| | test_generate.py::test_every_mask_has_its_copies_and_the_columns_tell_all |
| 11 processes draw different timesteps | test_siamese_exactness.py::test_processes_draw_different_timesteps |
| 12 images do not depend on batches and processes | test_sampling.py::test_an_image_does_not_depend_on_its_batch |
| | test_kill_and_ranks.py::test_one_two_and_three_processes_make_the_same_files |
| 13 squashing to 384 pixels against OpenCV | test_siamese_exactness.py::test_masks_take_the_nearest_pixel |
| | test_siamese_exactness.py::test_enlarged_images_are_those_of_opencv |
| | test_siamese_exactness.py::test_reduced_images_are_averaged |
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pipeline.data.decoding import resize
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.methods.generators import siamese
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.networks.stable_diffusion.latent_batches import sample_noise
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.finetune.params import Finetune
from tests.conftest import REPOSITORY
from tests.tiny_base import write_tiny_base

Pixels = NDArray[np.uint8]
BLOCKS = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4


def test_every_test_of_the_table_exists() -> None:
    named = re.findall(r"(\w+\.py)::(\w+)", str(__doc__))
    assert len(named) == 20
    for file, test in named:
        (path,) = (REPOSITORY / "tests").rglob(file)
        assert f"def {test}(" in path.read_text(), f"{file}::{test}"


# --- 1, 2: sizes ---------------------------------------------------------------------------------------------------


def count(*parts: nn.Module) -> int:
    return sum(weight.numel() for part in parts for weight in part.parameters())


def test_parameters_of_every_part() -> None:
    """Stable Diffusion 1.5 as diffusers configures it, on the meta device."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64, attention_head_dim=8)
        network = ControlNetModel(cross_attention_dim=768, attention_head_dim=8)
        stock = count(network)
        network.controlnet_cond_embedding = DenseHintInput(320, 8)
        vae = AutoencoderKL(
            down_block_types=BLOCKS[0], up_block_types=BLOCKS[1], block_out_channels=(128, 256, 512, 512),
            layers_per_block=2, latent_channels=4,
        )  # fmt: skip
    assert count(unet) == 859_520_964
    assert (count(unet.conv_in), count(unet.time_embedding)) == (11_840, 2_050_560)
    assert [count(block) for block in unet.down_blocks] == [10_524_480, 36_818_560, 139_992_320, 62_277_120]
    assert count(unet.mid_block) == 97_038_080
    assert [count(block) for block in unet.up_blocks] == [162_241_280, 258_330_880, 71_413_120, 18_810_560]
    assert (count(unet.conv_norm_out), count(unet.conv_out)) == (640, 11_524)
    frozen = count(unet.conv_in, unet.time_embedding, unet.down_blocks, unet.mid_block)
    decoder = count(unet.up_blocks, unet.conv_norm_out, unet.conv_out)
    assert (frozen, decoder) == (348_712_960, 510_808_004)
    hint = count(network.controlnet_cond_embedding)
    assert (stock, count(network), hint) == (361_279_120, 363_456_512, 3_263_872)
    assert count(network) - hint == 360_192_640
    assert (count(network.controlnet_down_blocks), count(network.controlnet_mid_block)) == (9_840_000, 1_639_680)
    assert count(network) + decoder == 874_264_516
    outer = count(vae.quant_conv), count(vae.post_quant_conv)
    assert (count(vae.encoder) + outer[0], count(vae.decoder) + outer[1]) == (34_163_664, 49_490_199)


def test_the_hint_input_makes_48_cells_of_384_pixels() -> None:
    """Parameters of the 13 layers and of the zero convolution, and the sizes between them."""
    with torch.device("meta"):
        hint = DenseHintInput(320, 8)
        sizes, x = [], torch.empty(2, 3, 384, 384)
        for layer in hint.layers:
            x = layer(x)
            sizes.append(tuple(x.shape[1:3]))
        assert hint(torch.empty(2, 3, 384, 384)).shape == (2, 320, 48, 48)
    assert sizes == [
        (16, 384), (16, 384), (32, 384), (32, 384), (64, 192), (64, 192), (64, 192),
        (128, 96), (128, 96), (128, 96), (256, 48), (256, 48), (256, 48),
    ]  # fmt: skip
    assert [count(layer) for layer in hint.layers] == [
        448, 4_640, 4_640, 18_496, 8_512, 36_928, 73_856, 33_408, 147_584, 295_168, 132_352, 590_080, 1_180_160,
    ]  # fmt: skip
    assert count(hint.zero) == 737_600


# --- 8: sampling ---------------------------------------------------------------------------------------------------


def test_ddim_steps_from_981_to_1() -> None:
    """Without noise in it, a latent grows by the root of the ratio of two alpha-bars 20 steps apart."""
    scheduler = tiny.scheduler("epsilon")
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    assert scheduler.alphas_cumprod.numpy() == pytest.approx(abar, rel=1e-4)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for t in scheduler.timesteps.tolist():
        grown = float(scheduler.step(none, t, one, return_dict=False)[0])
        assert grown == pytest.approx((abar[max(t - 20, 0)] / abar[t]) ** 0.5, rel=1e-4), t
    assert abar[0] == pytest.approx(0.99915)


# --- 10, 11: masks and processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [False, True])
def test_a_saved_mask_is_the_mask(empty: bool, tmp_path: Path) -> None:
    """A rectangle of 100 x 150 in 384 x 384: no stray pixel, as any reader of PNG sees it."""
    mask = np.zeros((384, 384), np.uint8)
    if not empty:
        mask[50:150, 100:250] = 1
    sample = Sample("a", np.zeros((3, 384, 384), np.uint8), mask[None], "", "train", "x")
    images = ImageSet.create(tmp_path / "set", DatasetSpec(name="x", size=384), [(sample, {})])
    saved = Image.open(images.folder / images.rows[0]["mask"])
    assert saved.mode == "L"
    assert (np.asarray(saved) == mask).all()
    assert (images.mask(images.rows[0]) == mask).all()


def test_processes_draw_different_timesteps(tmp_path: Path) -> None:
    """Eight processes, one sample each: together the timesteps and the noise of one process with the batch of eight."""
    model = StableDiffusion.open(write_tiny_base(tmp_path / "base", "epsilon"))
    image = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    pairs = Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("a polyp",) * 8, tuple("abcdefgh"))
    built = siamese.build(siamese.Params(), model, DatasetSpec(name="toy", size=16))
    batches = built.batches(pairs, Finetune(max_steps=3, global_batch=8, learning_rate=1e-3), "t")
    for step in (0, 2):
        each = [sample_noise(model, batches.batch(step, rank, 8)) for rank in range(8)]
        _, noise, t = sample_noise(model, batches.batch(step))
        assert len(set(t.tolist())) >= 7  # eight of a thousand: all differ with probability 0.97
        assert sorted(int(own[2]) for own in each) == sorted(t.tolist())
        order = [t.tolist().index(int(own[2])) for own in each]
        assert torch.equal(torch.cat([own[1] for own in each]), noise[order])
    assert not torch.equal(sample_noise(model, batches.batch(0))[2], sample_noise(model, batches.batch(1))[2])


# --- 13: squashing to 384 pixels -----------------------------------------------------------------------------------


def linear(image: Pixels, size: int) -> NDArray[np.float64]:
    """OpenCV's INTER_LINEAR: pixel centres at halves, the frame repeats its last pixels, no averaging."""

    def weights(length: int) -> NDArray[np.float64]:
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        return np.maximum(1 - np.abs(at[:, None] - np.arange(length)), 0)

    return weights(image.shape[1]) @ image.astype(float) @ weights(image.shape[2]).T


def picture(height: int, width: int) -> Pixels:
    """Smooth colours with noise."""
    rng = np.random.default_rng(0)
    waves = 100 + 60 * np.sin(np.arange(height)[:, None] / 9) + 40 * np.cos(np.arange(width) / 7)
    return np.clip(waves + rng.normal(0, 8, (3, height, width)), 0, 255).astype(np.uint8)


def test_the_literal_linear_resize_is_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    for height, width in ((288, 384), (531, 622)):
        image = picture(height, width)
        theirs = cv2.resize(np.moveaxis(image, 0, -1), (384, 384), interpolation=cv2.INTER_LINEAR)
        assert np.abs(np.moveaxis(theirs, -1, 0) - linear(image, 384)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(531, 622), (288, 384), (1072, 1920)])
def test_masks_take_the_nearest_pixel(height: int, width: int) -> None:
    """That whose centre is nearest. OpenCV's INTER_NEAREST starts from the corner: half a pixel of the original off."""
    labels = np.random.default_rng(0).integers(0, 2, (height, width)).astype(np.uint8)
    _, small = resize(picture(height, width), labels, 384)
    rows, columns = (((np.arange(384) + 0.5) * length / 384).astype(int) for length in (height, width))
    assert (small == labels[rows][:, columns]).all()
    corner = (np.arange(384) * height // 384, np.arange(384) * width // 384)
    assert np.abs(rows - corner[0]).max() <= np.ceil(height / 768)
    assert np.abs(columns - corner[1]).max() <= np.ceil(width / 768)


def test_enlarged_images_are_those_of_opencv() -> None:
    image = picture(288, 384)
    small, _ = resize(image, image[0], 384)
    assert np.abs(small - linear(image, 384)).max() <= 1


def test_reduced_images_are_averaged() -> None:
    """By 2.8 and 5, where OpenCV's linear keeps the noise that averaging removes; smooth colours stay alike."""
    image = picture(1072, 1920)
    small, _ = resize(image, image[0], 384)
    theirs = linear(image, 384)
    assert small.mean() == pytest.approx(theirs.mean(), abs=0.5)
    grain = [np.abs(np.diff(values.astype(float), axis=1)).mean() for values in (small, theirs)]
    assert grain[0] < grain[1]
