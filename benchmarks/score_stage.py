"""Scoring of 500 + 500 images of 256 pixels: our cache and metrics against four libraries called one after another.

Same images, same random weights in the libraries' own formats: clean-fid (FID, then KID), torch-fidelity (precision and
recall), lpips (paired), open-clip (paired cosine). Ours gives the same scores and more (intervals, floors, density,
coverage, LPIPS within the set); it is timed with all of them. Part of `metrics.py`, which prints the ratio.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lpips
import numpy as np
import open_clip
import torch
import torch_fidelity
import torchvision
from cleanfid import fid
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from safetensors.torch import save_file

from pipeline.core import files
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.evaluation import image_set_scores
from pipeline.evaluation.feature_cache import FeatureCache, build_extractor, output_of
from pipeline.stages.score.params import Score, WeightFile
from tests.inception_file import write_fidelity_inception, write_inception

SIDE, BATCH = 256, 32
EXTRACTORS = ("inception", "clip_b32", "lpips_alex")
METRICS = ("frechet", "kernel", "prdc", "lpips", "clip_i")
Clock = Callable[[], float]
ARCHITECTURE = "ViT-B-32-quickgelu"


def stage(count: int, clock: Clock) -> tuple[float, float]:
    """Seconds of ours and of the libraries, weights and images on the disk."""
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            settings, material = prepare(count)
            ours, theirs = timed(lambda: score(settings, material), clock), timed(lambda: libraries(material), clock)
        finally:
            os.chdir(home)
    return ours, theirs


def processor_seconds() -> float:
    """Time of the processor spent by this process and by its finished children (loaders of some libraries)."""
    return sum(os.times()[:4])


def timed(call: Any, clock: Clock) -> float:
    """Seconds of a call whose output is kept off the screen."""
    begin = clock()
    with contextlib.redirect_stdout(io.StringIO()):
        call()
    return clock() - begin


def prepare(count: int) -> tuple[Score, Any]:
    """Weights in the official formats, and the two sets as folders and as image sets."""
    torch.manual_seed(0)
    write_inception(Path("inception.pt"))
    write_fidelity_inception(Path("fidelity.pth"))
    torch.save(torchvision.models.alexnet().state_dict(), "alexnet.pth")
    save_file(open_clip.create_model(ARCHITECTURE).state_dict(), "clip.safetensors")
    named = zip(EXTRACTORS, ("inception.pt", "clip.safetensors", "alexnet.pth"), strict=True)
    weights = {name: WeightFile(file=file, sha256=files.sha256(Path(file))) for name, file in named}
    spec = DatasetSpec(name="benchmark", size=SIDE)
    real = ImageSet.create(Path("real"), spec, pairs(count + 2, 0, count))
    synthetic = ImageSet.create(Path("synthetic"), spec, pairs(count, 1, count))
    folders = {name: folder(images, name, count) for name, images in (("a", real), ("b", synthetic))}
    settings = Score(metrics=METRICS, extractors=EXTRACTORS, weights=weights)
    return settings, SimpleNamespace(real=real, synthetic=synthetic, **folders)


def pairs(count: int, seed: int, train: int) -> Any:
    """Smooth random pictures; the synthetic ones carry the ids of the real ones as their source."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        image = np.moveaxis(np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), -1, 0)
        split = "train" if k < train else "test"
        mask = np.zeros((1, SIDE, SIDE), np.uint8)
        mask[0, 64:128, 64:128] = 1
        extra = {"source_id": f"r{k:04d}", "synthetic": True} if seed else {}
        yield Sample(f"{'s' if seed else 'r'}{k:04d}", image, mask, "", split, "benchmark"), extra


def folder(images: ImageSet, name: str, count: int) -> str:
    """The first `count` files alone, as the libraries want them."""
    Path(name).mkdir()
    for row in images.rows[:count]:
        os.link(images.folder / row["file_name"], Path(name) / Path(row["file_name"]).name)
    return name


def score(settings: Score, material: Any) -> None:
    """What the stage `score` does."""
    built = {name: (output_of(name), build_extractor(name, settings)) for name in settings.extractors}
    probes = {name: probe for name, (gives, probe) in built.items() if gives == "rows"}
    comparers = {name: probe for name, (gives, probe) in built.items() if gives == "distances"}
    cache = FeatureCache(probes, comparers, {}, settings, 0, Runtime.alone())
    image_set_scores.score_set(material.real, material.synthetic, cache)
    image_set_scores.image_rows(material.real, material.synthetic, cache)


def libraries(material: Any) -> None:
    """Each library as its README says, one after another."""
    model = InceptionV3W(".", download=False, resize_inside=False).eval() if link("inception.pt") else None
    options: dict[str, Any] = {"model": model, "num_workers": 0, "device": torch.device("cpu"), "verbose": False}
    with torch.no_grad():
        for distance in (fid.fid_from_feats, fid.kernel_distance):  # as compute_fid and compute_kid: all features anew
            distance(*(fid.get_folder_features(name, **options) for name in (material.a, material.b)))
        torch_fidelity.calculate_metrics(
            input1=material.b,
            input2=material.a,
            prc=True,
            cuda=False,
            cache=False,
            verbose=False,
            feature_extractor="inception-v3-compat",
            feature_extractor_weights_path="fidelity.pth",
        )
        perceptual, clip = lpips_network(), clip_network()
        for start in range(0, len(os.listdir(material.a)), BATCH):
            first, second = (pictures(name, start) for name in (material.a, material.b))
            perceptual(torch.stack(list(map(signed, first))), torch.stack(list(map(signed, second))))
        for start in range(0, len(os.listdir(material.a)), BATCH):
            sides = (
                torch.stack([clip[1](picture) for picture in pictures(n, start)]) for n in (material.a, material.b)
            )
            first, second = (torch.nn.functional.normalize(clip[0].encode_image(side)) for side in sides)
            (first * second).sum(1)


def link(file: str) -> bool:
    """The name that clean-fid looks for."""
    Path("inception-2015-12-05.pt").unlink(missing_ok=True)
    os.link(file, "inception-2015-12-05.pt")
    return True


def lpips_network() -> Any:
    return lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()


def clip_network() -> tuple[Any, Any]:
    network, _, prepare = open_clip.create_model_and_transforms(ARCHITECTURE, pretrained="clip.safetensors")
    return network.eval(), prepare


def pictures(name: str, start: int) -> list[Image.Image]:
    return [Image.open(Path(name) / file) for file in sorted(os.listdir(name))[start : start + BATCH]]


def signed(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 127.5 - 1
