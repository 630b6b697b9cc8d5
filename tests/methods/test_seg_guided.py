"""Segmentation-guided diffusion: against its literal version, its mask ablation, and what needs no base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from pipeline.cli.counts import GeneratorCounts
from pipeline.core import files, paths, plugins, skipped
from pipeline.core.contracts import Batch, RealImages, Sampling
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators import seg_guided
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.finetune.fingerprint import trajectory
from pipeline.stages.finetune.memory import GeneratorProfiler
from pipeline.stages.finetune.params import Finetune
from pipeline.stages.generate.generate import generate
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blobs
from tests.reference import seg_guided_literal

CLASSES, SIZE = 4, 16
SMALL: dict[str, Any] = {"channels": (32, 64), "layers": 1}
ENTRY: dict[str, Any] = {"copies": 1, **SMALL}


def built(seed: int = 0, **own: Any) -> seg_guided.SegGuidedDiffusion:
    torch.manual_seed(seed)
    spec = DatasetSpec(name="toy", size=SIZE, num_classes=CLASSES)
    generator = seg_guided.build(seg_guided.Params(**(SMALL | own)), None, spec)
    generator.network.eval()
    return generator


def masks_of_all_classes(count: int) -> Tensor:
    return torch.randint(CLASSES, (count, SIZE, SIZE), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_loss_is_the_literal_one() -> None:
    generator = built(mask_divisor=255.0)
    network, alphas = generator.network.double(), generator.objective.scheduler.alphas_cumprod.double()
    rng = torch.Generator().manual_seed(0)
    images, noise = (torch.rand(3, 3, SIZE, SIZE, generator=rng, dtype=torch.float64) * 2 - 1 for _ in range(2))
    t, masks = torch.tensor([0, 400, 999]), masks_of_all_classes(3)
    removed = [[True, False, True], [False, False, False], [True, True, True]]
    fast = generator.objective.losses(images, masks, noise, t, ~torch.tensor(removed))["mask"]
    literal = seg_guided_literal.loss(network, alphas, images, masks, noise, t, removed, 255.0)
    assert abs(float(fast - literal)) < 1e-10
    whole = generator.objective.losses(images, masks, noise, t, torch.ones(3, 3, dtype=torch.bool))["mask"]
    assert abs(float(fast - whole)) > 1e-8


def test_the_ablated_mask_is_the_literal_one() -> None:
    masks, removed = masks_of_all_classes(8), torch.rand(8, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    assert torch.equal(seg_guided.without_classes(masks, ~removed), seg_guided_literal.ablated(masks, removed.tolist()))


def test_the_schedule_is_the_linear_one() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    expected = torch.cumprod(1 - betas, 0)
    assert torch.allclose(built().objective.schedule.alphas_cumprod.double(), expected, rtol=1e-5, atol=0)


def test_images_are_those_of_the_literal_sampler() -> None:
    generator = built()
    masks, rngs = masks_of_all_classes(2), [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=rng) for rng in rngs])
    again = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    drawn = generator.sample(masks, ["", ""], again, Sampling(10, 1.0))
    with torch.no_grad():
        alphas = generator.objective.scheduler.alphas_cumprod
        literal = seg_guided_literal.draw(generator.network, alphas, noise, masks, 1.0, 10)
    assert torch.allclose(drawn, literal, atol=1e-5)
    assert float(drawn.std()) > 0


def ablations(generator: seg_guided.SegGuidedDiffusion, streams: tuple[str, ...], seen: list[Tensor]) -> Tensor:
    """The classes [B, K - 1] that a training step keeps for samples of these streams."""
    image, mask = torch.zeros(len(streams), 3, SIZE, SIZE), torch.zeros(len(streams), SIZE, SIZE, dtype=torch.long)
    generator.objective(Batch(image, mask, ("",) * len(streams), streams), 0.0)
    return seen.pop()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What every following training step keeps, in place of its loss."""
    kept: list[Tensor] = []
    monkeypatch.setattr(seg_guided.SegGuidedObjective, "losses", lambda *parts: kept.append(parts[-1]))
    return kept


@pytest.mark.parametrize("chance", [0.5, 0.2])
def test_each_class_is_left_out_with_its_chance_and_on_its_own(chance: float, seen: list[Tensor]) -> None:
    count = 4000
    removed = ~ablations(built(ablation=chance), tuple(map(str, range(count))), seen)
    spread = 5 * (chance * (1 - chance) / count) ** 0.5
    assert (removed.double().mean(0) - chance).abs().max() < spread
    together = (removed[:, 0] & removed[:, 1]).double().mean()
    assert abs(float(together) - chance**2) < 5 * (chance**2 * (1 - chance**2) / count) ** 0.5


