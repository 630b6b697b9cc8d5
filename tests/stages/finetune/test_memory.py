"""What is told before a start: counts at full size, memory by hand, the message where it does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.stages.finetune import memory
from pipeline.stages.finetune.memory import GB, RESERVE, GeneratorProfiler, Memory, check_fits, fit_device
from pipeline.stages.finetune.meta_profiler import footprint, operations
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.tiny_base import write_tiny_base

META = torch.device("meta")
RATES = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}
SMALL = {
    "source": "scratch",
    "autoencoder": {"channels": [16, 16], "crop": 8, **RATES},
    "denoiser": {"channels": [32, 32], "text_width": 16, **RATES},
}


@pytest.fixture
def small() -> Params:
    return parse(Params, TOY_STUDY | {"base": SMALL})


def linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False, device=META)
    layer.weight.grad = torch.empty_like(layer.weight)
    return layer


def test_a_chain_of_layers_keeps_its_inputs_and_peaks_in_the_backward_pass() -> None:
    first, second = linear(100, 50), linear(50, 10)
    x = torch.empty(8, 100, device=META)
    told = footprint(lambda: second(F.relu(first(x))).sum())
    assert told.kept == 4 * (8 * 50 + 1)  # the ReLU's result serves ReLU and layer; the loss
    assert told.peak > told.kept


def test_bf16_casts_each_weight_once() -> None:
    layer = linear(100, 100)
    x = torch.empty(8, 100, device=META)
    once = footprint(lambda: layer(x).float().sum(), half=True)
    twice = footprint(lambda: (layer(x) + layer(x)).float().sum(), half=True)
    weight, cast_input = 2 * 100 * 100, 2 * 8 * 100
    assert once.kept == cast_input + 4  # no gradient reaches the input, so the cast weight is not needed again
    assert twice.kept == 2 * cast_input + 4
    assert once.peak >= weight + cast_input
    assert twice.peak < once.peak + weight


def test_attention_keeps_no_matrix_of_scores() -> None:
    q, k, v = (torch.empty(1, 2, 256, 8, device=META, requires_grad=True) for _ in range(3))
    told = footprint(lambda: F.scaled_dot_product_attention(q, k, v).sum())
    assert told.kept == 4 * (2 * 256 * 8 + 2 * 256 + 1)  # the result, a number per row, the loss
    assert operations(lambda: F.scaled_dot_product_attention(q, k, v).sum()) == 6 * 2 * 2 * 256 * 256 * 8


def test_compiled_late_steps_are_counted_with_what_fills_their_passes_up() -> None:
    """Three samples, half of them augmented: two fit into a pass, so one or two take a pass of two, three take two."""
    settings = Finetune(max_steps=1, global_batch=6, micro_batch=3, learning_rate=1e-3, compile=True)
    assert memory._with_filling(0.5, settings) == pytest.approx((6 / 8 * 2 + 1 / 8 * 4) / 3)
    assert memory._with_filling(0.201, settings.model_copy(update={"micro_batch": 1})) == pytest.approx(0.201)


def test_what_was_exchanged_is_put_back() -> None:
    before = F.linear, F.scaled_dot_product_attention, torch.autocast
    with pytest.raises(ZeroDivisionError):
        footprint(lambda: torch.empty(1 // 0), half=True)
    assert (F.linear, F.scaled_dot_product_attention, torch.autocast) == before


def test_memory_is_weights_gradients_states_and_activations(small: Params) -> None:
    profiler = GeneratorProfiler(small, "siamese")
    cost, alone = profiler.cost(), profiler.memory(small.finetune)
    assert cost is not None and alone is not None
    assert (alone.weights, alone.gradients, alone.optimizer) == (4 * cost.trained, 4 * cost.trained, 8 * cost.trained)
    assert alone.frozen == 4 * cost.frozen
    assert alone.total == 16 * cost.trained + alone.frozen + alone.activations + RESERVE
    dealt = profiler.memory(small.finetune, world=2, sharding="zero2")
    assert dealt is not None
    assert (dealt.gradients, dealt.optimizer) == (2 * cost.trained, 4 * cost.trained)
    assert dealt.activations < alone.activations  # one sample of two


def test_checkpointing_and_small_batches_need_less(small: Params) -> None:
    profiler, settings = GeneratorProfiler(small, "siamese"), small.finetune.model_copy(update={"global_batch": 4})
    whole = profiler.activations(settings, 4)
    assert profiler.activations(settings, 2) < 0.6 * whole
    assert profiler.activations(settings.model_copy(update={"gradient_checkpointing": True}), 4) < 0.6 * whole


def test_too_little_memory_is_told_with_what_would_do(small: Params) -> None:
    settings = small.finetune.model_copy(update={"global_batch": 3})
    profiler = GeneratorProfiler(small, "siamese")
    one = profiler.memory(settings.model_copy(update={"micro_batch": 1}))
    assert one is not None
    with pytest.raises(UserError, match=r"needs about \d+ GB per device .* the device has \d+; try micro_batch 1"):
        check_fits(profiler, settings, one.total * 1.001, 1, "none")
    assert check_fits(profiler, settings, 1000 * GB, 1, "none") is not None


@pytest.mark.parametrize("conditioning", ["canny", "soft_edge_hed"])
def test_edges_are_counted_without_an_image_and_without_their_weights(conditioning: str) -> None:
    entries = {"masked": {}, "edges": {"conditioning": conditioning}}
    generators = {name: {"method": "t2i_adapter", "copies": 1, **own} for name, own in entries.items()}
    study = parse(Params, TOY_STUDY | {"base": SMALL, "generators": generators, "training_sets": {"real": {}}})
    masked, edges = (GeneratorProfiler(study, name).memory(study.finetune) for name in entries)
    assert masked is not None and masked == edges


def test_a_machine_is_checked_where_the_base_is_large_for_it(
    toy_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_base(paths.base("toy"), "epsilon")
    runtime = Runtime.alone(1, torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "memory", lambda self: 4_000_000)
        with pytest.raises(UserError, match="needs about 1 GB per device"):
            fit_device(toy_params, "siamese", toy_params.finetune, runtime)
    monkeypatch.setattr(memory, "GeneratorProfiler", None)  # not counted
    assert runtime.memory() > 1e9
    assert fit_device(toy_params, "siamese", toy_params.finetune, runtime) is toy_params.finetune


def test_a_study_that_leaves_it_open_trains_with_what_fits_the_gpu(
    toy_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest micro-batch that fits; smaller ones with checkpointing only where no other does."""
    monkeypatch.chdir(tmp_path)
    write_tiny_base(paths.base("toy"), "epsilon")
    settings, runtime = toy_params.finetune.model_copy(update={"global_batch": 12}), Runtime(torch.device("cuda"))

    def needed(profiler: GeneratorProfiler, settings: Any, world: int, sharding: str) -> float:
        return (settings.micro_batch or settings.global_batch) * (0.5 if settings.gradient_checkpointing else 1) * GB

    monkeypatch.setattr(memory, "_total_bytes", needed)
    for room, expected in ((12, (None, False)), (9, (8, False)), (1, (1, False)), (0.5, (1, True))):
        monkeypatch.setattr(Runtime, "memory", lambda self, room=room: room * GB)
        found = fit_device(toy_params, "siamese", settings, runtime, free=True)
        assert (found.micro_batch, found.gradient_checkpointing) == expected
    small = settings.model_copy(update={"micro_batch": 2})
    monkeypatch.setattr(Runtime, "memory", lambda self: GB)
    monkeypatch.setattr(GeneratorProfiler, "memory", lambda *_: Memory(GB, GB, GB, GB, GB, GB))
    with pytest.raises(UserError, match=r"needs about 6 GB per device .* try micro_batch 1$"):
        fit_device(toy_params, "siamese", small, runtime)
    monkeypatch.setattr(Runtime, "memory", lambda self: GB / 4)
    with pytest.raises(UserError, match="no micro-batch fits, not even with gradient_checkpointing; take a GPU with"):
        fit_device(toy_params, "siamese", settings, runtime, free=True)


@pytest.mark.slow
def test_full_size_counts_are_those_of_the_specification() -> None:
    params = load_params(REPOSITORY / "configs" / "studies" / "polyps.yaml")
    cost: Any = GeneratorProfiler(params, "siamese").cost()
    assert (cost.trained, cost.frozen) == (874_264_516, 348_712_960)
    assert cost.early == pytest.approx(2655.0e9, abs=0.1e9)
    assert cost.late == pytest.approx(2939.1e9, abs=0.5e9)


def test_copy_paste_trains_nothing() -> None:
    study = TOY_STUDY | {"base": SMALL, "generators": {"copy_paste": {"copies": 1}}, "training_sets": {"real": {}}}
    profiler = GeneratorProfiler(parse(Params, study), "copy_paste")
    assert profiler.cost() is None
    assert profiler.memory(profiler.params.finetune) is None
