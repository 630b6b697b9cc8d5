"""Stable Diffusion 2.1 and XL: sizes as diffusers counts them, conditions as its pipelines and networks see them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipeline.data.loading import Pairs
from pipeline.methods.generators import t2i_adapter
from pipeline.methods.generators._control import control_network
from pipeline.methods.generators._sampling import DenoisingNetworks
from pipeline.networks.stable_diffusion import families, sd15, sd21, sdxl, split_unet
from pipeline.networks.stable_diffusion.acceleration import frozen_half
from pipeline.networks.stable_diffusion.added_conditions import with_added
from pipeline.networks.stable_diffusion.latent_batches import LatentBatches
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.moments import moments_of
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.blank_batches import blank_latents
from pipeline.stages.finetune.empty_base import empty_base
from tests.family_bases import SIZE, Name, write_family_base
from tests.official_configs import SD21, SDXL, Configs

PROMPTS = ["A photo of a polyp.", "another"]


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(weight.numel() for weight in module.parameters())


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return StableDiffusion.open(write_family_base(tmp_path_factory.mktemp("xl"), "sdxl"))


@pytest.mark.parametrize(
    ("official", "ours", "unet"), [(SD21, sd21.CONFIGS, 865_910_724), (SDXL, sdxl.CONFIGS, 2_567_463_684)]
)
def test_parts_have_the_parameters_of_the_published_configurations(
    official: Configs, ours: PartConfigs, unet: int
) -> None:
    with torch.device("meta"):
        theirs: Any = UNet2DConditionModel.from_config(official["unet"])
        vae: Any = AutoencoderKL.from_config(official["vae"])
        tower = CLIPTextModel(CLIPTextConfig(**official["text_encoder"]))
    assert count(theirs) == count(sd15.empty_unet(ours)) == unet
    assert count(vae) == count(sd15.empty_vae(ours)) == 83_653_863
    assert count(tower) == count(sd15.empty_text_tower(ours))
    assert sd15.empty_vae(ours).config["scaling_factor"] == vae.config["scaling_factor"]
    shapes = [
        {name: value.shape for name, value in one.state_dict().items()} for one in (theirs, sd15.empty_unet(ours))
    ]
    assert shapes[0] == shapes[1]
    if "text_encoder_2" in official:
        with torch.device("meta"):
            second = CLIPTextModelWithProjection(CLIPTextConfig(**official["text_encoder_2"]))
        assert count(second) == count(sd15.empty_second_tower(ours)) == 694_659_840


@pytest.mark.parametrize(
    ("source", "official", "text"),
    [
        ("stabilityai/stable-diffusion-2-1", SD21, (77, 1024)),
        ("stabilityai/stable-diffusion-xl-base-1.0", SDXL, (78, 2048)),
    ],
)
def test_the_control_network_has_the_parameters_of_diffusers_own(
    source: str, official: Configs, text: tuple[int, int]
) -> None:
    """Of a ControlNet that is configured as those published for this base are."""
    keys = ("block_out_channels", "down_block_types", "attention_head_dim", "cross_attention_dim", "layers_per_block",
            "use_linear_projection", "transformer_layers_per_block", "addition_embed_type", "addition_time_embed_dim",
            "projection_class_embeddings_input_dim")  # fmt: skip
    base = empty_base(Base(source=source), 512)
    with torch.device("meta"):
        theirs = ControlNetModel(**{key: official["unet"][key] for key in keys if key in official["unet"]})
        ours = control_network(base, "sparse", 0.0)
    assert count(ours) == count(theirs)
    assert base.schedule.prediction == official["scheduler"]["prediction_type"]
    batch = blank_latents(base, 512, 2)
    assert tuple(batch.text.shape[1:]) == base.text_shape == text
    with torch.device("meta"), torch.no_grad():
        t, noisy = torch.zeros(2, dtype=torch.long), batch.moments[:, :4]
        encoded = split_unet.encode(base.unet, noisy, t, batch.text)
        residuals = split_unet.control(ours, noisy, t, batch.text, torch.empty(2, 320, 64, 64))
        assert split_unet.UNetDecoder(base.unet)(encoded, residuals, batch.text).shape == noisy.shape


def test_prompts_are_those_of_diffusers_pipeline(xl: StableDiffusion) -> None:
    pipe = pipeline_of(xl)
    states, without, pooled, pooled_without = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=True)
    found, empty = xl.embed(PROMPTS, SIZE), xl.embed(["", ""], SIZE)
    sizes = torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE], dtype=torch.float32)
    assert found.shape[1:] == xl.text_shape
    for ours, theirs, vector in ((found, states, pooled), (empty, without, pooled_without)):
        assert torch.equal(ours[:, :-1], theirs)
        assert torch.equal(ours[:, -1, :24], vector)
        assert torch.equal(ours[:, -1, 24:30], sizes.expand(2, -1)) and not ours[:, -1, 30:].any()
    assert not empty[:, :-1].any() and not empty[:, -1, :24].any()
    assert float((found[0] - found[1]).abs().max()) > 0.01


def test_an_empty_prompt_is_encoded_where_the_pipeline_does_not_force_zeros(tmp_path: Path) -> None:
    index = {"force_zeros_for_empty_prompt": False}
    model = StableDiffusion.open(write_family_base(tmp_path, "sdxl", index=index))
    states, _, pooled, _ = pipeline_of(model).encode_prompt([""], do_classifier_free_guidance=False)
    found = model.embed([""], SIZE)
    assert torch.equal(found[:, :-1], states) and torch.equal(found[:, -1, :24], pooled) and bool(pooled.any())


def test_the_size_must_be_told(xl: StableDiffusion) -> None:
    with pytest.raises(ValueError, match="conditioned on the size of the images"):
        xl.embed(PROMPTS)


def pipeline_of(model: StableDiffusion) -> StableDiffusionXLPipeline:
    assert model.second is not None
    return StableDiffusionXLPipeline(
        model.vae, model.text_encoder, model.second.text_encoder, model.tokenizer, model.second.tokenizer, model.unet,
        model.scheduler, force_zeros_for_empty_prompt=model.second.zeros_for_empty, add_watermarker=False,
    )  # fmt: skip


@torch.no_grad()
def test_the_networks_in_parts_are_those_of_diffusers_in_float64(tmp_path: Path) -> None:
    """Encoder, control branch and decoder with pooled prompts and sizes that differ between the samples."""
    model = StableDiffusion.open(write_family_base(tmp_path, "sdxl"))
    unet, network = model.unet.double(), control_network(model, "sparse", 0.1).double()
    assert all(torch.equal(own, base) for own, base in zip(network.add_embedding.parameters(),
               unet.add_embedding.parameters(), strict=True))  # fmt: skip
    noisy, hint = torch.randn(2, 4, 8, 8).double(), torch.rand(2, 3, SIZE, SIZE).double()
    states, pooled, t = torch.randn(2, 7, 40).double(), torch.randn(2, 24).double(), torch.tensor([3, 700])
    text = torch.cat([with_added(states[:1], pooled[:1], 64), with_added(states[1:], pooled[1:], 512)])
    sizes = torch.tensor([[64, 64, 0, 0, 64, 64], [512, 512, 0, 0, 512, 512]], dtype=torch.float32)
    added = {"text_embeds": pooled, "time_ids": sizes}
    down, middle = network(noisy, t, states, hint, added_cond_kwargs=added, return_dict=False)
    expected = unet(
        noisy, t, states, added_cond_kwargs=added,
        down_block_additional_residuals=tuple(down), mid_block_additional_residual=middle,
    ).sample  # fmt: skip
    embedded = network.controlnet_cond_embedding(hint)
    residuals = split_unet.control(network, noisy, t, text, embedded)
    found = split_unet.UNetDecoder(unet)(split_unet.encode(unet, noisy, t, text), residuals, text)
    assert close(found, expected)
    for ours, theirs in zip(residuals, [*down, middle], strict=True):
        assert close(ours, theirs)
    other = split_unet.encode(unet, noisy, t, text.roll(1, 0))[2]
    assert not close(other, split_unet.encode(unet, noisy, t, text)[2])


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= 1e-12 * float(expected.abs().max())


@torch.no_grad()
def test_a_frozen_encoder_in_half_precision_sees_exact_sizes(xl: StableDiffusion, tmp_path: Path) -> None:
    """Sizes of 351 and 352 pixels are one number in bfloat16."""
    model = StableDiffusion.open(write_family_base(tmp_path, "sdxl"))
    for part in frozen_half(model.unet):
        part.to(torch.bfloat16)
    assert model.unet.add_embedding.linear_1.weight.dtype == torch.bfloat16
    noisy, t, states, pooled = torch.randn(1, 4, 8, 8), torch.tensor([10]), torch.randn(1, 7, 40), torch.randn(1, 24)
    found = [split_unet.encode(model.unet, noisy, t, with_added(states, pooled, size))[2] for size in (351, 352)]
    exact = split_unet.encode(xl.unet, noisy, t, with_added(states, pooled, 351))[2]
    assert not torch.equal(found[0], found[1])
    assert torch.allclose(found[0], exact, atol=0.05, rtol=0.05)


def test_a_dropped_prompt_is_dropped_as_a_whole_and_each_is_encoded_once(
    xl: StableDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randint(0, 256, (4, 3, SIZE, SIZE), dtype=torch.uint8)
    pairs = Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("a polyp", "a polyp", "two", "two"), tuple("abcd"))
    model, asked = StableDiffusion.open(write_family_base(tmp_path, "sdxl")), []
    embed = StableDiffusion.embed
    monkeypatch.setattr(StableDiffusion, "embed", lambda self, *args: asked.append(args) or embed(self, *args))
    batches = LatentBatches(model, pairs, 4, "s", flip=True, dropout=0.5)
    assert asked == [([""], SIZE), (["a polyp"], SIZE), (["two"], SIZE)]
    assert model.second is not None and model.second.text_encoder.device.type == "meta"  # offloaded
    rows = torch.cat([batches.batch(step).text for step in range(6)])
    dropped = [row for row in rows if not row[:-1].any()]
    assert 0 < len(dropped) < len(rows)
    whole = xl.embed([""], SIZE)[0]
    assert all(torch.equal(row, whole) for row in dropped)  # no states, no pooled prompt, the sizes
    assert torch.equal(model.embed(["two"], SIZE), xl.embed(["two"], SIZE))  # the towers are read again


def test_moments_are_kept_by_autoencoder(tmp_path: Path) -> None:
    """Bases with one autoencoder share them; the scaling factor is applied to what is kept, not kept."""
    image = torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
    kept = []
    bases: tuple[tuple[str, Name], ...] = (("one", "sdxl"), ("same", "sdxl"), ("other", "sd21"))
    for folder, name in bases:
        model = StableDiffusion.open(write_family_base(tmp_path / folder, name), keep=tmp_path / "moments")
        moments_of(model, image, flipped=False)
        kept.append(len(list((tmp_path / "moments").iterdir())))
    assert kept == [1, 1, 2]


@pytest.mark.parametrize(("upcast", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_the_autoencoder_of_xl_computes_in_float32_under_autocast(
    upcast: bool, dtype: torch.dtype, tmp_path: Path
) -> None:
    model = StableDiffusion.open(write_family_base(tmp_path, "sdxl", vae={"force_upcast": upcast}))
    seen: list[torch.dtype] = []
    for part in (model.vae.encoder, model.vae.decoder):
        part.conv_in.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model.images(model.latents(model.moments(torch.rand(1, 3, SIZE, SIZE)), torch.zeros(1, 4, 8, 8)))
    assert seen == [dtype, dtype]


def test_an_adapter_fits_the_encoder_of_xl(xl: StableDiffusion) -> None:
    adapter = t2i_adapter.adapter(tuple(xl.unet.config["block_out_channels"]), xl.factor)
    text, noisy, t = xl.embed(PROMPTS, SIZE), torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    plain = split_unet.encode(xl.unet, noisy, t, text)[0]
    assert split_unet.encode(xl.unet, noisy, t, text, adapter(torch.rand(2, 3, SIZE, SIZE)))[0].shape == plain.shape


def test_ids_of_the_hub_tell_the_family_before_anything_is_here() -> None:
    assert families.published("stabilityai/stable-diffusion-2-1-base") == families.Published(families.SD2)
    assert families.published("someone/else").family == families.SD1
    assert families.published(families.XL_BASE).family == families.SDXL


@torch.no_grad()
def test_a_reused_encoder_adds_the_prompt_to_the_new_timestep(xl: StableDiffusion) -> None:
    networks = DenoisingNetworks(xl.unet, control_network(xl, "sparse", 0.1), split_unet.UNetDecoder(xl.unet))
    text, noisy, hint = xl.embed(PROMPTS, SIZE), torch.randn(2, 4, 8, 8), torch.randn(2, 32, 8, 8)
    before, after = torch.tensor([700, 700]), torch.tensor([680, 680])
    features = networks.encode(noisy, before, (text, [hint]))
    reused = networks.reuse_encoder(features, noisy, after, text)
    assert torch.equal(reused[0][2], split_unet.encode(xl.unet, noisy, after, text)[2])
    assert all(torch.equal(old, new) for old, new in zip(features[0][1], reused[0][1], strict=True))
