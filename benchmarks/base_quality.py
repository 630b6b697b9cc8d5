"""What the options of a small base bring: trains one on a folder of pairs and prints its quality as one JSON row.

The base sees the training images alone; everything is measured on the held-out images of another split. Of the
autoencoder: PSNR; Dice of two judges on its reconstructions beside their Dice on the real images, one judge with the
packaged ImageNet weights and one trained from nothing; Frechet distance of reconstructions and images in the packaged
features and in gradient histograms. The perceptual loss, the first judge and the packaged features share their weights,
so a claim needs the other two as well. Of the denoiser, if one is asked for: Frechet distances of its samples. With
--decoder, all this is measured after the further training of the decoder.

    python benchmarks/base_quality.py --root data/kvasir_seg --work work/quality --seconds 300
        --autoencoder "{batch_size: 16, crop: 48, learning_rate: 1.0e-3, perceptual_weight: 0.5}"
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1]))
from pipeline.core import files, paths, seeding
from pipeline.core.contracts import Segmenter
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.data.sample import Sample
from pipeline.evaluation.feature_cache import build_extractor
from pipeline.metrics.images.frechet import frechet_distance
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.train import train_segmenter
from pipeline.stages.base.autoencoder import train_autoencoder
from pipeline.stages.base.params import Autoencoder, Base, Decoder, Denoiser
from pipeline.stages.base.pretraining import pretrain
from pipeline.stages.judge.train import reference_scores
from pipeline.stages.prepare.prepare import prepare
from pipeline.stages.score.params import Score
from pipeline.study import Params

STUDY = "quality"
JUDGES = {"packaged": {"method": "unet"}, "from_nothing": {"method": "unet_plain32"}}
EXTRACTORS = ("efficientnet_lite0", "gradient_histograms")
BATCH, SHORT, LONG = 32, 2, 10  # images at once; steps of the two trainings that tell the time of a step
SAMPLING_STEPS, ETA = 30, 1.0
CLOCK = time.process_time  # of all threads together; work beside it does not count, but slows the steps
Images = NDArray[np.uint8]  # [N, 3, H, W]


def main() -> None:
    """Reads the arguments, trains, measures and prints."""
    arguments = read_arguments()
    arguments.root, home = str(Path(arguments.root).resolve()), Path(arguments.work).resolve()
    home.mkdir(parents=True, exist_ok=True)
    os.chdir(home)
    params = study(arguments)
    real = ImageSet.open(paths.real(STUDY)) if paths.real(STUDY).is_dir() else prepare(params)
    bench = Bench(params, real.split("train"), real.split(arguments.held_out), Runtime.alone(arguments.threads))
    row = {"images": len(bench.train), "held_out": f"{len(bench.held)} of {arguments.held_out}", "size": arguments.size}
    row |= {"seed": arguments.seed, "threads": arguments.threads, "torch": torch.__version__}
    sys.stdout.write(json.dumps(row | bench.run(arguments)) + "\n")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of pairs")
    parser.add_argument("--reader", default="kvasir", help="a file of pipeline/methods/readers")
    parser.add_argument("--work", required=True, help="folder for the prepared images and the judges, used again")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--train-limit", type=int, help="training pairs, at most")
    parser.add_argument("--held-out", choices=("val", "test"), default="val", help="split that is measured on")
    parser.add_argument("--autoencoder", default="{}", help="YAML over the section base.autoencoder")
    parser.add_argument("--denoiser", help="YAML over the section base.denoiser; without it there is no denoiser")
    parser.add_argument("--decoder", help="YAML over the section base.decoder; it needs --denoiser")
    parser.add_argument(
        "--seconds", type=float, help="processor time of the autoencoder's training, in place of its max_steps"
    )
    parser.add_argument("--denoiser-seconds", type=float, help="the same for the denoiser")
    parser.add_argument("--samples", type=int, default=100, help="images drawn from the denoiser")
    parser.add_argument("--judge-steps", type=int, default=300)
    parser.add_argument("--plain-judge-steps", type=int, default=600, help="of the judge trained from nothing")
    parser.add_argument("--prompt", default="A photo of a polyp.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.decoder is not None and arguments.denoiser is None:
        parser.error("--decoder needs --denoiser, which makes the latents that the decoder is trained on")
    return arguments


def study(arguments: argparse.Namespace) -> Params:
    """A study without generators: the data, and how the judges are trained."""
    data = {"reader": arguments.reader, "root": arguments.root, "size": arguments.size, "prompt": arguments.prompt}
    if arguments.train_limit:
        data["train_limit"] = arguments.train_limit
    steps = {"packaged": arguments.judge_steps, "from_nothing": arguments.plain_judge_steps}
    judges = {name: entry | {"segment": {"max_steps": steps[name]}} for name, entry in JUDGES.items()}
    values = {
        "study": STUDY, "seed": arguments.seed, "threads": arguments.threads, "data": data, "segmenters": judges,
        "training_sets": {"real": {}},
        "segment": {"max_steps": 1, "batch_size": 16, "learning_rate": 1e-3, "seeds": [0]},
    }  # fmt: skip
    return parse(Params, values)


def options(text: str, defaults: dict[str, Any]) -> dict[str, Any]:
    return defaults | dict(YAML(typ="safe", pure=True).load(text) or {})


@dataclass(frozen=True)
class Bench:
    """The images and settings of one run."""

    params: Params
    train: ImageSet
    held: ImageSet
    runtime: Runtime

    def run(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """Train as asked, within the folder of the run, and measure."""
        rates = {"max_steps": 1000, "batch_size": 16, "learning_rate": 1e-3}
        autoencoder = parse(Autoencoder, options(arguments.autoencoder, {"crop": 48} | rates), "autoencoder")
        pairs = Pairs.read(self.train)
        if arguments.seconds:
            autoencoder = timed(autoencoder, arguments.seconds, lambda part: self._autoencoder(part, pairs))
        row: dict[str, Any] = {"autoencoder": autoencoder.fingerprinted()}
        if arguments.denoiser is None:
            begin = CLOCK()
            vae = self._autoencoder(autoencoder, pairs)
            return row | {"seconds": round(CLOCK() - begin, 1)} | self.reconstructions(vae)
        rates |= {"channels": (64, 96, 128), "batch_size": 32}
        denoiser = parse(Denoiser, options(arguments.denoiser, rates), "denoiser")
        if arguments.denoiser_seconds:
            quick = autoencoder.model_copy(update={"max_steps": 1})
            denoiser = timed(denoiser, arguments.denoiser_seconds, lambda part: self._base(quick, part))
        decoder = None if arguments.decoder is None else parse(Decoder, options(arguments.decoder, {}), "decoder")
        begin = CLOCK()
        folder = self._base(autoencoder, denoiser, decoder)
        row |= {"denoiser": denoiser.fingerprinted(), "base": str(folder), "seconds": round(CLOCK() - begin, 1)}
        row |= {} if decoder is None else {"decoder": decoder.fingerprinted()}
        row |= self.reconstructions(AutoencoderKL.from_pretrained(folder / "vae").eval().to(self.runtime.device))
        return row | self.frechet("samples", samples(folder, arguments.samples, self.params))

    def _autoencoder(self, section: Autoencoder, pairs: Pairs) -> AutoencoderKL:
        return train_autoencoder(section, "fp32", pairs, self.params.seed, self.runtime, None)[0]

    def _base(self, autoencoder: Autoencoder, denoiser: Denoiser, decoder: Decoder | None = None) -> Path:
        """Train a base, from the start, in a folder of its own below work/bases, which base.source can name."""
        base = Base(autoencoder=autoencoder, denoiser=denoiser, decoder=decoder)
        work = Path("bases") / files.fingerprint(base.fingerprinted(), self.train.digest, self.params.seed)
        shutil.rmtree(work, ignore_errors=True)
        pretrain(base, self.params.data.size, self.params.seed, Pairs.read_images(self.train), self.runtime, work)
        return work / "base"

    def reconstructions(self, vae: AutoencoderKL) -> dict[str, Any]:
        """Measure what an autoencoder leaves of the held-out images."""
        images = np.stack([self.held.image(row) for row in self.held])
        made = reconstruct(vae, images, self.runtime)
        row: dict[str, Any] = {"psnr": round(psnr(images, made), 2)}
        folder = Path("reconstructions") / files.sha256_of(made.tobytes())[:16]
        again = ImageSet.create(folder, self.held.spec, self._pictures(made))
        for name in JUDGES:
            judge, segment = self.judge(name), self.params.segment
            row[f"dice_{name}"] = rounded(reference_scores([judge], again, segment)["dice"])
            row[f"dice_{name}_real"] = rounded(reference_scores([judge], self.held, segment)["dice"])
        return row | self.frechet("reconstructions", made)

    def _pictures(self, made: Images) -> Any:
        for row, image in zip(self.held, made, strict=True):
            yield Sample(row["id"], image, self.held.mask(row)[None], row["prompt"], row["split"], row["source"]), {}

    def judge(self, name: str) -> Segmenter:
        """The judge of this name: as an earlier run left it, or trained on the real training images."""
        entry = self.params.segmenters[name]
        segment = self.params.segment.model_copy(update=entry.segment)
        key = files.fingerprint(name, entry, segment, self.train.digest, self.params.seed, self.params.threads)
        folder = Path("judges") / key
        if files.is_intact(folder):
            segmenter = build_segmenter(name, entry, self.train.spec)
            segmenter.load(folder)
            return segmenter
        stream = f"judge/{self.params.seed}"
        segmenter, _ = train_segmenter(name, entry, segment, self.train, stream, self.runtime)
        segmenter.save(folder)
        files.seal(folder)
        return segmenter

    def frechet(self, of: str, made: Images) -> dict[str, float]:
        """Frechet distances to the held-out images; comparable at equal numbers of images only."""
        real = np.stack([self.held.image(row) for row in self.held])
        row = {}
        for name in EXTRACTORS:
            extractor = build_extractor(name, Score())
            features = [np.concatenate([extractor(part) for part in parts(images)]) for images in (real, made)]
            row[f"frechet_{name}_{of}"] = round(frechet_distance(features[0], features[1]), 3)
        return row


def timed(section: Any, seconds: float, train: Callable[[Any], object]) -> Any:
    """The section with as many steps as fit; a step's time is that with all terms in use."""
    full = {"adversarial_start": 0.0} if isinstance(section, Autoencoder) else {}
    spent = []
    for steps in (SHORT, LONG):
        begin = CLOCK()
        train(section.model_copy(update=full | {"max_steps": steps}))
        spent.append(CLOCK() - begin)
    each = (spent[1] - spent[0]) / (LONG - SHORT)
    return section.model_copy(update={"max_steps": max(1, int(seconds / each))})


