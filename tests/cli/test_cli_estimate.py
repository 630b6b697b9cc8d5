"""What the forecast adds up, with numbers worked out by hand, and how the verb tells it."""

import json
from dataclasses import replace
from math import hypot
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import forecast as forecast_module
from pipeline.cli.counts import dataset_spec
from pipeline.cli.forecast import (
    GIB,
    DiskUsage,
    Forecast,
    Machine,
    MachineFit,
    disk_usage,
    forecast,
    generator_costs,
    needed_memory,
)
from pipeline.cli.forecast_text import fit_line, missing_base
from pipeline.cli.main import main
from pipeline.cli.plan import listed_pairs, make_plan, weight_sources
from pipeline.cli.stage_costs import (
    autoencoder_operations,
    decoder_operations,
    denoiser_operations,
    segmenter_operations,
)
from pipeline.cli.stage_work import PRIVATE, stage_work
from pipeline.core import files, paths
from pipeline.core.section import parse
from pipeline.methods.masks import learnt
from pipeline.stages.audit import attack_profile
from pipeline.stages.audit.costs import AttackCost
from pipeline.stages.finetune import memory
from pipeline.stages.finetune.costs import Cost
from pipeline.stages.finetune.memory import GeneratorProfiler, Memory
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.drawn_pairs import folder, study

SMALL = {
    "source": "scratch",
    "autoencoder": {"channels": [16, 16], "crop": 8, "max_steps": 7, "batch_size": 3, "learning_rate": 1e-3},
    "denoiser": {"channels": [32, 32], "text_width": 16, "max_steps": 5, "batch_size": 2, "learning_rate": 1e-3},
}


def toy(**changes: Any) -> Params:
    data = {**TOY_STUDY["data"], "train": 10, "val": 3, "test": 4}
    return parse(Params, {**TOY_STUDY, "base": SMALL, "data": data, **changes})


def plain_unet() -> dict[str, Any]:
    return {"segmenters": {"unet": {"method": "unet_plain32"}}}


def unet_operations(params: Params) -> float | None:
    return segmenter_operations("unet", params.segmenters["unet"], dataset_spec(params.study, params.data))


def test_a_unet_of_four_levels_costs_what_its_convolutions_cost() -> None:
    """3 x 3 convolutions dominate: 2 * 9 * inputs * outputs per pixel of their level; three times that in training."""
    params = toy(**plain_unet())
    network = unet_operations(params)
    assert network is not None
    larger = unet_operations(toy(**plain_unet(), data={**params.data.model_dump(), "size": 64}))
    assert larger == pytest.approx(4 * network)
    first = 2 * 9 * 3 * 32 * 32**2 * 3
    assert network > 10 * first


def test_counting_a_segmenter_reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", None)
    params = toy(segmenters={"unet": {"weights": "no/such/file.pth", "decoder_channels": [8, 8, 8, 8, 8]}})
    assert (unet_operations(params) or 0) > 0


def test_work_is_steps_times_batch_times_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 3.0)
    params = toy(**plain_unet())
    cost = Cost(trained=1000, frozen=10, early=100.0, late=200.0, switch=0.5)
    found = {(part.stage, part.entry): part for part in stage_work(params, {"siamese": cost}, pairs=10)}
    assert [key[0] for key in found] == ["base", "base", "finetune", "generate", "judge", "segment"]
    assert found["finetune", "siamese"].operations == 150 * 2 * 2  # mean cost, 2 steps of 2 samples
    generated = found["generate", "siamese"]
    assert (generated.steps, generated.operations) == (20, 60)  # 10 masks, 2 copies
    assert found["base", "autoencoder"].operations == 7 * 3 * autoencoder_operations(params.base)
    each = unet_operations(params) or 0
    assert found["segment", "unet"].steps == 4 * 2 * 2  # sets, seeds, steps
    assert found["segment", "unet"].operations == pytest.approx(16 * 4 * each)