def test_a_sample_loses_its_classes_whatever_its_batch(seen: list[Tensor]) -> None:
    generator = built()
    whole = ablations(generator, ("a", "b", "c"), seen)
    assert torch.equal(whole[1:2], ablations(generator, ("b",), seen))
    assert not ablations(built(), tuple(map(str, range(99))), seen).all()
    assert ablations(built(ablation=0.0), tuple(map(str, range(99))), seen).all()


def test_the_mask_is_the_last_channel() -> None:
    noisy, masks = torch.rand(2, 3, SIZE, SIZE), masks_of_all_classes(2)
    inputs = seg_guided.with_mask(noisy, masks, 255.0)
    assert torch.equal(inputs[:, :3], noisy) and torch.equal(inputs[:, 3], masks.float() / 255)


def test_pixels_outside_a_hole_are_the_real_ones() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, SIZE, SIZE), dtype=np.uint8)
    holes = np.zeros((2, SIZE, SIZE), bool)
    holes[:, 4:9, 4:9] = True
    for strength in (None, 0.5):
        real = RealImages(images, holes, holes.astype(np.float32), strength)
        rngs = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        drawn = built().sample(masks_of_all_classes(2), ["", ""], rngs, Sampling(4, 1.0), real=real)
        pixels = (drawn * 255).round().byte().numpy()
        outside = np.broadcast_to(~holes[:, None], images.shape)
        assert (pixels[outside] == images[outside]).all()
        assert (pixels != images)[~outside].mean() > 0.5


def test_its_folder_is_one_of_diffusers(tmp_path: Path) -> None:
    generator = built()
    generator.prepare(Finetune(max_steps=1, global_batch=1, learning_rate=1e-3, channels_last=True))
    generator.save(tmp_path)
    opened = UNet2DModel.from_pretrained(tmp_path / "unet")
    state = generator.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in opened.state_dict().items())


def test_checkpointing_changes_no_gradient() -> None:
    plain, saving = built(), built()
    saving.prepare(Finetune(max_steps=1, global_batch=2, learning_rate=1e-3, gradient_checkpointing=True))
    for generator in (plain, saving):
        generator.objective.train()
        image = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
        generator.objective(Batch(image, masks_of_all_classes(2), ("",) * 2, ("a", "b")), 0.0)["mask"].backward()
    gradients = [[weight.grad for weight in generator.network.parameters()] for generator in (plain, saving)]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))  # type: ignore[arg-type]


def test_default_sizes_are_those_of_the_public_code() -> None:
    with torch.device("meta"):
        network = seg_guided.unet(seg_guided.Params(), DatasetSpec(name="x", size=256))
    assert network.config["block_out_channels"] == (128, 128, 256, 256, 512, 512)
    assert [name for name in network.config["down_block_types"] if "Attn" in name] == ["AttnDownBlock2D"]
    assert network.config["down_block_types"].index("AttnDownBlock2D") == 4
    assert network.config["up_block_types"].index("AttnUpBlock2D") == 1
    assert sum(weight.numel() for weight in network.parameters()) == 113_674_371  # counted with main.py's network too


def test_wrong_sizes_are_told() -> None:
    with pytest.raises(
        UserError, match=r"generators\.g: channels must be two or more multiples of 32, found \[32, 48\]"
    ):
        plugins.read_params("generators", "seg_guided", {"channels": [32, 48]}, "generators.g")
    with pytest.raises(UserError, match=r"3 levels .* multiple of 4, found 18; name fewer channels"):
        seg_guided.build(seg_guided.Params(channels=(32, 32, 32)), None, DatasetSpec(name="x", size=18))


def study(entry: dict[str, Any] | None = None, **sections: Any) -> Params:
    """A study of this generator alone, without a base."""
    values = {key: value for key, value in TOY_STUDY.items() if key != "base"}
    data = {**TOY_STUDY["data"], "size": SIZE}
    generators = {"seg_guided": ENTRY | (entry or {})}
    return parse(Params, values | {"data": data, "generators": generators, "training_sets": {"real": {}}} | sections)


def test_a_study_of_it_alone_needs_no_base() -> None:
    assert study().base is None
    both = {"seg_guided": ENTRY, "siamese": {"copies": 1}}
    with pytest.raises(UserError, match="base is missing; a study with generators needs the section base"):
        study(generators=both)