def parts(images: Images) -> Sequence[torch.Tensor]:
    return torch.from_numpy(images).split(BATCH)


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Images, runtime: Runtime) -> Images:
    """Decode the means of the posteriors."""
    made = []
    for part in parts(images):
        latents = vae.encode(part.float().to(runtime.device) / 127.5 - 1).latent_dist.mean
        made.append(((vae.decode(latents).sample / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    return np.concatenate(made)


def psnr(images: Images, made: Images) -> float:
    """Mean over images, in dB of 255."""
    errors = ((images.astype(np.float64) - made) ** 2).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / np.maximum(errors, 1e-12))).mean())


def samples(folder: Path, count: int, params: Params) -> Images:
    """Draw from the base by diffusers' own pipeline: DDIM with added noise (eta 1), no guidance."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    rngs = [seeding.torch_rng(params.seed, "sample", number) for number in range(count)]
    drawn = []
    for first in range(0, count, BATCH):
        part, side = rngs[first : first + BATCH], params.data.size
        prompts: Any = [params.data.prompt] * len(part)
        sampling = {"guidance_scale": 1.0, "eta": ETA, "generator": part, "output_type": "np"}
        made: Any = pipe(prompts, side, side, SAMPLING_STEPS, **sampling)
        drawn.append((made.images * 255).round().astype(np.uint8).transpose(0, 3, 1, 2))
    return np.ascontiguousarray(np.concatenate(drawn))


def rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


if __name__ == "__main__":
    main()
