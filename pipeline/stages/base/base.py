"""The base model of a study: trained from scratch on the training images, or imported from a folder, file or hub."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.core import files, paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.data.splitting import UNLABELLED
from pipeline.stages.base.base_import import import_base
from pipeline.stages.base.base_source import WITHDRAWN
from pipeline.stages.base.params import Base
from pipeline.stages.base.pretraining import pretrain
from pipeline.stages.prepare.params import Data
from pipeline.study import Params

VERSION = 1  # raised when results change, also those of denoised_latents and decoder, whose constants no key holds


def make_base(params: Params) -> None:
    """Publish the base of a study; a killed run resumes."""
    base = params.base
    sets = training_sets(params.study, params.data) if base.source == "scratch" else []
    source = inputs(sets) if sets else content_hash(Path(base.source))
    settings = base.fingerprinted()
    if base.source == "scratch":
        settings.pop("weights")
    fingerprint = files.fingerprint(VERSION, settings, params.seed, params.threads, source)
    work = paths.work("base", fingerprint)
    folder = work / "base"
    if not files.is_intact(folder):
        shutil.rmtree(folder, ignore_errors=True)  # its files may be links to published ones: never write into them
        if base.source == "scratch":
            pairs = Pairs.read_images(*sets)
            about = pretrain(base, params.data.size, params.seed, pairs, Runtime.alone(params.threads), work)
            if len(sets) > 1:
                about[UNLABELLED] = {"images": len(sets[1]), "digest": sets[1].digest}
        else:
            about = import_base(base, folder)
        files.write_json(folder / "manifest.json", {"fingerprint": fingerprint, "source": origin(base), **about})
        files.seal(folder)
    files.publish(folder, paths.base(params.study))


def training_sets(study: str, data: Data) -> list[ImageSet]:
    """Return what a base is pretrained on: the training images and, with data.unlabelled, the images without masks."""
    train = ImageSet.open(paths.real(study)).split("train")
    return [train] if data.unlabelled is None else [train, ImageSet.open(paths.unlabelled(study))]


def inputs(sets: Sequence[ImageSet]) -> str | list[str]:
    """Return what the fingerprint knows of the images; of training images alone the digest, as before others came."""
    digests = [images.digest for images in sets]
    return digests if len(digests) > 1 else digests[0]


def origin(base: Base) -> str:
    """Return the source as outputs name it: without a path of this machine, and a withdrawn id by its successor."""
    source = Path(base.source)
    return source.name if source.exists() else WITHDRAWN.get(base.source, base.source)


def content_hash(source: Path) -> str | None:
    """Hash a local base; None for a base on a hub, which its revision identifies."""
    if source.is_dir():
        return files.tree_sha256(source)
    return files.sha256(source) if source.is_file() else None
