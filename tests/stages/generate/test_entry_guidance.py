"""The key `guidance` of a generator entry: what it draws, records, reruns and costs, and what is refused."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.cli import counts
from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.verification import verify
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_set import job, make
from tests.tiny_base import write_tiny_base

BY_SNAPSHOT = {"scale": 3.0, "snapshot": 1}
SNAPSHOT = paths.generator("toy", "drawn") / "snapshots" / "000001"


def guided(guidance: dict[str, Any] | None, method: str = "siamese", **options: Any) -> Params:
    """The toy study whose entry draws under this guidance; its generator keeps a snapshot of step 1."""
    own = {"copies": 1, "method": method, **({} if guidance is None else {"guidance": guidance}), **options}
    finetune = {**TOY_STUDY["finetune"], "snapshots": [1]}
    study = {**TOY_STUDY, "finetune": finetune, "generators": {"drawn": own}, "training_sets": {"real": {}}}
    return parse(Params, study)


@pytest.fixture
def study(toy_study: Params) -> None:
    """An untrained base, and a published generator whose snapshot has other weights."""
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    spec = ImageSet.open(paths.real("toy")).spec
    params = guided(None)
    built = generator.build("toy", 0, "drawn", params.generators["drawn"], spec, Runtime.alone(1))
    assert isinstance(built, ControlledDiffusion)
    for number, folder in enumerate((SNAPSHOT, SNAPSHOT.parents[1])):
        torch.manual_seed(number)
        for weight in built.network.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        built.save(folder)


def pixels(images: ImageSet) -> np.ndarray:
    return np.stack([images.image(row) for row in images])


@pytest.mark.usefixtures("study")
def test_every_kind_of_guidance_draws_its_own_images_and_records_itself() -> None:
    kinds = {
        "none": None,
        "prompt": {"scale": 3.0},
        "prompt_between": {"scale": 3.0, "interval": [0.1, 0.6]},
        "snapshot": BY_SNAPSHOT,
        "snapshot_between": {**BY_SNAPSHOT, "interval": [0.1, 0.6]},
    }
    drawn = {name: make(guided(kind), name) for name, kind in kinds.items()}
    seen = {name: pixels(images).tobytes() for name, images in drawn.items()}
    assert len(set(seen.values())) == len(kinds)
    for name, images in drawn.items():
        verify(images)
        row, kind = next(iter(images)), kinds[name]
        assert row["guidance_scale"] == (1.0 if kind is None else kind["scale"])
        wanted = {"interval": [0.0, 1.0], "snapshot": None} | {k: v for k, v in (kind or {}).items() if k != "scale"}
        assert ("guidance" in row) == (kind is not None)
        assert kind is None or json.loads(row["guidance"]) == wanted


@pytest.mark.usefixtures("study")
def test_guidance_changes_the_images_but_not_the_weights() -> None:
    real = ImageSet.open(paths.real("toy")).split("train")
    plain, by_snapshot = guided(None), guided(BY_SNAPSHOT)
    assert fingerprint(plain, "drawn", real) == fingerprint(by_snapshot, "drawn", real)
    assert job(plain).fingerprint != job(by_snapshot).fingerprint


@pytest.mark.usefixtures("study")
def test_a_snapshot_that_is_drawn_depends_on_the_snapshot_that_guides() -> None:
    """The folder of a drawn snapshot does not hold the other one, so its own hash does not tell."""
    elsewhere = shutil.copytree(SNAPSHOT, SNAPSHOT.parents[2] / "copied")
    drawn = job(guided(BY_SNAPSHOT))
    before = type(drawn)(drawn.params, drawn.name, elsewhere, 1, drawn.real).fingerprint
    (SNAPSHOT / "note").write_text("changed", encoding="utf-8")
    assert type(drawn)(drawn.params, drawn.name, elsewhere, 1, drawn.real).fingerprint != before


@pytest.mark.usefixtures("study")
def test_a_snapshot_that_is_gone_is_named() -> None:
    shutil.rmtree(SNAPSHOT)
    with pytest.raises(UserError, match="000001"):
        make(guided(BY_SNAPSHOT))


@pytest.mark.parametrize(
    ("guidance", "options", "said"),
    [
        ({"scale": 2.0, "snapshot": 7}, {}, r"generators\.drawn\.guidance\.snapshot 7 is not kept; .* \[1\]"),
        ({"scale": 2.0}, {"method": "copy_paste"}, r"generators\.drawn\.guidance: copy_paste has no denoising steps"),
        ({"scale": 1.0}, {}, r"generators\.drawn\.guidance\.scale: .* greater than 1"),
        ({"scale": 2.0, "interval": [0.6, 0.6]}, {}, r"interval \[0\.6, 0\.6\] must rise"),
        ({"scale": 2.0, "interval": [-0.1, 0.6]}, {}, r"interval \[-0\.1, 0\.6\] must rise"),
        ({"scale": 2.0, "snapshot": 0}, {}, "snapshot"),
    ],
)
def test_faults_of_guidance_are_named(guidance: dict[str, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        guided(guidance, **options)


def test_the_forecast_counts_a_second_pass_where_guidance_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "sampling_operations", lambda base, size, steps, scale, hints: 10.0 * (1 + (scale > 1)))
    for guidance, operations in ((None, 10.0), ({"scale": 3.0}, 20.0), ({**BY_SNAPSHOT, "interval": [0.2, 0.7]}, 15.0)):
        params = guided(guidance)
        assert params.base is not None
        found = counts.GeneratorCounts(params, "drawn").image_operations()
        assert found == pytest.approx(operations)
