"""Facts of the compared generators: T2I-Adapter, ControlNet on mask and image, and edge-guided entries."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from pipeline.core import files, paths, plugins, seeding
from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.schedule import Schedule
from pipeline.methods.generators import controlnet, mask_image, t2i_adapter
from pipeline.methods.generators._control import sample_noise_on_device
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder, control, encode, no_control
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.finetune.generator import build as build_entry
from pipeline.stages.finetune.params import Finetune
from pipeline.stages.generate import generate
from pipeline.stages.records import records
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.launched import double
from tests.tiny_base import write_tiny_base

SPEC = DatasetSpec(name="toy", size=16)
SETTINGS = Finetune(max_steps=1, global_batch=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusion:
    return StableDiffusion.open(write_tiny_base(tmp_path_factory.mktemp("base"), "epsilon"))


@pytest.fixture
def pairs() -> Pairs:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 3, 4, 4), dtype=torch.uint8, generator=rng).repeat_interleave(4, 2)
    image = image.repeat_interleave(4, 3)
    return Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("a polyp",) * 4, ("a", "b", "c", "d"))


def first_batch(generator: Any, pairs: Pairs) -> LatentBatch:
    return generator.batches(pairs, SETTINGS, "t").batch(0).to(torch.device("cpu"))


def stir(network: torch.nn.Module) -> None:
    """Control that is not zero any more."""
    torch.manual_seed(3)
    for weight in network.parameters():
        if not weight.detach().any():
            torch.nn.init.normal_(weight, std=0.1)


def test_adapter_has_the_size_of_the_published_one() -> None:
    """conv_in 192 -> 320, then per level an entry (where the width changes) and two of 3 x 3 and 1 x 1: 77 369 280."""
    with torch.device("meta"):
        network = t2i_adapter.adapter((320, 640, 1280, 1280), 8)
        features = network(torch.zeros(2, 3, 384, 384))
    expected, before = 192 * 320 * 9 + 320, 320
    for width in (320, 640, 1280, 1280):
        entry = before * width + width if before != width else 0
        expected += entry + 2 * (10 * width * width + 2 * width)
        before = width
    assert sum(weight.numel() for weight in network.parameters()) == expected == 77_369_280
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (320, 48, 48), (640, 24, 24), (1280, 12, 12), (1280, 6, 6),
    ]  # fmt: skip


@torch.no_grad()
def test_adapted_encoder_is_that_of_diffusers() -> None:
    """A U-Net of Stable Diffusion's layout: attention on all levels but the last, which is not halved."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 32, 64), layers_per_block=2, cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=8,
    ).eval().double()  # fmt: skip
    noisy, text = torch.randn(2, 4, 16, 16).double(), torch.randn(2, 5, 16).double()
    features = [torch.randn(2, width, side, side).double() for width, side in ((32, 16), (32, 8), (64, 4))]
    t = torch.tensor([3, 700])
    theirs = unet(noisy, t, text, down_intrablock_additional_residuals=[part.clone() for part in features]).sample
    encoded = encode(unet, noisy, t, text, features)
    assert torch.allclose(UNetDecoder(unet)(encoded, no_control(encoded), text), theirs, atol=1e-12)
    assert not torch.allclose(unet(noisy, t, text).sample, theirs, atol=1e-2)


@torch.no_grad()
def test_features_of_zero_change_nothing_where_a_level_without_attention_is_halved(base: StableDiffusion) -> None:
    noisy, text, t = torch.randn(2, 4, 8, 8), base.embed(["a", "b"]), torch.tensor([3, 700])
    zeros = [torch.zeros(2, 32, 8, 8), torch.zeros(2, 32, 4, 4)]
    plain, adapted = encode(base.unet, noisy, t, text), encode(base.unet, noisy, t, text, zeros)
    assert torch.equal(plain[0], adapted[0])
    assert all(torch.equal(one, other) for one, other in zip(plain[1], adapted[1], strict=True))
    moved = encode(base.unet, noisy, t, text, [zeros[0] + 1, zeros[1]])
    assert [torch.equal(one, other) for one, other in zip(plain[1], moved[1], strict=True)] == [True, *[False] * 3]
    assert torch.allclose(moved[1][1], plain[1][1] + 1)


def test_adapter_alone_is_trained(base: StableDiffusion, pairs: Pairs) -> None:
    generator = t2i_adapter.build(t2i_adapter.Params(), base, SPEC)
    losses = generator.objective(first_batch(generator, pairs), 0.0)
    losses["mask"].backward()
    trained = [name for name, weight in generator.objective.named_parameters() if weight.grad is not None]
    assert len(trained) == len(list(generator.network.parameters())) and all("network." in name for name in trained)
    assert not any(weight.requires_grad for weight in base.unet.parameters())


