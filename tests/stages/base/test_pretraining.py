"""A base trained from scratch: killed and resumed, its new terms, what stays as it was without them, sharing it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.core import files, paths, seeding, tables
from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs, flip
from pipeline.networks import packaged_efficientnet
from pipeline.networks.patch_discriminator import PatchDiscriminator
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import adversarial, autoencoder, denoiser
from pipeline.stages.base.adversarial import Adversarial, decoder_loss, discriminator_loss
from pipeline.stages.base.base import make_base
from pipeline.stages.base.denoiser import Denoising, EncodedBatches
from pipeline.stages.base.params import Autoencoder, Base
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.killed_training import Killed, kill_at
from tests.reference import sharp_base_literal as literal
from tests.tiny_base import write_tiny_base

SMALL: dict[str, Any] = {
    "autoencoder": {"channels": [16, 16], "crop": 16, "max_steps": 6, "batch_size": 4, "learning_rate": 1e-3},
    "denoiser": {"channels": [32, 32], "text_width": 16, "max_steps": 4, "batch_size": 4, "learning_rate": 1e-3},
}
SHARP = {"perceptual_weight": 0.5, "adversarial_weight": 0.05, "adversarial_start": 0.5}
RATES = {"max_steps": 300, "batch_size": 16, "learning_rate": 1e-3}
UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"


def base(sharp: dict[str, Any] | None = None, denoising: dict[str, Any] | None = None) -> Base:
    parts = {"autoencoder": SMALL["autoencoder"] | (sharp or {}), "denoiser": SMALL["denoiser"] | (denoising or {})}
    return parse(Base, parts, "base")


def made(params: Params, section: Base) -> Path:
    make_base(params.model_copy(update={"base": section}))
    return paths.base(params.study)


def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every step, and a discriminator that begins two steps early."""
    monkeypatch.setattr(adversarial, "WARM_UP", 2)
    for module in (autoencoder, denoiser):
        monkeypatch.setattr(module, "Recipe", lambda *given, **named: Recipe(*given, **named | {"checkpoint_every": 1}))