@pytest.mark.parametrize(
    ("entry", "sections", "said"),
    [
        ({"guidance": {"scale": 2.0}}, {}, r"generators\.seg_guided\.guidance: seg_guided sees no prompt"),
        ({"control": "mask_image"}, {}, None),
        ({}, {"generate": TOY_STUDY["generate"] | {"reuse_encoder": [1]}}, r"generate\.reuse_encoder: .* remove it"),
    ],
)
def test_what_it_has_not_is_refused(entry: dict[str, Any], sections: dict[str, Any], said: str | None) -> None:
    if said is None:
        from pipeline.stages.prepare.control import check_control

        with pytest.raises(UserError, match="control"):
            check_control("seg_guided", study(entry).generators["seg_guided"])
        return
    with pytest.raises(UserError, match=said):
        study(entry, **sections)


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """A folder with a real set and, as stage base leaves it, no base."""
    monkeypatch.chdir(tmp_path)
    spec = DatasetSpec(name="blobs", size=SIZE)
    skipped.record("base", paths.base("toy"), "no generator of the study uses one")
    return ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 4, "val": 3, "test": 2}))


def timing() -> dict[str, Any]:
    """How long drawing took."""
    return files.read_json(paths.generate_seconds("toy", "seg_guided"))


def test_it_is_trained_and_draws_without_a_base(real: ImageSet) -> None:
    params = study(generate=TOY_STUDY["generate"] | {"guidance_scale": 9.0})
    finetune(params, "seg_guided")
    losses = (paths.generator("toy", "seg_guided") / "losses.csv").read_text(encoding="utf-8").splitlines()
    assert losses[0] == "mask,step" and len(losses) == 3
    generate(params, "seg_guided")
    training, drawing = files.read_json(paths.finetune_seconds("toy", "seg_guided")), timing()
    assert training["steps"] == 2 and training["seconds"] > 0
    assert drawing["images"] == 4 and drawing["seconds"] > 0
    generate(params, "seg_guided")
    assert timing() == drawing  # nothing was drawn again
    folder = paths.synthetic("toy", "seg_guided")
    made, card = ImageSet.open(folder), (folder / "README.md").read_text(encoding="utf-8")
    assert len(made) == 4 and {row["guidance_scale"] for row in made} == {1.0}  # no prompt, so nothing guides
    assert "The base model: none, the generator was trained from nothing on these images." in card
    assert "without a base model, so the set is bound" in card
    assert "without a base model" in json.loads((folder / "croissant.json").read_text(encoding="utf-8"))["license"]


def test_another_base_does_not_train_it_again(real: ImageSet) -> None:
    train = real.split("train")
    before = trajectory(study(), "seg_guided", train)
    files.write_json(paths.base("toy") / "manifest.json", {"source": "other"})
    assert trajectory(study(), "seg_guided", train) == before
    assert trajectory(study({"ablation": 0.25}), "seg_guided", train) != before


def test_images_without_masks_that_a_base_saw_are_no_part_of_it(real: ImageSet) -> None:
    """In a study whose other generators have a base."""
    files.write_json(paths.base("toy") / "manifest.json", {"source": "some/hub", "unlabelled": {"images": 7}})
    params = study(base={"source": "somewhere"})
    finetune(params, "seg_guided")
    generate(params, "seg_guided")
    made = ImageSet.open(paths.synthetic("toy", "seg_guided"))
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "base_unlabelled_images" not in made.rows[0]
    assert "some/hub" not in card and "OpenRAIL" not in card


def test_its_work_is_counted_without_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = study(generate=TOY_STUDY["generate"] | {"guidance_scale": 9.0})
    weights = sum(weight.numel() for weight in built().network.parameters())
    cost, memory = (getattr(GeneratorProfiler(params, "seg_guided"), what) for what in ("cost", "memory"))
    assert (cost().trained, cost().frozen) == (weights, 0)
    assert memory(params.finetune).weights == 4 * weights and memory(params.finetune).frozen == 0
    one_pass = GeneratorCounts(params, "seg_guided").pass_operations()
    first = 2 * 9 * 4 * 32 * SIZE**2
    assert one_pass > 10 * first
    assert cost().mean == pytest.approx(3 * one_pass, rel=0.05)  # the gradient takes twice the forward pass
    assert GeneratorCounts(params, "seg_guided").image_operations() == params.generate.steps * one_pass
    guided = study({"guidance": {"scale": 2.0, "snapshot": 1}}, finetune=TOY_STUDY["finetune"] | {"snapshots": [1]})
    assert GeneratorCounts(guided, "seg_guided").image_operations() == 2 * params.generate.steps * one_pass
