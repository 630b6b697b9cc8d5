"""Stable Diffusion 2.1 and XL from a folder to an export: base, finetune, generate, and diffusers draws the same."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core import files, paths
from pipeline.core.contracts import Sampling
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.deploy import generator_export
from pipeline.methods.conditioning.mask import palette
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.stages.base.base import make_base
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.finetune import finetune
from pipeline.stages.generate.generate import generate
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blobs
from tests.family_bases import NAMES, SIZE, Name, write_family_base
from tests.levels import ROUNDING, apart, bytes_apart

SPEC = DatasetSpec(name="blobs", size=SIZE, num_classes=3)
PROMPT = "A photo of a blob."
ENTRIES = ("siamese", "controlnet")
STUDY: dict[str, Any] = TOY_STUDY | {
    "data": {"reader": "phantom", "size": SIZE, "num_classes": 3, "prompt": PROMPT},
    "finetune": {"max_steps": 2, "global_batch": 2, "learning_rate": 1e-3, "flip": True, "prompt_dropout": 0.3},
    "generate": {"steps": 3, "guidance_scale": 3.0, "batch_size": 2},
    "generators": {"siamese": {"copies": 1, "start": 0.1, "min_snr": 5.0, "k_tau": 0.0, "t_tau": 999},
                   "controlnet": {"copies": 1, "start": 0.1}},
    "training_sets": {"real": {}},
}  # fmt: skip
OUTSIDE = """
import sys
sys.path.append(sys.argv[1])
import torch
torch.set_num_threads(1)
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
told, hint = {}, torch.load("hint.pt")
kinds = {"sd21": StableDiffusionControlNetPipeline, "sdxl": StableDiffusionXLControlNetPipeline}
for family, kind in kinds.items():
    for name in ("siamese", "controlnet"):
        pipe = kind.from_pretrained(f"{family}/{name}", trust_remote_code=name == "siamese")
        rngs = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
        told[family, name] = pipe(["%s"] * 2, image=hint, num_inference_steps=3, guidance_scale=3.0, generator=rngs,
                                  output_type="pt").images
torch.save(told, "told.pt")
import os, re
os.chdir("sdxl/controlnet")
[example] = re.findall(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)
exec(example, {})
"""


def study(name: Name, folder: Path) -> Params:
    return parse(Params, STUDY | {"study": name, "base": {"source": str(folder / f"{name}_source")}})


def opened(params: Params, name: str) -> ControlledDiffusion:
    runtime = Runtime.alone(1, torch.device("cpu"))
    model = generator.build(params.study, params.seed, name, params.generators[name], SPEC, runtime)
    assert isinstance(model, ControlledDiffusion)
    model.load(paths.generator(params.study, name))
    return model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process without this package draws from the exports, our sampler from the same noise, and their folder."""
    folder, labels = tmp_path_factory.mktemp("families"), torch.randint(0, 3, (2, SIZE, SIZE))
    ours: dict[tuple[str, str], torch.Tensor] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for family in NAMES:
            params = study(family, folder)
            write_family_base(folder / f"{family}_source", family)
            ImageSet.create(paths.real(family), SPEC, blobs(SPEC, {"train": 3, "val": 1, "test": 1}))
            make_base(params)
            for name in ENTRIES:
                finetune(params, name)
                generate(params, name)
                generator_export.export(params, name, folder / family / name)
                rngs = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
                sampling = generator_sampling(params)
                ours[family, name] = opened(params, name).sample(labels, [PROMPT] * 2, rngs, sampling)
        torch.save(palette(3)[labels].permute(0, 3, 1, 2), folder / "hint.pt")
        mask = Image.fromarray(labels[0].numpy().astype(np.uint8))
        mask.save(folder / "sdxl" / "controlnet" / "mask.png")
        rngs = [torch.Generator().manual_seed(0)]
        params = study("sdxl", folder)
        example = opened(params, "controlnet").sample(labels[:1], [PROMPT], rngs, generator_sampling(params))
    environment = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    command = [sys.executable, "-I", "-S", "-c", OUTSIDE % PROMPT, sysconfig.get_path("purelib")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = torch.load(folder / "told.pt")
    return {"ours": ours, "told": told, "example": example, "folder": folder}


def generator_sampling(params: Params) -> Sampling:
    return Sampling(steps=params.generate.steps, guidance_scale=params.generate.guidance_scale)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("family", NAMES)
def test_diffusers_draws_the_same_images_from_the_same_noise(family: Name, name: str, made: dict[str, Any]) -> None:
    ours, theirs = made["ours"][family, name], made["told"][family, name]
    assert ours.shape == (2, 3, SIZE, SIZE)
    assert float(ours.std()) > 0.01
    assert apart(ours, theirs) < ROUNDING


def test_the_example_of_the_card_draws_the_image_of_its_seed(made: dict[str, Any]) -> None:
    pixels = (made["example"][0] * 255).round().clamp(0, 255).byte().numpy()
    with Image.open(made["folder"] / "sdxl" / "controlnet" / "image.png") as image:
        assert bytes_apart(np.asarray(image), np.moveaxis(pixels, 0, -1)) <= 1


@pytest.mark.parametrize("family", NAMES)
def test_training_changed_the_generator_and_images_were_drawn(family: Name, made: dict[str, Any]) -> None:
    folder = made["folder"]
    for name in ENTRIES:
        losses = (folder / "outputs" / family / "generators" / name / "losses.csv").read_text().splitlines()
        assert len(losses) == 3 and "nan" not in "".join(losses)
        assert len(list((folder / "outputs" / family / "synthetic" / name / "images").rglob("*.png"))) == 3
    assert "augmented" in (folder / "outputs" / family / "generators" / "siamese" / "losses.csv").read_text()


def test_the_export_of_xl_forbids_a_watermark_and_names_the_terms(made: dict[str, Any]) -> None:
    folder = made["folder"] / "sdxl" / "controlnet"
    index, card = files.read_json(folder / "model_index.json"), (folder / "README.md").read_text()
    assert index["_class_name"] == "StableDiffusionXLControlNetPipeline"
    assert index["add_watermarker"] is False and index["force_zeros_for_empty_prompt"] is True
    assert "StableDiffusionXLControlNetPipeline.from_pretrained" in card and "Open RAIL++-M" in card
    plain = files.read_json(made["folder"] / "sd21" / "controlnet" / "model_index.json")
    assert plain["_class_name"] == "StableDiffusionControlNetPipeline" and "add_watermarker" not in plain
