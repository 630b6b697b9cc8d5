"""Further training of a small base's decoder: killed and resumed, its latents, its losses, what it leaves alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file

from pipeline.core import files, paths, seeding, tables
from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.diffusion.schedule import noise_of
from pipeline.networks.perceptual import PerceptualDistance
from pipeline.networks.projected_discriminator import CHANNELS, ProjectedDiscriminator
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import decoder
from pipeline.stages.base.base import make_base
from pipeline.stages.base.decoder import DecoderBatches, Decoding, shift_of
from pipeline.stages.base.denoised_latents import DenoisedLatents, denoised
from pipeline.stages.base.params import Base, Decoder
from pipeline.study import Params
from tests.killed_training import Killed, kill_at
from tests.reference import sharp_base_literal as literal
from tests.tiny_base import write_tiny_base

PARTS: dict[str, Any] = {
    "autoencoder": {"channels": [16, 16], "crop": 16, "max_steps": 3, "batch_size": 4, "learning_rate": 1e-3},
    "denoiser": {"channels": [32, 32], "text_width": 16, "max_steps": 2, "batch_size": 4, "learning_rate": 1e-3},
}
SMALL = {"max_steps": 3, "batch_size": 2, "latents": 7, "sampling_steps": 5}
VAE = "vae/diffusion_pytorch_model.safetensors"


def made(params: Params, **parts: Any) -> Path:
    make_base(params.model_copy(update={"base": parse(Base, PARTS | parts, "base")}))
    return paths.base(params.study)


@pytest.mark.parametrize("stop", [6, 8])  # the first and the last step of the decoder
def test_a_killed_training_ends_with_the_same_bytes(
    toy_study: Params, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr(decoder, "Recipe", lambda *given, **named: Recipe(*given, **named | {"checkpoint_every": 1}))
    whole = files.tree_sha256(made(toy_study, decoder=SMALL))
    for folder in (*Path("work").glob("base-*"), paths.base("toy")):
        folder.rename(folder.with_name(f"{folder.name}_whole"))
    with monkeypatch.context() as context:
        kill_at(context, stop)
        with pytest.raises(Killed):
            made(toy_study, decoder=SMALL)
    assert not paths.base("toy").exists()
    assert files.tree_sha256(made(toy_study, decoder=SMALL)) == whole


def test_only_the_decoder_changes(toy_study: Params) -> None:
    plain = made(toy_study)
    before, rest = load_file(plain / VAE), files.tree_sha256(plain / "unet")
    folder = made(toy_study, decoder=SMALL)
    after = load_file(folder / VAE)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    assert files.tree_sha256(folder / "unet") == rest
    rows = tables.read_table(folder / "losses_decoder.csv")
    assert list(rows[0]) == ["step", "pixels", "perceptual", "adversarial", "discriminator"]
    assert len(rows) == SMALL["max_steps"]
    assert files.read_json(folder / "manifest.json")["perceptual"]["network"] == "tf_efficientnet_lite0"


@pytest.fixture
def model(tmp_path: Path) -> StableDiffusion:
    return StableDiffusion.open(write_tiny_base(tmp_path / "sd", "v_prediction"))


@pytest.fixture
def pairs(toy_study: Params) -> Pairs:
    return Pairs.read(ImageSet.open(paths.real("toy")).split("train"))


def latents_of(model: StableDiffusion, pairs: Pairs, tmp_path: Path, **values: Any) -> DenoisedLatents:
    section = Decoder(**SMALL | values)
    return DenoisedLatents.made(model, pairs, section, "s", tmp_path / "latents.safetensors")


def test_latents_with_strength_0_are_those_of_their_images(
    model: StableDiffusion, pairs: Pairs, tmp_path: Path
) -> None:
    latents = latents_of(model, pairs, tmp_path)
    everything = torch.cat([pairs.image, pairs.image.flip(-1)])
    for row in range(0, 7, 3):  # strengths take turns
        image = latents.images[row]
        assert (everything == image).flatten(1).all(1).any()
        mean = model.moments(image[None].float() / 255).chunk(2, dim=1)[0] * model.vae.config["scaling_factor"]
        assert torch.allclose(latents.paired[row], mean[0], atol=1e-5)


def test_sampled_latents_are_those_of_the_published_sampler(
    model: StableDiffusion, pairs: Pairs, tmp_path: Path
) -> None:
    latents = latents_of(model, pairs, tmp_path, eta=0.0)
    scheduler: Any = DDIMScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(5)
    x = torch.randn(latents.sampled.shape[1:], generator=seeding.torch_rng("s", "sampled", 2))[None]
    text = model.embed([pairs.prompts[0]])
    with torch.no_grad():
        for timestep in scheduler.timesteps.tolist():
            x = scheduler.step(model.unet(x, timestep, text).sample, timestep, x).prev_sample
    assert torch.allclose(latents.sampled[2], x[0], atol=1e-4)


@pytest.mark.parametrize(("strength", "kept"), [(0.2, 1), (0.4, 2), (1.0, 5)])
def test_latents_are_those_of_ddim_written_out(
    model: StableDiffusion, pairs: Pairs, strength: float, kept: int
) -> None:
    """Song et al. 2021, eqs. 12 and 16 with eta 1; images are noised by eq. 4 of Ho et al. 2020."""
    section, text = Decoder(**SMALL), model.embed(pairs.prompts[:2])
    found = denoised(model, pairs.image[:2], pairs.prompts[:2], _streams(), strength, section)
    abar, streams = model.scheduler.alphas_cumprod, _streams()
    timesteps = [801, 601, 401, 201, 1][5 - kept :]
    shape = found.shape[1:]
    x = noise_of(streams, shape)
    if strength < 1:
        clean = model.moments(pairs.image[:2].float() / 255).chunk(2, dim=1)[0] * model.vae.config["scaling_factor"]
        x = abar[timesteps[0]].sqrt() * clean + (1 - abar[timesteps[0]]).sqrt() * x
    for timestep in timesteps:
        noise = noise_of(streams, shape)
        now, then = abar[timestep], abar[max(timestep - 200, 0)]
        with torch.no_grad():
            v = model.unet(x, timestep, text).sample
        x0, epsilon = now.sqrt() * x - (1 - now).sqrt() * v, now.sqrt() * v + (1 - now).sqrt() * x
        sigma = ((1 - then) / (1 - now) * (1 - now / then)).sqrt()
        x = then.sqrt() * x0 + (1 - then - sigma**2).sqrt() * epsilon + sigma * noise
    assert torch.allclose(found, x, atol=1e-4)


def _streams() -> list[torch.Generator]:
    return [seeding.torch_rng("literal", number) for number in range(2)]


def test_a_damaged_file_of_latents_is_made_again(model: StableDiffusion, pairs: Pairs, tmp_path: Path) -> None:
    first, path = latents_of(model, pairs, tmp_path), tmp_path / "latents.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(latents_of(model, pairs, tmp_path).sampled, first.sampled)
    assert load_file(path)["paired"].shape == first.paired.shape


def test_the_average_is_what_is_saved(toy_study: Params) -> None:
    kept = [load_file(made(toy_study, decoder=SMALL | {"ema_decay": decay}) / VAE) for decay in (0.99, 1e-6)]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_latents_are_made_once(
    model: StableDiffusion, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = latents_of(model, pairs, tmp_path)
    monkeypatch.setattr(StableDiffusion, "moments", None)
    again = latents_of(model, pairs, tmp_path)
    assert torch.equal(first.paired, again.paired) and torch.equal(first.sampled, again.sampled)


def test_losses_are_those_of_their_definition(model: StableDiffusion, pairs: Pairs, tmp_path: Path) -> None:
    """Against the terms written out number by number, in float64."""
    latents = latents_of(model, pairs, tmp_path)
    batch = DecoderBatches(latents, 2, "b").batch(0)
    model.vae.double()
    section = Decoder(**SMALL)
    perceptual, heads = PerceptualDistance().double(), ProjectedDiscriminator().double().eval()
    objective = Decoding(model.vae, section, perceptual, heads).eval()
    double = decoder.DecoderBatch(
        batch.paired.double(), batch.image.double(), batch.sampled.double(), batch.other.double(), batch.streams
    )
    losses = {name: float(value.detach()) for name, value in objective(double, 0.0).items()}
    scale = model.vae.config["scaling_factor"]
    with torch.no_grad():
        paired, sampled = (model.vae.decode(one / scale).sample for one in (double.paired, double.sampled))
    gap = (paired - double.image).numpy()
    assert losses["pixels"] == pytest.approx(0.2 * (np.abs(gap).mean() + (gap**2).mean()), rel=1e-10)
    assert losses["perceptual"] == pytest.approx(0.5 * literal.perceptual(paired, double.image), rel=1e-6)
    offset = shift_of(batch.streams[0], paired.shape[-1])
    wanted, judged = 0.0, 0.0
    real_maps, made_maps = (
        literal.maps(torch.roll(torch.cat(images), offset, (2, 3)))
        for images in ([double.image, double.other], [paired, sampled])
    )
    for head, real, false in zip(heads, real_maps, made_maps, strict=True):
        with torch.no_grad():
            good, bad = (head(torch.from_numpy(maps)).flatten().tolist() for maps in (real, false))
        wanted += literal.decoder(bad)
        judged += literal.discriminator(good, bad)
    assert losses["adversarial"] == pytest.approx(0.2 * wanted, rel=1e-5)
    assert losses["discriminator"] == pytest.approx(judged, rel=1e-6)


def test_each_loss_reaches_its_own_side_alone(model: StableDiffusion, pairs: Pairs, tmp_path: Path) -> None:
    batch = DecoderBatches(latents_of(model, pairs, tmp_path), 2, "b").batch(0)
    objective = Decoding(model.vae, Decoder(**SMALL), PerceptualDistance(), ProjectedDiscriminator())
    objective(batch, 0.0)["discriminator"].backward()
    assert all(weight.grad is None for weight in objective.decoder.parameters())
    assert all(weight.grad is not None for weight in objective.adversary.parameters())
    objective.zero_grad()
    objective(batch, 0.0)["adversarial"].backward()
    assert all(weight.grad is None for weight in objective.adversary.parameters())
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in objective.decoder.parameters())
    assert all(not weight.requires_grad for weight in model.vae.encoder.parameters())


def test_shares_of_a_batch_make_up_the_whole(model: StableDiffusion, pairs: Pairs, tmp_path: Path) -> None:
    batches = DecoderBatches(latents_of(model, pairs, tmp_path), 4, "b")
    shares = [batches.batch(3, rank, 2) for rank in range(2)]
    whole = batches.batch(3)
    assert torch.equal(torch.stack([share.paired for share in shares], 1).flatten(0, 1), whole.paired)
    assert torch.equal(whole.part(1, 3).sampled, whole.sampled[1:3])


def test_heads_fit_the_maps_of_the_network_and_have_unit_norms() -> None:
    torch.manual_seed(0)
    maps = PerceptualDistance().feature_maps(torch.zeros(1, 3, 64, 64))
    assert tuple(one.shape[1] for one in maps) == CHANNELS
    heads = ProjectedDiscriminator()
    for _ in range(50):  # every call in training makes a step of the power iteration
        logits = heads(maps)
    assert [one.shape[1:] for one in logits] == [(1, *one.shape[2:]) for one in maps]
    weight = heads[0][0].weight.detach().flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"max_steps": 0}, "decoder.max_steps: .* greater than 0, found 0"),
        ({"adversarial_weight": 0}, "decoder.adversarial_weight: .* greater than 0, found 0"),
        ({"sampling_steps": 501}, "decoder.sampling_steps: .* less than or equal to 500, found 501"),
        ({"eta": 1.5}, "decoder.eta: .* less than or equal to 1, found 1.5"),
        ({"ema_decay": 1}, "decoder.ema_decay: .* less than 1, found 1"),
        ({"sample_steps": 5}, "did you mean sampling_steps"),
    ],
)
def test_unusable_values_are_named(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(Base, PARTS | {"decoder": SMALL | given}, "base")


def test_a_base_from_elsewhere_keeps_its_decoder() -> None:
    with pytest.raises(UserError, match="the section decoder needs source scratch"):
        parse(Base, {"source": "a/b", "decoder": SMALL}, "base")
