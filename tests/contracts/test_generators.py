"""Every generator: trains, draws from streams of its own, keeps its weights, follows the mask in both branches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel

from pipeline.core import plugins, seeding
from pipeline.core.contracts import Generator, Sampling, SeesImages, TrainingFreeGenerator
from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.networks.stable_diffusion import split_unet
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.finetune.finetune import recipe
from pipeline.stages.finetune.params import FROM_NOTHING, OUTSIDE, TRAINING_FREE, Finetune
from pipeline.training.loop import fit
from tests.levels import ROUNDING, apart
from tests.tiny_base import write_tiny_base

SETTINGS = Finetune(max_steps=3, global_batch=2, learning_rate=1e-3, flip=True)
TRAINED = [
    name for name in plugins.names("generators") if name not in TRAINING_FREE
]  # others: test_copy_paste, test_folder
OF_A_BASE = [name for name in TRAINED if name not in FROM_NOTHING]
SMALL = {"seg_guided": {"channels": (32, 64), "layers": 1, "ablation": 0.0}}  # its defaults are made for 256 pixels
SAMPLING = Sampling(steps=3, guidance_scale=2.0)
WITH_IMAGES = [name for name in TRAINED if isinstance(plugins.params_class("generators", name)(), SeesImages)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), "sample")


@pytest.fixture
def pairs() -> Pairs:
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=rng)
    return Pairs(image, (image[:, 0] > 127).to(torch.uint8), ("a polyp",) * 4, ("a", "b", "c", "d"))


def build(name: str, base: Path, num_classes: int = 2) -> Generator:
    torch.manual_seed(1)
    spec = DatasetSpec(name="toy", size=16, num_classes=num_classes)
    module = plugins.load("generators", name)
    model = None if name in FROM_NOTHING else StableDiffusion.open(base)
    return module.build(module.Params(**SMALL.get(name, {})), model, spec)


def stirred(name: str, base: Path) -> Generator:
    """With control that is not zero any more."""
    generator = build(name, base)
    torch.manual_seed(2)
    others = [module for module in generator.objective.modules() if isinstance(module, ControlNetModel)]
    for network in dict.fromkeys([generator.objective.network, *others]):  # type: ignore[list-item]
        for weight in network.parameters():  # type: ignore[union-attr]
            if not weight.detach().any():
                torch.nn.init.normal_(weight, std=0.2)
    return generator


def trained(name: str, base: Path, pairs: Pairs) -> Generator:
    """After three steps."""
    generator = stirred(name, base)
    fit(generator.objective, generator.batches(pairs, SETTINGS, "t"), recipe(SETTINGS), Runtime.alone(1))
    return generator


def draw(generator: Generator, pairs: Pairs, names: str, settings: Sampling = SAMPLING) -> torch.Tensor:
    picks = [pairs.ids.index(name) for name in names]
    rngs = [seeding.torch_rng("sample", name) for name in names]
    return generator.sample(
        pairs.mask[picks], ["a polyp"] * len(names), rngs, settings, list(pairs.image[picks].numpy())
    )


def one_step(generator: Generator, pairs: Pairs) -> None:
    """Without weight decay, which moves all."""
    fit(generator.objective, generator.batches(pairs, SETTINGS, "t"), Recipe(1, 1e-3, 0.0), Runtime.alone(1))


@pytest.mark.parametrize("name", TRAINED)
def test_images_belong_to_their_streams_not_to_their_batch(name: str, base: Path, pairs: Pairs) -> None:
    generator = trained(name, base, pairs)
    together, alone = draw(generator, pairs, "abc"), draw(generator, pairs, "b")
    assert together.shape == (3, 3, 16, 16)
    assert float(together.min()) >= 0 and float(together.max()) <= 1
    assert apart(together[1:2], alone) < ROUNDING
    assert apart(together[0], together[1]) > 4 * ROUNDING


@pytest.mark.parametrize("name", TRAINED)
def test_saved_generator_draws_the_same_images(name: str, base: Path, pairs: Pairs, tmp_path: Path) -> None:
    generator = trained(name, base, pairs)
    generator.save(tmp_path)
    again = build(name, base)
    assert not torch.equal(draw(again, pairs, "a"), draw(generator, pairs, "a"))
    again.load(tmp_path)
    assert torch.equal(draw(again, pairs, "a"), draw(generator, pairs, "a"))


@pytest.mark.parametrize("name", TRAINED)
def test_weights_of_another_method_are_refused(name: str, base: Path, tmp_path: Path) -> None:
    other = "controlnet" if name in ("siamese", "adc") else "siamese"  # of another hint module
    build(other, base).save(tmp_path)
    with pytest.raises(UserError, match="does not fit this generator"):
        build(name, base).load(tmp_path)


@pytest.mark.parametrize("name", TRAINED)
def test_training_lowers_the_loss(name: str, base: Path, pairs: Pairs) -> None:
    generator = build(name, base)
    batches = generator.batches(pairs, SETTINGS, "t")
    rows = fit(generator.objective, batches, Recipe(40, 3e-3), Runtime.alone(1))
    first, last = (sum(row["mask"] for row in part) / 8 for part in (rows[:8], rows[-8:]))
    assert last < 0.9 * first


@pytest.mark.parametrize("name", TRAINED)
def test_one_step_moves_what_is_trained(name: str, base: Path, pairs: Pairs) -> None:
    generator = stirred(name, base)
    moving = {n: w.detach().clone() for n, w in generator.objective.named_parameters() if w.requires_grad}
    one_step(generator, pairs)
    after = dict(generator.objective.named_parameters())
    moved = sum(not torch.equal(weight, after[n]) for n, weight in moving.items())
    assert moved > 0.9 * len(moving)


@pytest.mark.parametrize("name", OF_A_BASE)
def test_one_step_leaves_the_encoder_of_the_base_as_it_was(name: str, base: Path, pairs: Pairs) -> None:
    generator = stirred(name, base)
    model = generator.objective.frozen[0]  # type: ignore[union-attr]
    still = {
        n: w.clone() for n, w in model.unet.state_dict().items() if n.startswith(("conv_in", "time", "down", "mid"))
    }
    one_step(generator, pairs)
    assert all(torch.equal(weight, model.unet.state_dict()[n]) for n, weight in still.items())


@pytest.mark.parametrize("name", TRAINED)
def test_an_earlier_state_guides_and_the_generator_itself_changes_nothing(name: str, base: Path, pairs: Pairs) -> None:
    generator, earlier = trained(name, base, pairs), stirred(name, base)
    plain, by_itself, by_earlier = (
        draw(generator, pairs, "abc", replace(SAMPLING, guidance_scale=scale, weaker=weaker))
        for scale, weaker in ((1.0, None), (3.0, generator), (3.0, earlier))
    )
    assert apart(plain, by_itself) < ROUNDING < apart(plain, by_earlier)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_an_image_is_a_second_hint_where_it_is_asked_for(name: str, base: Path, pairs: Pairs) -> None:
    """Heard more with a larger weight, by each image of a batch its own; without a weight it is not looked at."""
    generator, other = trained(name, base, pairs), replace(pairs, image=255 - pairs.image)

    def moved(weight: float | None) -> float:
        settings = replace(SAMPLING, image_weight=weight)
        return apart(draw(generator, pairs, "abc", settings), draw(generator, other, "abc", settings))

    assert moved(None) == 0
    assert ROUNDING < moved(0.1) < moved(1.0)
    settings = replace(SAMPLING, image_weight=0.5)
    assert apart(draw(generator, pairs, "abc", settings)[1:2], draw(generator, pairs, "b", settings)) < ROUNDING
    with pytest.raises(UserError, match="belongs to no training image; use masks: real, or control: mask"):
        generator.sample(pairs.mask, pairs.prompts, [torch.Generator()] * 4, settings)


def test_generators_that_are_trained_with_images() -> None:
    assert WITH_IMAGES == ["mask_image", "siamese"]
    own = {"mask_image": {"w_i": 0.25}, "siamese": {"w_i": 0.5}}
    found = {name: plugins.params_class("generators", name)(**keys) for name, keys in own.items()}
    assert {name: params.last_image_weight for name, params in found.items()} == {"mask_image": 0.25, "siamese": 0.5}
    assert plugins.params_class("generators", "siamese")().last_image_weight == 1.0


def test_every_generator_keeps_one_of_two_promises(base: Path) -> None:
    """It is trained, or it draws from the training pairs themselves; images from outside keep a third."""
    assert all(isinstance(build(name, base), Generator) for name in TRAINED)
    for name in set(TRAINING_FREE) - set(OUTSIDE):
        assert not isinstance(build(name, base), Generator)
        assert isinstance(build(name, base), TrainingFreeGenerator)


@pytest.mark.parametrize("name", TRAINED)
def test_three_classes_have_three_colours(name: str, base: Path, pairs: Pairs) -> None:
    three = replace(pairs, mask=pairs.mask + (pairs.image[:, 1] > 200).to(torch.uint8))
    generator = build(name, base, num_classes=3)
    rows = fit(generator.objective, generator.batches(three, SETTINGS, "t"), Recipe(1, 1e-3), Runtime.alone(1))
    assert set(rows[0]) >= {"mask"}
    assert draw(generator, three, "ab").shape == (2, 3, 16, 16)


def test_the_branch_without_prompt_sees_the_mask(base: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = trained("siamese", base, pairs)
    seen: list[torch.Tensor] = []
    real = split_unet.control

    def spy(*arguments: torch.Tensor) -> list[torch.Tensor]:
        seen.append(arguments[-1])
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(split_unet, "control", spy)
    draw(generator, pairs, "ab")
    without, with_prompt = seen[0].chunk(2)
    assert torch.equal(without, with_prompt)
    assert bool(with_prompt.any())


def test_guidance_is_the_line_through_both_predictions(base: Path, pairs: Pairs) -> None:
    """At scale 1 the branch without a prompt is not computed; the images differ from guided ones."""
    generator = trained("siamese", base, pairs)
    plain, guided = (draw(generator, pairs, "a", Sampling(3, scale)) for scale in (1.0, 5.0))
    assert not torch.equal(plain, guided)


def test_fifty_ddim_steps_are_those_of_the_paper(base: Path) -> None:
    scheduler = StableDiffusion.open(base).scheduler
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    assert float(scheduler.final_alpha_cumprod) == pytest.approx(0.99915, abs=1e-5)


def test_folder_without_a_part_is_no_base(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vae, text_encoder, tokenizer, unet, scheduler is missing"):
        StableDiffusion.open(tmp_path)


def test_text_tower_of_another_width_is_refused(base: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(base, tmp_path / "base")
    tiny.text_tower(32).save_pretrained(tmp_path / "base" / "text_encoder")
    with pytest.raises(UserError, match="attends to width 16, but the text encoder has 32"):
        StableDiffusion.open(tmp_path / "base")
