"""Exported generators: diffusers loads them without this package, draws the same images, never loads them wrongly."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.core import files, paths, plugins, seeding
from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, png
from pipeline.data.sample import DatasetSpec
from pipeline.deploy import generator_card, generator_export
from pipeline.methods.conditioning.mask import palette
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.networks.stable_diffusion import pipeline_folder
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY, blobs
from tests.levels import ROUNDING, apart, bytes_apart
from tests.tiny_base import write_tiny_base

SIZE, CLASSES = 16, 4
SPEC = DatasetSpec(name="blobs", size=SIZE, num_classes=CLASSES)
SAMPLING = Sampling(steps=3, guidance_scale=4.0)
SAMPLERS: dict[str, Any] = {"siamese": "ddim", "adc": "ddim", "controlnet": "ddim", "multistep": "dpmpp_2m"}
STUDY: dict[str, Any] = TOY_STUDY | {
    "data": {"reader": "phantom", "size": SIZE, "num_classes": CLASSES, "prompt": "A photo of a blob."},
    "generate": {"steps": 3, "guidance_scale": 4.0, "batch_size": 2},
    "generators": {
        "siamese": {"copies": 2},
        "adc": {"copies": 1},
        "controlnet": {"copies": 1},
        "multistep": {"method": "mask_image", "copies": 1, "train_decoder": False, "conditioning": "mask_boundary"},
    },
}
OUTSIDE = """
import importlib.util, sys
sys.path.append(sys.argv[1])
assert importlib.util.find_spec("pipeline") is None
import torch
torch.set_num_threads(1)
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

def refusal(load):
    try:
        load()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loaded"

order, told = torch.load("order.pt"), {}
for name, trust in (("siamese", True), ("adc", True), ("controlnet", False), ("multistep", False)):
    pipe = StableDiffusionControlNetPipeline.from_pretrained(name, trust_remote_code=trust)
    rngs = [torch.Generator().manual_seed(seed) for seed in order["seeds"]]
    hints = order["hints"][name]
    pixels = pipe(order["prompts"], image=hints, num_inference_steps=3, guidance_scale=4.0, generator=rngs,
                  output_type="pt").images
    rngs = [torch.Generator().manual_seed(seed) for seed in order["seeds"]]
    latents = torch.stack([torch.randn(4, 8, 8, generator=rng) for rng in rngs])
    again = pipe(order["prompts"], image=hints, num_inference_steps=3, guidance_scale=4.0, latents=latents,
                 output_type="pt").images
    told[name] = (type(pipe.controlnet).__name__, pixels, again)
    if trust:
        pipe.save_pretrained("saved_again")
told["stock model"] = refusal(lambda: ControlNetModel.from_pretrained("siamese/controlnet"))
told["stock model by part"] = refusal(lambda: ControlNetModel.from_pretrained("siamese", subfolder="controlnet"))
told["saved again"] = refusal(lambda: ControlNetModel.from_pretrained("saved_again/controlnet"))
told["stock pipeline"] = refusal(lambda: StableDiffusionControlNetPipeline.from_pretrained("siamese"))
told["another network"] = refusal(lambda: StableDiffusionControlNetPipeline.from_pretrained(
    "siamese", controlnet=ControlNetModel.from_pretrained("controlnet/controlnet")))
torch.save(told, "told.pt")

import os, re
for name in ("siamese", "multistep", "noisy"):
    os.chdir(os.path.join(sys.argv[2], name))
    [example] = re.findall(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)
    exec(example, {})
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, base and generators whose weights are all away from their start."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ImageSet.create(paths.real("toy"), SPEC, blobs(SPEC, {"train": 3, "val": 1, "test": 1}))
        write_tiny_base(paths.base("toy"), "sample")
        files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "", "source": "scratch"})
        for name in STUDY["generators"]:
            publish(name)
        YAML().dump(STUDY, Path("params.yaml"))
    return folder


