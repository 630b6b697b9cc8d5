"""The switches of training: none changes the step's gradients but through its precision."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.core import files, locks
from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators import siamese
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion import acceleration, compilation, lora, moments
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.finetune.finetune import recipe
from pipeline.stages.finetune.params import Finetune
from pipeline.training.loop import fit, trained_state
from tests.patience import HUNG
from tests.tiny_base import write_tiny_base

SPEC = DatasetSpec(name="toy", size=16, num_classes=2)
SETTINGS = Finetune(max_steps=2, global_batch=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), "epsilon")


@pytest.fixture
def pairs() -> Pairs:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=rng)
    return Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("a polyp",) * 4, ("a", "b", "c", "d"))


def built(base: Path, **switches: object) -> ControlledDiffusion:
    torch.manual_seed(1)
    generator = siamese.build(siamese.Params(start=0.05), StableDiffusion.open(base), SPEC)
    generator.prepare(SETTINGS.model_copy(update=switches))
    return generator


def step(
    generator: ControlledDiffusion, double: bool = True, times: Sequence[int] = (3, 200, 700)
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of one late step, by default with samples on both sides of T_tau."""
    kind = torch.float64 if double else torch.float32
    generator.objective.to(kind), generator.model.unet.to(kind)
    rng = torch.Generator().manual_seed(3)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=rng, dtype=torch.float64).to(kind)
    text, hints = (
        torch.rand(*shape, generator=rng, dtype=torch.float64).to(kind) for shape in ((3, 7, 16), (6, 3, 16, 16))
    )
    losses = generator.objective.losses(latents, noise, torch.tensor(times), text, hints, 0.5)
    sum(losses.values(), torch.zeros(())).backward()
    gradients = {n: w.grad for n, w in generator.objective.named_parameters() if w.grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, gradients


@pytest.mark.parametrize("switch", ["gradient_checkpointing", "channels_last"])
def test_memory_switches_leave_losses_and_gradients_alone(base: Path, switch: str) -> None:
    losses, gradients = step(built(base))
    again, gradients_again = step(built(base, **{switch: True}))
    assert set(gradients) == set(gradients_again) and len(gradients) > 100
    for name, loss in losses.items():
        assert torch.allclose(loss, again[name], rtol=1e-12), name
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, gradients_again[name], rtol=1e-9, atol=1e-12), name


def test_checkpointing_keeps_fewer_activations(base: Path) -> None:
    kept = {}
    for switch in (False, True):
        generator, sizes = built(base, gradient_checkpointing=switch), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            latents, noise, text, hints = *torch.randn(2, 3, 4, 8, 8), torch.rand(3, 7, 16), torch.rand(6, 3, 16, 16)
            generator.objective.losses(latents, noise, torch.tensor([3, 200, 700]), text, hints, 0.5)
        kept[switch] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]


def test_bf16_keeps_the_frozen_half_short_and_the_trained_weights_long(base: Path, pairs: Pairs) -> None:
    settings = SETTINGS.model_copy(update={"precision": "bf16"})
    generator = built(base, precision="bf16")
    rows = fit(generator.objective, generator.batches(pairs, settings, "t"), recipe(settings), Runtime.alone(1))
    plain = built(base)
    exact = fit(plain.objective, plain.batches(pairs, SETTINGS, "t"), recipe(SETTINGS), Runtime.alone(1))
    assert {w.dtype for part in acceleration.frozen_half(generator.model.unet) for w in part.parameters()} == {
        torch.bfloat16
    }
    assert {w.dtype for w in generator.objective.parameters()} == {torch.float32}
    assert rows[1]["mask"] == pytest.approx(exact[1]["mask"], rel=0.03)
    assert rows[1]["mask"] != exact[1]["mask"]


def test_xformers_without_cuda_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match="attention: xformers needs CUDA"):
        built(base, attention="xformers")


def test_low_rank_training_moves_attention_and_fresh_layers_only(base: Path, pairs: Pairs, tmp_path: Path) -> None:
    generator = built(base, lora_rank=2)
    names = set(trained_state(generator.objective)) - set(dict(generator.objective.named_buffers()))
    assert names and all(
        any(word in name for word in (".parametrizations.weight.0.", *acceleration.FRESH)) for name in names
    )
    before = {name: value.clone() for name, value in lora.plain_state(generator.decoder).items()}
    fit(generator.objective, generator.batches(pairs, SETTINGS, "t"), recipe(SETTINGS), Runtime.alone(1))
    after = lora.plain_state(generator.decoder)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.endswith(tuple(f"{p}.weight" for p in lora.PROJECTIONS)) for name in moved)
    generator.save(tmp_path)
    again = siamese.build(siamese.Params(), StableDiffusion.open(base), SPEC)
    again.load(tmp_path)
    assert all(torch.equal(value, after[name]) for name, value in again.decoder.state_dict().items())


