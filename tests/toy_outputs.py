"""The toy study with untrained networks in the places of trained ones."""

from pathlib import Path

import torch

from pipeline.core import files, paths, plugins
from pipeline.core.contracts import Segmenter
from pipeline.core.runtime import Runtime
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation import saved_model
from pipeline.stages.finetune import generator
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.tiny_base import write_tiny_base

ABSENT = {"score": None, "audit": None, "confirm": None, "compare": {}, "report": {}}  # sections that DVC wants there
KEPT = Path("outputs/toy/segmentation/unet/kept/real/seed_0")


def write_toy_outputs(study: Params, spec: DatasetSpec) -> None:
    """Write params.yaml, base, generator, judge and a kept segmenter into the current folder."""
    files.write_json(Path("params.yaml"), TOY_STUDY | ABSENT)
    write_tiny_base(paths.base("toy"), "epsilon")
    built = generator.build("toy", 0, "siamese", study.generators["siamese"], spec, Runtime.alone())
    paths.generator("toy", "siamese").mkdir(parents=True, exist_ok=True)
    built.save(paths.generator("toy", "siamese"))
    segmenter = untrained_segmenter(spec)
    segmenter.save(paths.judge("toy"))
    saved_model.save_model(segmenter, spec, KEPT, {"reader": "phantom"})


def untrained_segmenter(spec: DatasetSpec) -> Segmenter:
    """The toy study's U-Net with weights of seed 0."""
    torch.manual_seed(0)
    params = plugins.read_params("segmenters", "unet", TOY_STUDY["segmenters"]["unet"], "segmenters.unet")
    return plugins.load("segmenters", "unet").build(params, spec)
