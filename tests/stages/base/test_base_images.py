"""What a base made from scratch is pretrained on: training images and unlabelled ones, and nothing else."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.core import files, paths
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, write_image
from pipeline.data.loading import Pairs
from pipeline.stages.base import base
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.base.params import Base
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blob
from tests.tiny_base import write_tiny_base

SCRATCH = {
    "autoencoder": {"channels": [16, 32], "max_steps": 1, "batch_size": 2, "crop": 8, "learning_rate": 1e-3},
    "denoiser": {"channels": [32, 64], "text_width": 16, "max_steps": 1, "batch_size": 2, "learning_rate": 1e-3},
}


def study(**data: Any) -> Params:
    return parse(Params, {**TOY_STUDY, "base": SCRATCH, "data": {**TOY_STUDY["data"], **data}})


@pytest.fixture
def unlabelled(toy_study: Params) -> ImageSet:
    """Five images without masks."""
    spec, folder = ImageSet.open(paths.real("toy")).spec, paths.unlabelled("toy")
    return ImageSet.finish(folder, spec, [write_image(folder, blob(spec, "unlabelled", n)) for n in range(5)])


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Pairs]:
    """What pretraining is given, without the training."""
    given: list[Pairs] = []

    def pretrain(section: Base, size: int, seed: int, pairs: Pairs, runtime: Any, work: Path) -> dict[str, Any]:
        given.append(pairs)
        write_tiny_base(work / "base", "sample")
        return {}

    monkeypatch.setattr(base, "pretrain", pretrain)
    return given


def test_a_base_sees_the_training_images_and_the_unlabelled_ones(unlabelled: ImageSet, seen: list[Pairs]) -> None:
    base.make_base(study(unlabelled={"folder": "more"}))
    train = ImageSet.open(paths.real("toy")).split("train")
    assert seen[0].ids == (*train.ids, *unlabelled.ids)
    assert not seen[0].mask.any()  # nor does it get masks
    manifest = files.read_json(paths.base("toy") / "manifest.json")
    assert manifest["unlabelled"] == {"images": 5, "digest": unlabelled.digest}
    assert unlabelled_images("toy") == 5


def test_without_the_section_it_sees_training_images_alone(unlabelled: ImageSet, seen: list[Pairs]) -> None:
    params = study()
    base.make_base(params)
    train = ImageSet.open(paths.real("toy")).split("train")
    assert seen[0].ids == tuple(train.ids)
    manifest = files.read_json(paths.base("toy") / "manifest.json")
    assert "unlabelled" not in manifest and unlabelled_images("toy") == 0
    settings = {key: value for key, value in params.base.fingerprinted().items() if key != "weights"}
    as_before = files.fingerprint(base.VERSION, settings, params.seed, params.threads, train.digest)
    assert manifest["fingerprint"] == as_before


def test_other_unlabelled_images_are_another_base(unlabelled: ImageSet, seen: list[Pairs]) -> None:
    params, path = study(unlabelled={"folder": "more"}), paths.base("toy") / "manifest.json"
    base.make_base(params)
    first = files.read_json(path)["fingerprint"]
    base.make_base(params)
    assert len(seen) == 1 and files.read_json(path)["fingerprint"] == first  # nothing is made twice
    ImageSet.finish(unlabelled.folder, unlabelled.spec, unlabelled.rows[:4])
    base.make_base(params)
    assert len(seen) == 2 and files.read_json(path)["fingerprint"] != first


def test_an_imported_base_sees_none(unlabelled: ImageSet, seen: list[Pairs], tmp_path: Path) -> None:
    source = write_tiny_base(tmp_path / "sd", "epsilon")
    params = study(unlabelled={"folder": "more"}).model_copy(update={"base": Base(source=str(source))})
    base.make_base(params)
    assert seen == [] and unlabelled_images("toy") == 0


def test_a_real_pretraining_runs_on_them(unlabelled: ImageSet) -> None:
    base.make_base(study(unlabelled={"folder": "more"}))
    assert (paths.base("toy") / "losses_denoiser.csv").is_file()