def test_autoencoder_and_text_tower_are_away_while_training_and_come_back(base: Path, pairs: Pairs) -> None:
    model = StableDiffusion.open(base)
    text, image = model.embed(["a polyp"]), model.images(torch.ones(1, 4, 8, 8))
    generator = siamese.build(siamese.Params(), model, SPEC)
    generator.batches(pairs, SETTINGS, "t")
    assert (model.vae.device.type, model.text_encoder.device.type, model.unet.device.type) == ("meta", "meta", "cpu")
    assert torch.equal(model.embed(["a polyp"]), text)
    assert torch.equal(model.images(torch.ones(1, 4, 8, 8)), image)


def test_drawing_while_training_leaves_the_autoencoder_away(base: Path, pairs: Pairs) -> None:
    generator = built(base)
    masks, rngs = pairs.mask[:1].long(), [torch.Generator().manual_seed(0)]
    before = generator.sample(masks, ["a polyp"], rngs, Sampling(2, 1.0))
    assert generator.model.vae.device.type == "cpu"
    generator.batches(pairs, SETTINGS, "t")
    again = generator.sample(masks, ["a polyp"], [torch.Generator().manual_seed(0)], Sampling(2, 1.0))
    assert torch.equal(before, again)
    assert generator.model.vae.device.type == generator.model.text_encoder.device.type == "meta"


def test_moments_are_kept_by_content(base: Path, pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path /= "kept"
    flipping = SETTINGS.model_copy(update={"flip": True})
    model = StableDiffusion.open(base, keep=tmp_path)
    first = siamese.build(siamese.Params(), model, SPEC).batches(pairs, flipping, "t")
    assert len(list(tmp_path.iterdir())) == 2  # both flips
    assert not torch.allclose(first.moments[1], first.moments[0].flip(-1), atol=1e-6)
    calls = []
    monkeypatch.setattr(StableDiffusion, "moments", lambda self, image: calls.append(len(image)))
    second = siamese.build(siamese.Params(), StableDiffusion.open(base, keep=tmp_path), SPEC).batches(
        pairs, flipping, "u"
    )
    assert not calls
    assert all(torch.equal(a, b) for a, b in zip(first.moments, second.moments, strict=True))
    monkeypatch.undo()
    other = Pairs(255 - pairs.image, pairs.mask, pairs.prompts, pairs.ids)
    siamese.build(siamese.Params(), model, SPEC).batches(other, SETTINGS, "t")
    assert len(list(tmp_path.iterdir())) == 3
    next(tmp_path.glob("*/moments.safetensors")).write_bytes(b"damaged")
    third = siamese.build(siamese.Params(), model, SPEC).batches(pairs, flipping, "t")
    assert all(torch.equal(a, b) for a, b in zip(first.moments, third.moments, strict=True))


def test_a_part_that_another_process_has_made_meanwhile_is_not_encoded_again(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other holds the lock of the second part of three, and gives it back when the rest is done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(moments, "PART", 8)
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs, ours = (StableDiffusion.open(base, keep=tmp_path / name) for name in ("theirs", "ours"))
    made = moments.moments_of(theirs, images[8:16], flipped=False)
    (part,) = (tmp_path / "theirs").iterdir()
    seen, encode = [], StableDiffusion.moments
    monkeypatch.setattr(StableDiffusion, "moments", lambda self, image: seen.append(len(image)) or encode(self, image))
    with ThreadPoolExecutor(1) as pool:
        with locks.exclusive(f"moments_{part.name}"):
            result = pool.submit(moments.moments_of, ours, images, False)
            wait_until(lambda: len(list((tmp_path / "ours").glob(f"*/{files.SEAL}"))) == 2)
            files.publish(part, tmp_path / "ours" / part.name)
        found = result.result()
    assert sum(seen) == 12
    assert torch.equal(found[8:16], made) and len(found) == 20


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + HUNG
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow  # half a minute
def test_compiled_blocks_give_the_same_gradients(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and guarded as torch.compile does, with checkpointing and detached weights; kernels are not generated.

    Nothing is compiled again for another number of augmented samples.
    """
    compiled: list[torch.fx.GraphModule] = []

    def trace(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block, **how: plain(block, backend=trace, **how))
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    losses, gradients = step(built(base))
    generator = built(base, compile=True, gradient_checkpointing=True)
    again, gradients_again = step(generator)
    assert all(torch.allclose(loss, again[name], rtol=1e-12) for name, loss in losses.items())
    assert set(gradients) == set(gradients_again)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, gradients_again[name], rtol=1e-9, atol=1e-12), name
    first = len(compiled)
    assert first > len(acceleration.blocks_to_compile(generator.model.unet, [generator.network]))
    for times in ([3, 700, 700], [3, 3, 3]):
        step(generator, times=times)
    assert len(compiled) == first


def test_a_block_that_does_not_compile_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its first call, as without a C compiler; before, the traceback of the backend came."""

    def broken(_graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        raise RuntimeError("no working C compiler\nand more lines")

    plain = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block, **how: plain(block, backend=broken, **how))
    block = torch.nn.Linear(2, 2)
    compilation.compile_blocks([block])
    with pytest.raises(UserError, match=r"^finetune\.compile: .*no working C compiler\); set it to false$"):
        block(torch.ones(1, 2))