@pytest.mark.parametrize("stop", [3, 5, 7, 9])  # of six steps of the autoencoder and four of the denoiser
def test_a_killed_training_ends_with_the_same_bytes(
    toy_study: Params, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    short(monkeypatch)
    section = base(SHARP, {"ema_decay": 0.9, "min_snr": 5.0})
    whole = files.tree_sha256(made(toy_study, section))
    files_of_work = sorted(Path("work").glob("base-*"))
    for folder in (*files_of_work, paths.base("toy")):
        folder.rename(folder.with_name(f"{folder.name}_whole"))
    with monkeypatch.context() as context:
        kill_at(context, stop)
        with pytest.raises(Killed):
            made(toy_study, section)
    assert not paths.base("toy").exists()
    assert files.tree_sha256(made(toy_study, section)) == whole


def test_losses_have_columns_for_the_terms_in_use(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    short(monkeypatch)
    folder = made(toy_study, base(SHARP))
    rows = tables.read_table(folder / "losses_autoencoder.csv")
    assert list(rows[0]) == ["step", "l1", "l2", "kl", "perceptual", "discriminator", "adversarial"]
    assert [row["discriminator"] != "" for row in rows] == [step >= 1 for step in range(6)]
    assert [row["adversarial"] != "" for row in rows] == [step >= 3 for step in range(6)]
    assert files.read_json(folder / "manifest.json")["perceptual"] == {
        "network": "tf_efficientnet_lite0",
        "sha256": files.sha256(packaged_efficientnet.weights_file()),
    }
    plain = made(toy_study, base())
    assert list(tables.read_table(plain / "losses_autoencoder.csv")[0]) == ["step", "l1", "l2", "kl"]
    assert set(files.read_json(plain / "manifest.json")) == {"fingerprint", "source"}


def test_fingerprints_and_starts_are_those_of_before_where_the_new_keys_have_their_defaults(toy_study: Params) -> None:
    section = base()
    old = {
        "source": "scratch", "revision": None, "weights": "as_published", "variant": None, "precision": "fp32",
        "autoencoder": {"channels": [16, 16], "latent_channels": 4, "max_steps": 6, "batch_size": 4, "crop": 16,
                        "learning_rate": 1e-3, "kl_weight": 1e-6},
        "denoiser": {"channels": [32, 32], "text_width": 16, "prediction": "sample", "max_steps": 4, "batch_size": 4,
                     "learning_rate": 1e-3, "prompt_dropout": 0.05},
    }  # fmt: skip
    assert section.fingerprinted() == old
    assert base(SHARP).fingerprinted()["autoencoder"] == old["autoencoder"] | SHARP
    assert Base(source="a/b").fingerprinted() == Base(source="a/b").model_dump(mode="json", exclude={"decoder"})
    pairs = Pairs.read(ImageSet.open(paths.real("toy")).split("train"))
    starts = []
    for one in (section, base(SHARP)):
        assert one.autoencoder
        short_section = one.autoencoder.model_copy(update={"max_steps": 1, "learning_rate": 1e-12})
        vae, _ = autoencoder.train_autoencoder(short_section, "fp32", pairs, 0, Runtime.alone(1), None)
        starts.append(vae.decoder.conv_out.weight)
    assert torch.allclose(starts[0], starts[1], atol=1e-9)  # the discriminator draws from a stream of its own


def test_the_average_is_what_is_saved_and_changes_no_step(toy_study: Params) -> None:
    plain = made(toy_study, base())
    last, losses = load_file(plain / UNET), (plain / "losses_denoiser.csv").read_text()
    averaged = made(toy_study, base(denoising={"ema_decay": 0.5}))
    assert (averaged / "losses_denoiser.csv").read_text() == losses
    mean = load_file(averaged / UNET)
    assert mean.keys() == last.keys()
    assert any(not torch.equal(mean[name], last[name]) for name in mean)
    assert load_file(averaged / VAE).keys() == load_file(plain / VAE).keys()


@pytest.fixture
def model(tmp_path: Path) -> StableDiffusion:
    opened = StableDiffusion.open(write_tiny_base(tmp_path / "sd", "v_prediction"), keep=tmp_path / "latents")
    for part in (opened.vae, opened.unet, opened.text_encoder):
        part.double()
    return opened


def test_cached_latents_give_the_losses_of_encoding_every_step(model: StableDiffusion, toy_study: Params) -> None:
    """Eight images in groups of three: the last group is filled up."""
    pairs = Pairs.read(ImageSet.open(paths.real("toy")).split("train"))
    plain, cached = Batches(pairs, 3, "s", flip), EncodedBatches(model, pairs, 3, "s")
    objective = Denoising(model, 0.5)
    flips = 0
    for step in range(5):
        batch, encoded = plain.batch(step), cached.batch(step)
        assert (encoded.streams, encoded.prompts) == (batch.streams, batch.prompts)
        anew = replace(encoded, moments=model.moments(batch.image))
        ours, theirs = (objective(one, 0.0)["denoising"].item() for one in (encoded, anew))
        assert ours == pytest.approx(theirs, rel=1e-12)
        straight = torch.stack([pairs.image[index].float() / 255 for index in plain.plan(step)])
        flips += int((batch.image != straight).flatten(1).any(1).sum())
    assert 0 < flips < 15
    shares = [cached.batch(1, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat([share.moments for share in shares]), cached.batch(1).moments)


def test_latents_are_computed_once_and_read_again(
    model: StableDiffusion, toy_study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = Pairs.read(ImageSet.open(paths.real("toy")).split("train"))
    first = EncodedBatches(model, pairs, 4, "s")
    monkeypatch.setattr(StableDiffusion, "moments", None)
    again = EncodedBatches(model, pairs, 4, "s")
    assert torch.equal(again.batch(3).moments, first.batch(3).moments)
    assert model.keep and len(list(model.keep.iterdir())) == 2


def test_min_snr_weights_each_sample(model: StableDiffusion, toy_study: Params) -> None:
    pairs = Pairs.read(ImageSet.open(paths.real("toy")).split("train"))
    batch = EncodedBatches(model, pairs, 4, "s").batch(0)
    weighted = Denoising(model, 0.0, min_snr=5.0)(batch, 0.0)["denoising"].item()
    parts = [Denoising(model, 0.0)(batch.part(n, n + 1), 0.0)["denoising"].item() for n in range(4)]
    alphas = []
    for stream in batch.streams:
        rng = seeding.torch_rng(stream, "noise")
        torch.randn(batch.moments.shape[1] // 2, *batch.moments.shape[2:], generator=rng)
        alphas.append(float(model.schedule.alphas_cumprod[int(torch.randint(1000, (1,), generator=rng))]))
    wanted = sum(literal.min_snr(a, 5.0, "v_prediction") * part for a, part in zip(alphas, parts, strict=True)) / 4
    assert weighted == pytest.approx(wanted, rel=1e-4)  # 1 - abar in the schedule's float32


def test_hinge_losses_are_those_of_their_definition() -> None:
    rng = torch.Generator().manual_seed(0)
    real, false = (torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=rng) * 2 for _ in range(2))
    ours = float(discriminator_loss(real, false))
    assert abs(ours - literal.discriminator(real.flatten().tolist(), false.flatten().tolist())) <= 1e-10
    assert abs(float(decoder_loss(false)) - literal.decoder(false.flatten().tolist())) <= 1e-10


def test_each_loss_reaches_its_own_side_alone() -> None:
    torch.manual_seed(0)
    term = Adversarial(PatchDiscriminator((8, 8)), 0.1, 0.0, 10).double()
    image, decoded = (torch.rand(2, 3, 16, 16, dtype=torch.float64) for _ in range(2))
    decoded.requires_grad_()
    losses = term(image, decoded, 0.0)
    losses["discriminator"].backward()
    assert decoded.grad is None
    assert all(weight.grad is not None for weight in term.parameters())
    term.zero_grad()
    losses["adversarial"].backward()
    assert decoded.grad is not None and decoded.grad.abs().max() > 0
    assert all(weight.grad is None for weight in term.parameters())
    assert losses["adversarial"].item() == pytest.approx(-0.1 * term.discriminator(decoded).mean().item())


def test_the_discriminator_learns_fifty_steps_before_it_counts() -> None:
    term = Adversarial(PatchDiscriminator((8, 8)), 0.1, 0.25, 1000)
    image = torch.rand(1, 3, 16, 16)
    used = {step: sorted(term(image, image, step / 1000)) for step in (0, 199, 200, 249, 250, 999)}
    assert used[199] == used[0] == []
    assert used[200] == used[249] == ["discriminator"]
    assert used[250] == used[999] == ["adversarial", "discriminator"]


def test_the_discriminator_has_the_published_shape() -> None:
    network = PatchDiscriminator()
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "GroupNorm", "LeakyReLU"] * 2, "Conv2d"]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in network if isinstance(c, torch.nn.Conv2d)] == [
        (48, (4, 4), (2, 2)), (96, (4, 4), (2, 2)), (192, (4, 4), (1, 1)), (1, (4, 4), (1, 1))
    ]  # fmt: skip
    assert network(torch.zeros(2, 3, 48, 48)).shape == (2, 1, 10, 10)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"perceptual_weight": -0.1}, r"autoencoder\.perceptual_weight: .* greater than or equal to 0, found -0.1"),
        ({"adversarial_weight": -1}, r"autoencoder\.adversarial_weight: .* greater than or equal to 0, found -1"),
        ({"adversarial_start": 1.0}, r"autoencoder\.adversarial_start: .* less than 1, found 1.0"),
        ({"adversarial_start": -0.1}, r"autoencoder\.adversarial_start: .* greater than or equal to 0, found -0.1"),
        ({"discriminator_channels": [48, 50]}, r"discriminator_channels must be two or more multiples of 8"),
        ({"discriminator_betas": [0.5, 1.0]}, r"discriminator_betas must lie in \[0, 1\), found \[0.5, 1.0\]"),
        ({"discriminator_learning_rate": 0}, "greater than 0, found 0"),
        (
            {"adversarial_weight": 0.1, "crop": 8},
            "8 pixels, but 3 discriminator_channels need 12 or more",
        ),
        ({"perceptual_wieght": 1}, "did you mean perceptual_weight"),
    ],
)
def test_unusable_values_of_the_autoencoder_are_named(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        base(given)


@pytest.mark.parametrize(
    ("given", "told"), [({"ema_decay": 1.0}, "less than 1"), ({"min_snr": 0}, "greater than 0"), ({"min_snr": -5}, "0")]
)
def test_unusable_values_of_the_denoiser_are_named(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=rf"denoiser\.{next(iter(given))}: .*{told}"):
        base(denoising=given)


def test_images_that_are_small_for_the_discriminator_are_named() -> None:
    section = {
        "autoencoder": SMALL["autoencoder"] | {"adversarial_weight": 0.1, "crop": 48},
        "denoiser": SMALL["denoiser"],
    }
    section["autoencoder"] |= {"discriminator_channels": [8, 8, 8, 8, 8]}
    with pytest.raises(UserError, match="sees crops of 32 pixels, but 5 discriminator_channels need 48"):
        parse(Params, TOY_STUDY | {"base": section})
    assert Autoencoder(crop=8, **RATES).discriminator_channels == (48, 96, 192)  # unused: not checked


def test_a_base_of_one_study_serves_another(toy_study: Params) -> None:
    """base.source names the folder that the stage published; its weights are taken byte for byte."""
    shared = made(toy_study, base(SHARP, {"ema_decay": 0.9}))
    other = toy_study.model_copy(update={"study": "other"})
    ImageSet.open(paths.real("toy"))
    paths.real("other").parent.mkdir(parents=True)
    paths.real("other").symlink_to(paths.real("toy").resolve())
    taken = made(other, Base(source=str(shared)))
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        assert files.tree_sha256(taken / part) == files.tree_sha256(shared / part)
    manifest = files.read_json(taken / "manifest.json")
    assert (manifest["kind"], manifest["source"]) == ("folder", "base")
    assert manifest["files"][UNET] == files.sha256(shared / UNET)
    assert StableDiffusion.open(taken).factor == 2