@pytest.fixture(autouse=True)
def inside(study: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(study)
    return parse(Params, STUDY)


def publish(name: str) -> None:
    """What stage finetune leaves behind, without its training."""
    params = parse(Params, STUDY)
    model = opened(name)
    torch.manual_seed(2)
    for weight in model.objective.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2) if not weight.detach().any() else weight.data.mul_(1.1)
    folder, train = paths.generator("toy", name), ImageSet.open(paths.real("toy")).split("train")
    model.save(folder)
    about = {"fingerprint": fingerprint(params, name, train), "method": params.generators[name].method_of(name)}
    files.write_json(folder / "manifest.json", about)


def opened(name: str) -> ControlledDiffusion:
    params, runtime = parse(Params, STUDY), Runtime.alone(1, torch.device("cpu"))
    model = generator.build(params.study, params.seed, name, params.generators[name], SPEC, runtime)
    assert isinstance(model, ControlledDiffusion)
    if paths.generator("toy", name).is_dir():
        model.load(paths.generator("toy", name))
    return model


def export(name: str, folder: Path) -> Path:
    generator_export.export(parse(Params, STUDY), name, folder / name)
    return folder / name


def outside(program: str, folder: Path) -> None:
    """Runs a program without site: the environment's packages by their folder, this editable package not at all."""
    environment = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    command = [sys.executable, "-I", "-S", "-c", program, sysconfig.get_path("purelib"), str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def masks(count: int) -> torch.Tensor:
    return torch.randint(0, CLASSES, (count, SIZE, SIZE), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def told(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process without this package saw of two exported folders, and what this process draws."""
    folder = tmp_path_factory.mktemp("outside")
    prompts, seeds = ["A photo of a blob.", "another", ""], [seeding.number("image", k) for k in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study)
        for name in ("siamese", "adc", "controlnet"):
            export(name, folder)
        other = parse(Params, STUDY | {"generate": STUDY["generate"] | {"sampler": "dpmpp_2m"}})
        generator_export.export(other, "multistep", folder / "multistep")
        noisy = parse(Params, STUDY | {"generate": STUDY["generate"] | {"eta": 0.6}})
        generator_export.export(noisy, "siamese", folder / "noisy")
        colours = palette(CLASSES)[masks(3)].permute(0, 3, 1, 2)
        bounded = plugins.load("conditioning", "mask_boundary")
        bounds = bounded.build(bounded.Params(), CLASSES)(masks(3))
        hints = {"siamese": colours, "adc": colours, "controlnet": colours, "multistep": bounds}
        for name in ("siamese", "noisy"):
            (folder / name / "mask.png").write_bytes(png(masks(1)[0].numpy().astype(np.uint8)))
        picture = bounded.build(bounded.Params(), CLASSES)(masks(1))[0].permute(1, 2, 0) * 255
        (folder / "multistep" / "hint.png").write_bytes(png(picture.byte().numpy()))
        torch.save({"prompts": prompts, "seeds": seeds, "hints": hints}, folder / "order.pt")
        outside(OUTSIDE, folder)
        ours = {}
        for name in STUDY["generators"]:
            rngs = [seeding.torch_rng("image", k) for k in range(3)]
            settings = replace(SAMPLING, sampler=SAMPLERS[name])
            ours[name] = opened(name).sample(masks(3), prompts, rngs, settings)
    examples = {name: np.asarray(Image.open(folder / name / "image.png")) for name in ("siamese", "multistep", "noisy")}
    return torch.load(folder / "told.pt") | {"ours": ours, "examples": examples}


@pytest.mark.parametrize("name", STUDY["generators"])
def test_diffusers_alone_draws_the_same_images_but_for_rounding(name: str, told: dict[str, Any]) -> None:
    _, by_seed, by_noise = told[name]
    assert by_seed.shape == (3, 3, SIZE, SIZE)
    assert float(by_seed.std()) > 0.05
    assert apart(by_seed, told["ours"][name]) < ROUNDING
    assert apart(by_noise, told["ours"][name]) < ROUNDING


def test_sparse_hints_need_no_code_of_ours(told: dict[str, Any]) -> None:
    assert told["controlnet"][0] == "ControlNetModel"
    assert told["siamese"][0] == "DenseHintControlNetModel"


@pytest.mark.parametrize("how", ["stock model", "stock model by part", "saved again"])
def test_the_stock_class_refuses_a_dense_hint_and_says_what_would_do(how: str, told: dict[str, Any]) -> None:
    assert told[how].startswith("ValueError: unknown mid_block_type")
    assert "this is a DenseHintControlNetModel, load it with trust_remote_code=True" in told[how]


def test_the_pipeline_refuses_a_dense_hint_without_trust_and_other_networks_in_its_place(told: dict[str, Any]) -> None:
    assert "Pass `trust_remote_code=True`" in told["stock pipeline"]
    assert told["another network"].startswith("ValueError: dense_hint_controlnet is not one of the libraries")


@pytest.mark.parametrize(
    ("name", "entry", "eta"), [("siamese", "siamese", 0), ("multistep", "multistep", 0), ("noisy", "siamese", 0.6)]
)
def test_the_example_of_the_card_draws_the_image_of_its_seed_within_one_level(
    name: str, entry: str, eta: float, told: dict[str, Any]
) -> None:
    """`exec` of the card's only Python block, beside a label map mask.png, or a hint of mask and boundary hint.png."""
    rngs, settings = [torch.Generator().manual_seed(0)], replace(SAMPLING, sampler=SAMPLERS[entry], eta=eta)
    ours = opened(entry).sample(masks(1), ["A photo of a blob."], rngs, settings)
    pixels = (ours[0] * 255).round().clamp(0, 255).byte().numpy()
    assert bytes_apart(told["examples"][name], np.moveaxis(pixels, 0, -1)) <= 1
    assert float(pixels.std()) > 10


def test_the_folder_tells_no_path_and_no_file_of_the_data(study: Path, tmp_path: Path) -> None:
    folder = export("siamese", tmp_path)
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert str(study).encode() not in content
    assert b"outputs/" not in content
    assert not [row["id"] for row in ImageSet.open(paths.real("toy")) if row["id"].encode() in content]
    assert not list(tmp_path.glob(".*")) and not list(Path("work").glob("export*"))


def test_equal_exports_have_equal_bytes(tmp_path: Path) -> None:
    first = files.tree_sha256(export("siamese", tmp_path / "a"))
    assert files.tree_sha256(export("siamese", tmp_path / "b")) == first
    (tmp_path / "b" / "siamese" / "unet" / "config.json").unlink()
    assert files.tree_sha256(export("siamese", tmp_path / "b")) == first  # an older export is replaced


def test_the_exported_code_is_one_file_without_us() -> None:
    code = pipeline_folder.remote_code()
    assert "pipeline" not in re.findall(r"^\s*(?:from|import) (\w+)", code, re.MULTILINE)
    assert compile(code, "dense_hint_controlnet.py", "exec")


def test_at_full_size_the_exported_class_has_the_parameters_of_the_paper() -> None:
    """361,279,120 of the stock ControlNet, of which 1,086,480 are its hint input, and 3,263,872 of the DHI."""
    with torch.device("meta"):
        stock = ControlNetModel(cross_attention_dim=768)
        stock.controlnet_cond_embedding = DenseHintInput(320, 8)
        named = pipeline_folder.with_dense_hint(stock, 8)
    assert sum(weight.numel() for weight in named.parameters()) == 363_456_512
    assert named.config["hint_factor"] == 8


def test_the_card_names_no_path_of_weights_that_a_conditioning_reads() -> None:
    settings = generator_card.dotted_values(
        "generators.x", {"conditioning_params": {"file": "/somewhere/net.pth", "low": None}}
    )
    assert settings == {"generators.x.conditioning_params.file": "net.pth"}


def test_unet_holds_the_trained_decoder(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = export("siamese", tmp_path)
    unet, base = (load_file(next((top / "unet").glob("*.safetensors"))) for top in (folder, paths.base("toy")))
    decoder = load_file(paths.generator("toy", "siamese") / "decoder.safetensors")
    assert unet.keys() == base.keys()
    assert all(torch.equal(unet[key], value) for key, value in decoder.items())
    assert any(not torch.equal(base[key], value) for key, value in decoder.items())
    assert all(torch.equal(unet[key], base[key]) for key in unet.keys() - decoder.keys())


def header(folder: Path) -> dict[str, Any]:
    return YAML(typ="safe").load((folder / "README.md").read_text().split("---")[1])


def test_a_scratch_base_leaves_the_terms_of_the_data_alone(tmp_path: Path) -> None:
    folder = export("siamese", tmp_path)
    text = (folder / "README.md").read_text()
    train = ImageSet.open(paths.real("toy")).split("train")
    assert header(folder)["license_name"] == "terms-of-training-data"
    assert header(folder)["library_name"] == "diffusers"
    assert "OpenRAIL" not in text
    assert "Not for clinical use" in text
    assert "| training images with masks | 3 |" in text
    assert train.digest in text
    assert "| finetune.max_steps | 2 |" in text
    assert "| generators.siamese.w_c | 1.0 |" in text
    assert "None at the time of the export." in text
    assert "| 2 | class 2 | [0.0, 1.0, 0.0] |" in text  # three classes: red, green, blue


def test_images_without_masks_that_the_base_saw_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"toy": 900}
    monkeypatch.setattr("pipeline.deploy.generator_card.unlabelled_images", lambda study, beyond: seen[study])
    text = (export("siamese", tmp_path) / "README.md").read_text()
    assert "| base model | trained from scratch on the same images and on 900 images without masks |" in text
    assert "on 900 images without masks, so these weights are bound by the terms of both" in text


@pytest.mark.parametrize(
    ("source", "licence", "base"),
    [
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", True),
        ("v1-5-pruned.safetensors", "creativeml-openrail-m", False),
        ("our-own/base", "other", True),
        ("somewhere", "other", False),
    ],
)
def test_the_terms_of_a_foreign_base_travel_along(
    source: str, licence: str, base: bool, inside: Params, tmp_path: Path
) -> None:
    manifest = paths.base("toy") / "manifest.json"
    before = files.read_json(manifest)
    try:
        files.write_json(manifest, {"fingerprint": "", "source": source, "revision": "abc123"})
        train = ImageSet.open(paths.real("toy")).split("train")
        generator_card.write(tmp_path, generator_card.gather(inside, "siamese", train, True))
    finally:
        files.write_json(manifest, before)
    text = (tmp_path / "README.md").read_text()
    assert header(tmp_path)["license"] == licence
    assert header(tmp_path).get("base_model") == (source if base else None)
    assert "CreativeML OpenRAIL-M" in text
    assert "| base.revision | abc123 |" in text


def test_scores_stand_in_the_card_only_if_these_weights_made_the_images(inside: Params, tmp_path: Path) -> None:
    score = {"name": "frechet.toy", "value": 12.345678, "n": 3, "direction": "lower", "variant": "train"}
    path = paths.scores("toy", "siamese") / "scores.json"
    files.write_json(path, [score | {"low": 10.0, "high": 15.0}, score | {"name": "absent", "value": None}])
    train, weights = (
        ImageSet.open(paths.real("toy")).split("train"),
        files.tree_sha256(paths.generator("toy", "siamese")),
    )
    texts = []
    try:
        for made_by in ("older weights", weights):
            images = [(sample, {"generator_sha256": made_by}) for sample, _ in blobs(SPEC, {"train": 2})]
            ImageSet.create(paths.synthetic("toy", "siamese"), SPEC, images)
            generator_card.write(tmp_path, generator_card.gather(inside, "siamese", train, True))
            texts.append((tmp_path / "README.md").read_text())
        noisy = inside.model_copy(update={"generate": inside.generate.model_copy(update={"sensor_noise": True})})
        generator_card.write(tmp_path, generator_card.gather(noisy, "siamese", train, True))
    finally:
        shutil.rmtree(paths.scores("toy", "siamese"))
        shutil.rmtree(paths.synthetic("toy", "siamese"))
    assert "frechet.toy" not in texts[0]
    assert "| frechet.toy | train | 12.35 | 10 to 15 | 3 | lower |" in texts[1]
    assert (
        generator_card.WITH_NOISE in (tmp_path / "README.md").read_text() and generator_card.WITH_NOISE not in texts[1]
    )
    assert "absent" not in texts[1]


def refused(capsys: pytest.CaptureFixture[str], name: str, target: Path) -> str:
    """The message of an export that ends with status 2 and leaves the target as it was."""
    before = sorted(target.parent.rglob("*"))
    assert main(["export", "generator", name, "--to", str(target)]) == 2
    assert sorted(target.parent.rglob("*")) == before
    return capsys.readouterr().err


def test_an_unknown_entry_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = refused(capsys, "siames", tmp_path / "out")
    assert (
        "there is no generator 'siames' in params.yaml; the available ones are: siamese, adc, controlnet, multistep"
        in message
    )


def test_a_generator_must_be_fine_tuned_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "siamese is not fine-tuned yet; run: dvc repro finetune@siamese" in refused(
        capsys, "siamese", tmp_path / "out"
    )


def test_a_method_without_a_controlnet_is_refused(tmp_path: Path) -> None:
    params = parse(
        Params, STUDY | {"generators": STUDY["generators"] | {"pasted": {"method": "copy_paste", "copies": 1}}}
    )
    with pytest.raises(
        UserError, match=r"generators.pasted: the method copy_paste is not a ControlNet on masks.*siamese"
    ):
        generator_export.export(params, "pasted", tmp_path / "out")


def test_weights_of_other_parameters_are_refused(inside: Params, tmp_path: Path) -> None:
    other = inside.model_copy(update={"seed": 7})
    with pytest.raises(UserError, match="was trained with other parameters, data or base"):
        generator_export.export(other, "siamese", tmp_path / "out")


def test_another_thing_at_the_target_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("text")
    assert "mine already exists and is no export of a generator" in refused(capsys, "siamese", tmp_path / "mine")
    assert "file already exists" in refused(capsys, "siamese", tmp_path / "file")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / generator_export.RECORD).write_text("[1")
    assert "old already exists and is no export" in refused(capsys, "siamese", tmp_path / "old")
    record = {"study": "toy", "generator": "controlnet"}
    (tmp_path / "old" / generator_export.RECORD).write_text(json.dumps(record))
    assert "is an export of controlnet of the study toy" in refused(capsys, "siamese", tmp_path / "old")


def test_what_no_export_wrote_is_not_deleted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = export("siamese", tmp_path)
    (folder / "unet" / "notes.txt").write_text("years of work")
    assert "holds unet/notes.txt, which the export did not write" in refused(capsys, "siamese", folder)
    (folder / "unet" / "notes.txt").unlink()
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card + "our results")
    assert "holds README.md, which the export did not write or somebody changed" in refused(capsys, "siamese", folder)
    assert (folder / "README.md").read_text().endswith("our results")
    (folder / "README.md").write_text(card)
    assert export("siamese", tmp_path) == folder


def test_an_export_that_fails_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export("siamese", tmp_path)
    before = files.tree_sha256(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generator_card, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        export("siamese", tmp_path)
    assert files.tree_sha256(folder) == before
    assert not list(Path("work").glob("export*"))


def test_the_command_exports(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["export", "generator", "multistep", "--to", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "model_index.json").is_file()
    assert "README.md shows how" in capsys.readouterr().out


def test_help_is_light_and_holds_an_example() -> None:
    program = (
        "import sys\nfrom pipeline.cli.main import main\n"
        "try: main(['export', 'generator', '--help'])\nexcept SystemExit: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "example: twinsynth export generator siamese --to exported/siamese" in done.stdout
