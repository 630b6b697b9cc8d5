"""Names of weights at the full size of SD 1.5, against diffusers' own reading of LDM files; the tokenizer."""

import pytest
import torch
from diffusers.loaders import single_file_utils
from torch import nn

from pipeline.networks.stable_diffusion import ldm_base, ldm_control, ldm_keys, sd15
from pipeline.networks.stable_diffusion.ldm_keys import Table

CONFIGS = sd15.PartConfigs()
DHI = "control_model.input_hint_block."
DHI_SHAPES = {  # §1.1 and §1.6 of the method's specification, read by hand
    "0.initial_conv.weight": (16, 3, 3, 3),
    "0.layer1.conv2.weight": (16, 16, 3, 3),
    "0.conv_before_res2.weight": (32, 16, 3, 3),
    "0.layer2.conv1.bias": (32,),
    "0.patch_merge1.norm.weight": (128,),
    "0.patch_merge1.reduction.weight": (64, 128),
    "0.conv_before_res3.weight": (64, 64, 3, 3),
    "0.patch_merge2.reduction.weight": (128, 256),
    "0.conv_before_res4.bias": (128,),
    "0.layer4.conv1.weight": (128, 128, 3, 3),
    "0.patch_merge3.reduction.bias": (256,),
    "0.conv_before_res5.weight": (256, 256, 3, 3),
    "0.layer5.conv2.weight": (256, 256, 3, 3),
    "1.weight": (320, 256, 3, 3),
    "1.bias": (320,),
}


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {**ldm_base.empty_parts(CONFIGS), "sparse": ldm_control.empty_controlnet(CONFIGS, "sparse")}


def checkpoint(model: nn.Module, table: Table) -> dict[str, torch.Tensor]:
    """A meta tensor under each name of the file."""
    return {key: torch.empty(s, device="meta") for key, s in ldm_base.shapes_of(model, table).items()}


def test_unet_names_are_those_that_diffusers_reads(models: dict[str, nn.Module]) -> None:
    table = ldm_keys.unet(models["unet"].state_dict(), CONFIGS.unet)
    file = checkpoint(models["unet"], table)
    read = single_file_utils.convert_ldm_unet_checkpoint(dict(file), dict(models["unet"].config))
    assert len(table) == 686 and read.keys() == table.keys()
    assert all(read[ours] is file[theirs] for ours, theirs in table.items())


def test_moving_averages_are_those_that_diffusers_reads(models: dict[str, nn.Module]) -> None:
    table = ldm_keys.unet(models["unet"].state_dict(), CONFIGS.unet)
    file = checkpoint(models["unet"], table)
    averages = {ldm_keys.ema(key): torch.empty_like(value) for key, value in file.items()}
    config = dict(models["unet"].config)
    read = single_file_utils.convert_ldm_unet_checkpoint({**file, **averages}, config, extract_ema=True)
    assert len(averages) == 686
    assert all(read[ours] is averages[ldm_keys.ema(theirs)] for ours, theirs in table.items())


def test_autoencoder_names_are_those_that_diffusers_reads(models: dict[str, nn.Module]) -> None:
    table = ldm_keys.vae(models["vae"].state_dict(), CONFIGS.vae)
    file = checkpoint(models["vae"], table)
    read = single_file_utils.convert_ldm_vae_checkpoint(dict(file), dict(models["vae"].config))
    assert len(table) == 248 and read.keys() == table.keys()
    changed = {theirs for ours, theirs in table.items() if read[ours] is not file[theirs]}
    assert len(changed) == 8 and all(ldm_keys.is_vae_attention(key) for key in changed)


def test_stock_controlnet_names_are_those_that_diffusers_reads(models: dict[str, nn.Module]) -> None:
    table = ldm_keys.controlnet(models["sparse"].state_dict(), CONFIGS.unet)
    file = checkpoint(models["sparse"], table)
    read = single_file_utils.convert_controlnet_checkpoint(dict(file), dict(models["sparse"].config))
    assert len(table) == 340 and read.keys() == table.keys()
    assert all(read[ours] is file[theirs] for ours, theirs in table.items())


def test_dense_hint_has_the_names_and_shapes_of_the_authors() -> None:
    network = ldm_control.empty_controlnet(CONFIGS, "dense")
    shapes = ldm_base.shapes_of(network, ldm_keys.controlnet(network.state_dict(), CONFIGS.unet))
    hint = {key.removeprefix(DHI): shape for key, shape in shapes.items() if key.startswith(DHI)}
    # Five plain convolutions, five blocks of two, three merges of norm and projection, the zero one: weight and bias.
    assert len(hint) == 2 * (5 + 10 + 6 + 1)
    assert DHI_SHAPES.items() <= hint.items()
    assert sum(torch.Size(shape).numel() for shape in hint.values()) == 3_263_872
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 363_456_512


def test_released_file_has_1511_names_and_no_two_parts_share_one() -> None:
    network = ldm_control.empty_controlnet(CONFIGS, "dense")
    control = ldm_keys.controlnet(network.state_dict(), CONFIGS.unet)
    tables = [*ldm_base.base_tables(ldm_base.empty_parts(CONFIGS), CONFIGS).values(), control]
    names = {name for table in tables for name in table.values()} | ldm_control.buffers(77).keys()
    assert len(control) == 340 - 16 + 44
    assert len(names) == 686 + 248 + 196 + 368 + 13


def test_text_tower_has_196_weights_under_the_prefix_of_2022(models: dict[str, nn.Module]) -> None:
    table = ldm_keys.text(models["text_encoder"].state_dict())
    assert len(table) == 196
    assert set(ldm_keys.text([f"text_model.{key.removeprefix('text_model.')}" for key in table]).values()) == set(
        table.values()
    )
    assert "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.bias" in table.values()


def test_tables_of_the_schedule_are_those_of_1000_steps() -> None:
    tables = ldm_control.buffers(77)
    assert len(tables) == 13 and tables[ldm_keys.POSITIONS].tolist() == [list(range(77))]
    assert tables["betas"][0] == pytest.approx(0.00085, rel=1e-6) and tables["betas"][-1] == pytest.approx(0.012)
    assert tables["alphas_cumprod"][0] == pytest.approx(0.99915, abs=1e-6)
    scheduler = sd15.scheduler()
    torch.testing.assert_close(tables["alphas_cumprod"], scheduler.alphas_cumprod, rtol=0, atol=1e-6)
    assert tables["posterior_variance"][0] == 0 and tables["posterior_mean_coef1"][0] == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "A photo of a polyp.",
        "a type of colonoscopy lesion, wireless capsule endoscopy #.",
        "naïve 3D µ-scale 日本 512",
    ],
)
def test_tokenizer_gives_the_numbers_of_another_one(prompt: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    ours = sd15.tokenizer()([prompt], padding="max_length", max_length=77, truncation=True).input_ids[0]
    theirs = SimpleTokenizer(clean="lower")([prompt])[0].tolist()
    used = theirs.index(49407) + 1
    assert ours[:used] == theirs[:used] and set(ours[used:]) <= {49407}  # SD 1.5 fills up with the end token
    assert len(ours) == 77


def test_tokenizer_has_the_published_vocabulary() -> None:
    tokenizer = sd15.tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer(["a photo of a cat"]).input_ids == [[49406, 320, 1125, 539, 320, 2368, 49407]]  # CLIP's own