def test_a_local_base_that_is_missing_is_named(tmp_path: Path) -> None:
    def note(source: str) -> str | None:
        return missing_base(toy(base={"source": source}).base)

    found = note("outputs/other/base")
    assert found and found.startswith("base.source: outputs/other/base does not exist yet")
    assert note("stable-diffusion-v1-5/stable-diffusion-v1-5") is None
    assert note(str(tmp_path)) is None
    assert missing_base(toy(base=SMALL).base) is None


def test_private_steps_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    budget = {"epsilon": 8, "delta": 0.01, "max_grad_norm": 0.1}
    method = {"method": "controlnet", "copies": 1}
    entries = {"plain": method, "private": method | {"privacy": budget}}
    changes = {"base": {"source": "no/model"}, "finetune": TOY_STUDY["finetune"] | {"lora_rank": 4}}
    params = toy(**plain_unet(), **changes, generators=entries, training_sets={"real": {}})
    cost = Cost(trained=1000, frozen=10, early=100.0, late=100.0, switch=1.0)
    work = stage_work(params, dict.fromkeys(entries, cost), pairs=10)
    plain, private = (part.operations for part in work if part.stage == "finetune")
    assert plain and private == pytest.approx(PRIVATE * plain)


def test_the_entry_with_most_weights_may_need_most_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the one with most operations: whichever needs more under the machine's settings."""
    entries = {name: {"method": name, "copies": 1} for name in ("siamese", "adc", "controlnet")}
    params = toy(generators=entries, training_sets={"real": {}})
    made = {
        "siamese": Cost(10, 1, 1.0, 9.0, 0.3),
        "adc": Cost(20, 1, 5.0, 5.0, 1.0),
        "controlnet": Cost(10, 1, 3.0, 3.0, 1.0),
    }
    monkeypatch.setattr(GeneratorProfiler, "cost", lambda profiler: made[profiler.method])

    def memory_of(profiler: GeneratorProfiler, settings: Finetune, *_: Any) -> Memory:
        per_sample = made[profiler.method].late * (settings.micro_batch or 1)
        return Memory(made[profiler.method].trained, 0, 0, 0, per_sample, 0)

    monkeypatch.setattr(GeneratorProfiler, "memory", memory_of)
    costs, heaviest = generator_costs(params)
    assert costs == made and [one.name for one in heaviest] == ["siamese", "adc"]
    found = []
    for size in (1, 8):
        settings = params.finetune.model_copy(update={"micro_batch": size})
        most = needed_memory(heaviest, settings, 1, "none")
        found.append(most and (most[0].name, most[1]))
    assert found == [("adc", 25.0), ("siamese", 82.0)]
    assert needed_memory((), params.finetune, 1, "none") is None


def test_a_second_hint_costs_a_pass_of_the_control_branch() -> None:
    """In every step and branch; the rest is shared."""
    shown = {"method": "siamese", "copies": 1, "control": "mask_image"}
    params = toy(generators=TOY_STUDY["generators"] | {"shown": shown})
    work = stage_work(params, {}, pairs=10)
    found = {part.entry: (part.operations or 0) for part in work if part.stage == "generate"}
    each = found["siamese"] / 20, found["shown"] / 10
    steps = [memory.sampling_operations(params.base, 32, steps, 1.0, 2) for steps in (1, 2)]
    once = memory.sampling_operations(params.base, 32, 1, 1.0)
    assert each[1] == pytest.approx(steps[1]) and each[1] - each[0] == pytest.approx(2 * (steps[0] - once))
    assert 0.1 < (steps[0] - once) / (steps[1] - steps[0]) < 0.5


def test_learnt_masks_cost_their_training_once_and_their_drawing() -> None:
    """Entries of equal mask_params share a model; each image draws its mask."""
    values = {"method": "copy_paste", "masks": "learnt", "mask_params": {"steps": 50, "width": 8}, "count": 20}
    entries = {name: {**values, "copies": copies} for name, copies in (("a", 1), ("b", 3))}
    study = toy(generators=entries, training_sets={"real": {}})
    work = {part.entry: part.operations for part in stage_work(study, {}, 10) if part.stage == "generate"}
    training, drawing = learnt.operations(learnt.Params(steps=50, width=8), 2)
    assert training > 0 and drawing > 0
    assert work == {"a": 20 * drawing + training, "b": 60 * drawing}
    twice, same = learnt.operations(learnt.Params(steps=100, width=8), 2)
    assert (twice, same) == (2 * training, drawing)