def test_mask_and_image_are_trained_together(base: StableDiffusion, pairs: Pairs) -> None:
    """Both losses, written out; without control (zero convolutions) they are those of the ControlNet on masks."""
    torch.manual_seed(0)
    assert base.folder is not None
    base = StableDiffusion.open(base.folder)  # one of its own, for float64
    base.unet.double()
    generator = mask_image.build(mask_image.Params(w_i=0.5), base, SPEC)
    plain = controlnet.build(controlnet.Params(), base, SPEC)
    for objective in (generator.objective.double(), plain.objective.double()):
        objective.hint = lambda *given, hint=objective.hint: hint(*given).double()
    batch = double(first_batch(generator, pairs))
    with torch.no_grad():
        losses, other = generator.objective(batch, 0.0), plain.objective(batch, 0.0)
        expected = pytest.approx(float(other["mask"]), rel=1e-12)
        assert [float(losses[name]) for name in ("mask", "mask_image")] == [expected, expected]
        stir(generator.network)
        losses = generator.objective(batch, 0.0)
        latents, noise, t = sample_noise_on_device(base, batch)
        noisy = base.schedule.q_sample(latents, noise, t)
        encoded = encode(base.unet, noisy, t, batch.text)
        white = batch.mask[:, None].double().repeat(1, 3, 1, 1)
        of_mask, of_image = (residuals(generator, noisy, t, batch, hint) for hint in (white, batch.image))
        both = [mask + 0.5 * image for mask, image in zip(of_mask, of_image, strict=True)]
        for name, given in (("mask", of_mask), ("mask_image", both)):
            expected = F.mse_loss(generator.decoder(encoded, given, batch.text), noise)
            assert float(losses[name]) == pytest.approx(float(expected), rel=1e-12)
    assert abs(float(losses["mask"] - losses["mask_image"])) > 1e-5


def residuals(generator: Any, noisy: Tensor, t: Tensor, batch: LatentBatch, hint: Tensor) -> list[Tensor]:
    return control(generator.network, noisy, t, batch.text, generator.network.controlnet_cond_embedding(hint))


def test_every_branch_of_mask_and_image_has_a_gradient(base: StableDiffusion, pairs: Pairs) -> None:
    """No gradient is stopped: the image's loss reaches the decoder too, other than in Siamese-Diffusion."""
    generator = mask_image.build(mask_image.Params(), base, SPEC)
    stir(generator.network)
    generator.objective(first_batch(generator, pairs), 0.0)["mask_image"].backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in generator.decoder.conv_out.parameters())
    assert generator.network.conv_in.weight.grad.any()
    base.unet.requires_grad_(False)


class Counted:
    """The schedule's products in a memory of their own: every copy of them is counted."""

    def __init__(self, products: Tensor) -> None:
        self.products, self.copies, self.device = products, 0, products.device

    def to(self, *place: Any) -> Tensor:
        self.copies += 1
        return self.products.to(*place)


@pytest.mark.parametrize("name", ["siamese", "adc", "controlnet", "mask_image", "t2i_adapter"])
def test_no_step_copies_the_noise_schedule_again(name: str, base: StableDiffusion, pairs: Pairs) -> None:
    """A copy from the CPU makes the host wait for the accelerator."""
    module = plugins.load("generators", name)
    generator, counted = module.build(module.Params(), base, SPEC), Counted(base.schedule.alphas_cumprod)
    batch = first_batch(generator, pairs)
    before = [loss.item() for loss in generator.objective(batch, 0.0).values()]
    generator.objective.schedule = Schedule(counted, base.schedule.prediction)  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        assert [loss.item() for loss in generator.objective(batch, 0.0).values()] == before
    assert counted.copies == 1
    base.unet.requires_grad_(False)


@pytest.mark.parametrize("name", ["siamese", "adc", "controlnet", "mask_image", "t2i_adapter"])
def test_edges_guide_any_generator_by_one_key(name: str, base: StableDiffusion, pairs: Pairs) -> None:
    module = plugins.load("generators", name)
    own = {"conditioning": "canny", "conditioning_params": {"low": 20, "high": 60}}
    generator = module.build(module.Params(**own), base, SPEC)
    stir(generator.network)
    assert all(loss.isfinite() for loss in generator.objective(first_batch(generator, pairs), 0.9).values())
    generator.objective.eval()
    base.unet.requires_grad_(False)

    def drawn(image: Tensor, sources: bool = True) -> Tensor:
        rngs = [seeding.torch_rng("sample", name) for name in pairs.ids]
        given = list(image.numpy()) if sources else [None, *image[1:].numpy()]
        return generator.sample(pairs.mask, pairs.prompts, rngs, Sampling(2, 1.0), given)

    assert not torch.allclose(drawn(pairs.image), drawn(pairs.image.flip(-1)), atol=1e-3)
    with pytest.raises(UserError, match=r"conditioning canny .* masks: real"):
        drawn(pairs.image, sources=False)


