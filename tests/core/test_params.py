"""Parameters: bounds, unknown keys by dotted path, references between sections, YAML as DVC reads it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.watched_sections import check_watched_sections
from pipeline.core.errors import UserError
from pipeline.core.section import parse, read_yaml
from pipeline.study import Params, load_params
from tests.conftest import TOY_STUDY

Change = Callable[[dict[str, Any]], Any]


def refusal(change: Change) -> str:
    values = copy.deepcopy(TOY_STUDY)
    change(values)
    with pytest.raises(UserError) as caught:
        parse(Params, values)
    return str(caught.value)


SCRATCH = {
    "source": "scratch",
    "autoencoder": {"channels": [16, 16], "max_steps": 1, "batch_size": 1, "crop": 8, "learning_rate": 1e-3},
    "denoiser": {"channels": [32, 64], "max_steps": 1, "batch_size": 1, "learning_rate": 1e-3},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["finetune"].update(max_step=3), r"finetune.max_step is not a parameter; did you mean max_steps?"),
        (lambda v: v.update(genrators={}), "genrators is not a parameter; did you mean generators?"),
        (lambda v: v["finetune"].update(max_steps=0), "finetune.max_steps: Input should be greater than 0, found 0"),
        (lambda v: v["finetune"].pop("max_steps"), "finetune.max_steps: Field required"),
        (lambda v: v["data"].update(size=30), "data.size: Input should be a multiple of 8, found 30"),
        (lambda v: v["generators"]["siamese"].update(copies=1), "copies is 1; raise copies or lower the multiplier"),
        (lambda v: v["training_sets"]["siamese_x1"].update(generator="gan"), "'gan'; the available ones are: siamese"),
        (lambda v: v["training_sets"]["siamese_x1"].update(multiplier=0), "a generator needs a multiplier >= 1"),
        (lambda v: v["judge"].update(segmenter="segnet"), "judge.segmenter is 'segnet'; the available ones are: unet"),
        (lambda v: v["generators"].update(shuffled={"copies": 1}), "generators.shuffled: this name belongs"),
        (lambda v: v["generate"].update(steps=501), "generate.steps: Input should be less than or equal to 500"),
        (lambda v: v["segment"].update(seeds=[1, 1]), "seeds must differ, found [1, 1]"),
        (lambda v: v["training_sets"]["real_again"].update(seed_offset=1),
         "real_again.seed_offset is 1: it would be trained like real, with the same seed 1; use for example 2"),
        (lambda v: v["training_sets"].update(real_twin={}),
         "training_sets.real_twin.seed_offset is 0: it would be trained like real, with the same seeds 0, 1; use for"
         " example 2"),
        (lambda v: v["training_sets"].update(third={"seed_offset": 1001}),
         "third.seed_offset is 1001: it would be trained like real_again, with the same seed 1001; use for example 2"),
        (lambda v: v["segmenters"].update({f"unet_{k}": {"method": "unet"} for k in range(5)}) or
         v.update(compare={"resamples": 200}),
         "compare.resamples is 200: with 12 comparisons no p can fall below half of 0.05; use at least 480"),
        (lambda v: v.update(compare={"resamples": 200, "confidence": 0.99}), "use at least 400"),
        (lambda v: v.update(study="My study"), "study: String should match pattern"),
        (lambda v: v["segmenters"].update({"U-Net": {}}), "segmenters.U-Net: a name consists of lower-case letters"),
        (lambda v: v["base"].update(source="scratch"), "source scratch needs the sections autoencoder and denoiser"),
        (lambda v: v["data"].update(val_share=0.5, test_share=0.5), "val_share + test_share must be below 1"),
        (lambda v: v.update(base=copy.deepcopy(SCRATCH), data=v["data"] | {"size": 40, "reader": "x"}) or
         v["base"]["denoiser"].update(channels=[32, 64, 96, 128]), "data.size is 40; the base's levels need"),
        (lambda v: v.update(base=copy.deepcopy(SCRATCH)) or v["base"]["denoiser"].update(channels=[20, 64]),
         "channels must be two or more multiples of 32, found [20, 64]"),
    ],
)  # fmt: skip
def test_bad_parameters_are_named(change: Change, message: str) -> None:
    assert message in refusal(change)


def test_all_faults_are_told_at_once() -> None:
    def two(values: dict[str, Any]) -> None:
        values["finetune"]["max_steps"] = -1
        values["generate"]["steps"] = "many"

    told = refusal(two)
    assert "finetune.max_steps" in told and "generate.steps" in told


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("rate: 1e-5\nanswer: no\n")
    assert read_yaml(path) == {"rate": 1e-5, "answer": "no"}


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; run in the project's folder"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("study: [unclosed")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_keys_of_a_plug_in_are_kept_for_it(toy_params: Params) -> None:
    assert toy_params.segmenters["unet"].options == {"weights": "none", "decoder_channels": [8, 8, 8, 8, 8]}


def test_a_section_that_dvc_watches_is_never_left_out(tmp_path: Path) -> None:
    text = Path("configs/studies/demo.yaml").read_text(encoding="utf-8")
    study = tmp_path / "params.yaml"
    study.write_text("".join(line for line in text.splitlines(True) if not line.startswith("confirm:")))
    with pytest.raises(UserError, match=r"params\.yaml: DVC needs every section .* add the line confirm: null"):
        check_watched_sections(study)
    with study.open("a") as file:
        file.write("confirm: null\n")
    check_watched_sections(study)