def test_terms_of_the_autoencoder_cost_their_passes() -> None:
    """A discriminator's forward pass by hand: 4 x 4 convolutions; it counts from step 250, learns from step 200."""
    section = SMALL["autoencoder"] | {"crop": 48, "max_steps": 1000}
    plain, perceptual, adversarial = (
        autoencoder_operations(toy(base=SMALL | {"autoencoder": section | more}).base)
        for more in ({}, {"perceptual_weight": 0.5}, {"adversarial_weight": 0.05})
    )
    forward = 2 * 16 * (3 * 48 * 24**2 + 48 * 96 * 12**2 + 96 * 192 * 11**2 + 192 * 10**2)
    assert adversarial - plain == pytest.approx(forward * (2 * 0.75 + 6 * 0.8))
    assert 1e7 < (perceptual - plain) / 3 < 1e8  # EfficientNet-Lite0: 0.4 G multiplications at 224 px in its first half


def test_a_further_trained_decoder_costs_its_latents_and_its_steps() -> None:
    """Twice the steps cost twice the training, twice the latents twice the passes through the denoiser."""
    found = [
        decoder_operations(toy(base=SMALL | {"decoder": {"max_steps": steps, "latents": latents}}).base, 32)
        for steps, latents in ((100, 10), (200, 10), (100, 20))
    ]
    step, latents = (found[1] - found[0]) / 100, found[2] - found[0]
    assert found[0] == pytest.approx(100 * step + latents)
    passes = 10 * (25 + (0 + 5 + 10) / 3)  # steps of a sampled latent, and of a paired one on average
    assert latents == pytest.approx(passes * denoiser_operations(toy(base=SMALL).base, 32) / 3)
    params = toy(**plain_unet(), base=SMALL | {"decoder": {"max_steps": 100, "latents": 10}})
    (work,) = (part for part in stage_work(params, {}, pairs=10) if part.entry == "decoder")
    assert (work.stage, work.steps, work.operations) == ("base", 100, pytest.approx(found[0]))


def test_longer_arms_and_mean_teachers_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    data = {"data": TOY_STUDY["data"] | {"unlabelled": {"folder": "none_here"}}}
    arms = {"real": {}, "real_longer": {"steps": 2.0}, "pseudo_labels": {"unlabelled": "mean_teacher"}}
    params = toy(**plain_unet(), **data, training_sets=arms)
    (segment,) = (part for part in stage_work(params, {}, pairs=10) if part.stage == "segment")
    assert segment.steps == 2 * (2 + 4 + 2)  # seeds
    assert segment.operations == pytest.approx(2 * (2 + 4 + 2 * 7 / 3) * 4 * (unet_operations(params) or 0))


def test_pseudo_labels_cost_the_trainings_of_their_segmenters_and_images_for_their_masks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    for number in range(7):
        (tmp_path / f"{number}.png").touch()
    labels = {"segmenter": "unet", "networks": 3, "rounds": 2}
    arms = {"real": {}, "more": {"unlabelled": "pseudo_labels"}, "x1": {"generator": "siamese", "multiplier": 1}}
    changes = {
        "data": TOY_STUDY["data"] | {"unlabelled": {"folder": str(tmp_path), "pseudo_labels": labels}},
        "generators": {"siamese": {"copies": 2, "pseudo_labels": True}},
        "training_sets": arms,
    }
    params = toy(**plain_unet(), **changes)
    found = {part.stage: part for part in stage_work(params, {}, pairs=10)}
    each = unet_operations(params) or 0
    assert found["pseudo_labels"].steps == 2 * 3 * 2
    assert found["pseudo_labels"].operations == pytest.approx(2 * 3 * 2 * 4 * each)
    assert found["generate"].steps == 2 * (10 + 7)
    by_epochs = {**TOY_STUDY["segment"], "max_steps": None, "epochs": 2}
    params = toy(**plain_unet(), **changes, segment=by_epochs)
    (segment,) = (part for part in stage_work(params, {}, pairs=10) if part.stage == "segment")
    assert segment.steps == 2 * (5 + 9 + 14)  # seeds; 10, 17 and 27 images in batches of 4, twice
    told = "\n".join(make_plan(params, 10).lines())
    assert "siamese: siamese, at most 7 images with pseudo-labels, masks real, 34 images" in told