def test_a_mirrored_sample_is_mirrored_in_mask_image_latents_and_edges(base: StableDiffusion, pairs: Pairs) -> None:
    own = {"conditioning": "canny", "conditioning_params": {"low": 20, "high": 60, "over_mask": False}}
    generator = controlnet.build(controlnet.Params(**own), base, SPEC)
    batches = generator.batches(pairs, SETTINGS.model_copy(update={"flip": True}), "t")
    mirrored = []
    for step in range(4):
        batch = batches.batch(step).to(torch.device("cpu"))
        for index, moments, image, mask in zip(batches.plan(step), batch.moments, batch.image, batch.mask, strict=True):
            real = pairs.image[index].float() / 255
            mirrored.append(not torch.equal(image, real))
            shown = real.flip(-1) if mirrored[-1] else real
            assert torch.equal(image, shown)
            labels = pairs.mask[index].long()
            assert torch.equal(mask, labels.flip(-1) if mirrored[-1] else labels)
            assert torch.allclose(moments, base.moments(shown[None])[0], atol=1e-4)  # of a batch of four, and alone
            assert torch.equal(generator.hint(mask[None], image[None]), generator.hint(labels[None], shown[None]))
    assert 0 < sum(mirrored) < len(mirrored)


def test_conditioning_is_checked_with_the_entry() -> None:
    with pytest.raises(UserError, match="no 'sobel' among the conditioning; the available ones are: canny, mask"):
        plugins.read_params("generators", "siamese", {"conditioning": "sobel"}, "generators.s")
    with pytest.raises(UserError, match=r"conditioning_params\.lowest"):
        keys = {"conditioning": "canny", "conditioning_params": {"lowest": 1}}
        plugins.read_params("generators", "siamese", keys, "generators.s")


def edge_study(**entry: Any) -> Params:
    own = {"copies": 1, "method": "controlnet", "conditioning": "canny", "start": 0.1, **entry}
    return parse(Params, {**TOY_STUDY, "generators": {"edges": own}, "training_sets": {"real": {}}})


def test_edge_guided_images_need_real_masks(toy_study: Params) -> None:
    """Edges come from the training image of a real mask; of a random mask there is none."""
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    real, trained = ImageSet.open(paths.real("toy")), paths.generator("toy", "edges")
    study = edge_study()
    entry = study.generators["edges"]
    build_entry("toy", study.seed, "edges", entry, real.spec, Runtime.alone(1)).save(trained)
    job = generate.Job(study, "edges", trained, 1, real)
    generate.fill(job, Runtime.alone(1), Path("work"))
    assert len(ImageSet.open(Path("work/set"))) == 8
    random = replace(job, params=edge_study(masks="random"))
    with pytest.raises(UserError, match="use masks: real for such a generator"):
        generate.fill(random, Runtime.alone(1), Path("other"))


@pytest.mark.parametrize("name", ["t2i_adapter", "mask_image", "adc"])
def test_switches_of_training_do_not_stop_a_baseline(name: str, toy_study: Params) -> None:
    """LoRA, recomputed activations and bfloat16, from finetune to a published set; a resumed run changes nothing."""
    switches = {"lora_rank": 2, "gradient_checkpointing": True, "precision": "bf16", "snapshots": [1]}
    entry = {"generators": {name: {"copies": 1}}, "training_sets": {"real": {}}}
    params = parse(Params, {**TOY_STUDY, **entry, "finetune": {**TOY_STUDY["finetune"], **switches}})
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    finetune(params, name)
    weights = files.tree_sha256(paths.generator("toy", name))
    assert (paths.generator("toy", name) / "snapshots" / "000001").is_dir()
    finetune(params, name)
    assert files.tree_sha256(paths.generator("toy", name)) == weights
    generate.generate(params, name)
    assert len(ImageSet.open(paths.synthetic("toy", name))) == 8


def test_record_names_the_conditioning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    records.write_records(edge_study())
    record = files.read_json(paths.records("toy") / "generators" / "edges.json")
    assert {"generators/controlnet", "conditioning/canny"} == set(record)
    assert "pipeline/methods/conditioning/_lines.py" in record["conditioning/canny"]