def test_epochs_take_more_steps_on_larger_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    by_epochs = {**TOY_STUDY["segment"], "max_steps": None, "epochs": 2}
    params = toy(**plain_unet(), segment=by_epochs)
    (segment,) = (part for part in stage_work(params, {}, pairs=10) if part.stage == "segment")
    assert segment.steps == 2 * (5 + 5 + 10 + 15)  # seeds; 10, 10, 20 and 30 images in batches of 4, twice
    (unknown,) = (part for part in stage_work(params, {}, pairs=None) if part.stage == "segment")
    assert (unknown.steps, unknown.operations) == (None, None)


def test_confirmation_counts_the_choice_with_the_most_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two generators of one treatment make three cells per seed; of two segmenters the dearer one may be chosen."""
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    generators = {"siamese": {"copies": 2}, "siamese_b": {"method": "siamese", "seed": 1, "copies": 2}}
    sets = {
        "real": {},
        "a": {"generator": "siamese", "multiplier": 1},
        "b": {"generator": "siamese_b", "multiplier": 1},
    }
    sets |= {"single": {"generator": "siamese", "multiplier": 2}}
    both = {"small": {"method": "unet_plain32", "width": 8}, "unet": {"method": "unet_plain32"}}
    changes = {"generators": generators, "training_sets": sets, "segmenters": both, "judge": {"segmenter": "unet"}}
    params = toy(**changes, confirm={"seeds": [100, 101, 102]})
    work = list(stage_work(params, {}, pairs=10))
    (confirm,) = (part for part in work if part.stage == "confirm")
    assert (confirm.entry, confirm.steps) == ("unet", 3 * 3 * 2)  # sets, seeds, steps
    assert confirm.operations == pytest.approx(18 * 4 * (unet_operations(params) or 0))
    assert not [part for part in stage_work(toy(**changes), {}, pairs=10) if part.stage == "confirm"]
    assert make_plan(params, 10).confirmation == 9
    assert make_plan(toy(**changes), 10).confirmation == 0


def test_the_confirmation_of_epochs_is_unknown_without_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    by_epochs = {**TOY_STUDY["segment"], "max_steps": None, "epochs": 2}
    params = toy(**plain_unet(), segment=by_epochs, confirm={"seeds": [100]})
    (known,) = (part for part in stage_work(params, {}, pairs=10) if part.stage == "confirm")
    assert known.steps == 5 + 15  # 10 and 30 images in batches of 4, twice: the largest multiplier
    (unknown,) = (part for part in stage_work(params, {}, pairs=None) if part.stage == "confirm")
    assert (unknown.steps, unknown.operations) == (None, None)


def test_entries_that_share_weights_are_fine_tuned_once() -> None:
    entries = {"siamese": {"copies": 2}, "random": {"method": "siamese", "copies": 1, "masks": "random"},
               "again": {"method": "siamese", "copies": 1, "seed": 1}}  # fmt: skip
    assert weight_sources(toy(generators=entries).generators) == {
        "siamese": "siamese",
        "random": "siamese",
        "again": "again",
    }


def test_attacks_cost_their_passes_for_members_and_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    monkeypatch.setattr(attack_profile, "attack_cost", lambda *_: AttackCost(5.0, 2.0 * GIB))
    entries = {"siamese": {"copies": 1}, "few": {"method": "siamese", "copies": 1, "limit": 4}}
    entries |= {"copy_paste": {"copies": 1}}
    data = TOY_STUDY["data"] | {"train": 10, "val": 3, "test": 4}
    attacked = {"data": data, "generators": entries, "training_sets": {"real": {}}, "audit": {"membership": {}}}

    def found(pairs: int | None = 10, **changes: Any) -> dict[str, tuple[int | None, float | None]]:
        work = stage_work(toy(**attacked | changes), {}, pairs)
        return {part.entry: (part.steps, part.operations) for part in work if part.stage == "audit"}

    assert found() == {"siamese": (17, 85.0), "few": (11, 55.0)}  # 7 controls
    assert found(data=data | {"train_limit": 8}, pairs=8)["siamese"] == (8 + 7 + 2, 85.0)
    seen = {"train_limit": 8, "unlabelled": {"rest": True}}
    assert found(data=data | seen, pairs=8)["siamese"] == (8 + 7, 75.0)
    assert found(audit={"membership": {"scores": ["released"]}}) == found(audit={}) == {}
    assert found(pairs=None)["siamese"] == (None, None)
    one, two = forecast(toy(**attacked), [Machine("one", 1, GIB, 1e-12), Machine("two", 2, 9 * GIB, 1e-12)]).fits
    assert one.hours["audit"] == two.hours["audit"] == pytest.approx((85 + 55) / 3600)  # on one device
    assert "(attacks 2.15 GB) of 9.66, fits" in fit_line(two)


def test_attacks_that_do_not_fit_are_told() -> None:
    assert MachineFit("m", 1, 2.0, 1.0, {}, attacks=2.0).fits
    assert not MachineFit("m", 1, 2.0, 1.0, {}, attacks=3.0).fits


def test_disk_counts_weights_checkpoints_and_pictures_of_pairs() -> None:
    params = toy()
    cost = Cost(1000, 0, 1.0, 1.0, 1.0)
    found = disk_usage(params, {"siamese": cost}, pairs=10)
    assert (found.generators, found.checkpoints) == (4000, 12000)
    assert found.images == pytest.approx(1.54 * (10 + 20) * 32**2)
    assert DiskUsage(1, 2, 4, 8).total == 2 * (1 + 2 + 8) + 4
    assert disk_usage(params, {"siamese": cost}, pairs=None).images is None


def test_disk_counts_a_byte_per_plane_and_pixel_of_the_judges_maps() -> None:
    cost, three = {"siamese": Cost(1000, 0, 1.0, 1.0, 1.0)}, {**TOY_STUDY["data"], "num_classes": 3}
    for changes, planes in (({}, 1), ({"data": three}, 3)):
        plain, mapped = toy(**changes), toy(**changes, score={"judge_maps": True})
        more = (disk_usage(params, cost, pairs=10).images or 0 for params in (mapped, plain))
        assert next(more) - next(more) == pytest.approx(planes * 20 * 32**2)


def test_disk_counts_images_without_masks_too(tmp_path: Path) -> None:
    for name in "uvw":
        (tmp_path / f"{name}.png").write_bytes(b"")  # none is decoded
    data = {**TOY_STUDY["data"], "train": 20, "val": 2, "test": 2, "train_limit": 12}
    more = {"folder": str(tmp_path), "rest": True}
    cost = {"siamese": Cost(1000, 0, 1.0, 1.0, 1.0)}
    found = disk_usage(toy(data={**data, "unlabelled": more}), cost, pairs=12)
    assert found.images == pytest.approx(1.54 * (12 + 24 + 3 + 8) * 32**2)
    gone = disk_usage(toy(data={**data, "unlabelled": {"folder": str(tmp_path / "gone")}}), cost, pairs=12)
    assert gone.images == pytest.approx(1.54 * (12 + 24) * 32**2)


def test_pairs_are_counted_from_the_data_without_decoding(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", train="a b c d", val="e", test="f g")
    (root / "images/a.png").write_bytes(b"broken")
    assert listed_pairs(study(root=root).data) == 4
    drawn = tmp_path / "drawn"
    folder(drawn, train="a b c d e f g h i j")
    (drawn / "splits/train.txt").unlink()
    assert listed_pairs(study(root=drawn).data) == 7  # a tenth is val, a fifth is test
    assert listed_pairs(study(root=tmp_path / "nowhere").data) is None


@pytest.fixture(scope="module")
def counted() -> Forecast:
    """The small study on one device of 1 GiB and on two of 9 GiB; the reserve alone is 1.2 GB."""
    return forecast(toy(**plain_unet()), [Machine("one", 1, GIB, 1.0), Machine("two", 2, 9 * GIB, 1.0)])


def test_time_falls_with_devices_but_for_stages_of_one_device(counted: Forecast) -> None:
    one, two = counted.fits
    for stage in ("finetune", "generate", "segment"):
        assert two.hours[stage] == pytest.approx(one.hours[stage] / 2)
    assert two.hours["base"] == one.hours["base"] and two.hours["judge"] == one.hours["judge"]
    assert not one.fits and two.fits


def test_nothing_to_train_fits_everywhere() -> None:
    assert MachineFit("m", 1, 1.0, None, {}).fits
    assert not MachineFit("m", 1, 1.0, 2.0, {}).fits


@pytest.fixture
def small_study(tmp_path: Path) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(toy(**plain_unet()).model_dump_json(exclude_none=True), encoding="utf-8")
    return str(path)


@pytest.fixture
def asked(counted: Forecast, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the verb asks the forecast; it is told what was counted once."""
    questions = []

    def answer(params: Params, machines: list[Machine], pairs: int | None) -> Forecast:
        questions.append((params.study, machines, pairs))
        return counted

    monkeypatch.setattr(forecast_module, "forecast", answer)
    return questions


def test_the_verb_asks_for_the_machine_of_its_arguments(small_study: str, asked: list[Any]) -> None:
    machine = ["--devices", "2", "--memory", "24", "--tflops", "7", "--sharding", "zero2", "--pairs", "5"]
    assert main(["estimate", "--study", small_study, *machine]) == 0
    assert asked == [("toy", [Machine("2 x 24 GiB", 2, 24 * GIB, 7.0, "zero2")], 5)]


@pytest.mark.usefixtures("asked")
def test_the_verb_tells_it_in_words_and_as_json(small_study: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--study", small_study, "--memory", "9"]) == 0
    words = capsys.readouterr().out
    assert "real training pairs: 10" in words and "GB of 1.07, DOES NOT FIT; base " in words
    assert "of 9.66, fits; base " in words
    assert main(["estimate", "--study", small_study, "--memory", "9", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [(fit["memory"], fit["fits"]) for fit in plain["fits"]] == [(GIB, False), (9 * GIB, True)]
    assert plain["disk"]["total"] > 0 and plain["costs"]["siamese"]["trained"] > 0


def test_a_study_that_fits_nowhere_is_status_1(
    small_study: str, counted: Forecast, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = replace(counted, fits=counted.fits[:1])
    monkeypatch.setattr(forecast_module, "forecast", lambda *_: nowhere)
    assert main(["estimate", "--study", small_study, "--memory", "1"]) == 1
    assert "DOES NOT FIT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--devices", "8"], "need --memory"), (["--study", "polypes"], "there is no study")]
)
def test_faults_are_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], small_study: str
) -> None:
    assert main(["estimate", "--study", small_study, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize("bad", [["--devices", "0"], ["--memory", "-1"], ["--memory", "nan"], ["--pairs", "x"]])
def test_numbers_are_bounded(bad: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["estimate", *bad])
    assert stop.value.code == 2


@pytest.mark.slow
def test_the_paper_s_study_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    params = load_params(Path("configs/studies/polyps.yaml"))
    found = forecast(params, [Machine("8 x 24", 8, 24 * GIB, 60.0, "zero2")])
    assert found.pairs == 1450
    assert found.costs["siamese"] is not None and found.costs["siamese"].trained == 874_264_516
    stages = {"finetune", "generate", "judge", "segment", "confirm"}
    assert found.fits[0].fits and {part.stage for part in found.work} == stages


def judge_steps(judge: dict[str, Any], segment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int | None:
    monkeypatch.setattr(memory, "sampling_operations", lambda *_: 1.0)
    params = toy(**plain_unet(), segment=TOY_STUDY["segment"] | segment, judge={"segmenter": "unet"} | judge)
    (part,) = (part for part in stage_work(params, {}, pairs=11) if part.stage == "judge")
    each = unet_operations(params) or 0
    assert part.operations == pytest.approx(each * (part.steps or 0) * 4)
    return part.steps


def test_cross_fitted_judges_take_two_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed, epochs = {"cross_fit": True}, {"max_steps": None, "epochs": 4}
    assert judge_steps({"max_steps": 5}, {}, monkeypatch) == 5
    assert judge_steps({"max_steps": 5} | crossed, {}, monkeypatch) == 10
    assert judge_steps({}, epochs, monkeypatch) == 11
    assert judge_steps(crossed, epochs, monkeypatch) == 12  # of 6 pairs at most, in batches of 4


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped study in an empty folder."""
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("demo")
def test_power_says_what_a_study_could_find(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--power", "300", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    found = [row["found"] for row in plan["gains"]]
    assert found == sorted(found)
    assert [row["gain"] for row in plan["gains"]] == [0.01, 0.02, 0.03]
    assert all(row["found_several"] < row["found"] for row in plan["gains"])  # another level of noise
    assert main(["estimate", "--power", "300"]) == 0
    assert "with 300 test images, 5 seeds and 1 trained generator (level 0.05)" in capsys.readouterr().out


@pytest.mark.usefixtures("demo")
def test_power_takes_the_noise_of_a_finished_study(capsys: pytest.CaptureFixture[str]) -> None:
    noise = {"segmenter": "unet", "seed_sd": 0.0, "image_sd": 0.05, "cell_sd": 0.0}
    noise |= {"generator_sd": None, "generator_cell_sd": None}
    files.write_json(paths.comparison("done") / "comparison.json", {"noise": [noise]})
    assert main(["estimate", "--power", "200", "--like", "done", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["noise"]["segmenter"] == "done, unet"
    # a paired t-test of 200 differences with SD 5 points finds a gain of one point in 80 %
    assert plan["gains"][0]["found"] == pytest.approx(0.80, abs=0.01)


@pytest.mark.usefixtures("demo")
def test_power_takes_the_noise_of_judges_before_there_are_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--power", "300", "--json"]) == 0
    typical = json.loads(capsys.readouterr().out)
    spread = hypot(typical["noise"]["image_sd"], typical["noise"]["cell_sd"])
    metrics = paths.judge("demo") / "metrics.json"
    files.write_json(metrics, {"dice": 0.8})  # of a single judge
    assert main(["estimate", "--power", "300", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == typical
    files.write_json(metrics, {"dice": 0.8, "difference_sd": spread / 2})
    assert main(["estimate", "--power", "300", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    for level in ("seed_sd", "image_sd", "cell_sd", "generator_sd"):
        assert plan["noise"][level] == pytest.approx(typical["noise"][level] / 2)
    assert plan["gains"][0]["found"] == pytest.approx(typical["gains"][1]["found"])  # half the gain, half the noise
    assert main(["estimate", "--power", "300"]) == 0
    assert "noise of the difference, at most, from the two judges of this study" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--like", "done"], "--like needs --power: the number of independent test images"),
        (["--power", "20", "--like", "nothing"], "comparison.json does not exist; name a finished study"),
        (["--power", "1"], "planning needs at least two seeds and two test images, found 5 and 1"),
    ],
)
@pytest.mark.usefixtures("demo")
def test_power_without_what_it_needs(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", *arguments]) != 0
    assert message in capsys.readouterr().err
