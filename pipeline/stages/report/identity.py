"""What a study is made of, by hash: two runs that agree in these lines agree in all that the report shows."""

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML

from pipeline.core import files, paths
from pipeline.core.section import Section
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.stages.base.manifest import unlabelled_images
from pipeline.stages.judge import folds
from pipeline.stages.pseudo_labels.output import read_record

PACKAGES = (
    *("twinsynth", "torch", "torchvision", "diffusers", "transformers", "accelerate", "segmentation-models-pytorch"),
    *("timm", "numpy", "scipy", "scikit-learn", "pillow", "dvc"),
)
Line = tuple[str, str, str]  # what, how many or which, hash


def hashes(study: str, generators: Iterable[str], training_sets: Iterable[str], parameters: str) -> list[Line]:
    """Return the hashes of parameters, image sets, generators, judges and results; what does not exist is left out."""
    judges = {name: folder / "weights.safetensors" for name, folder in folds.folders(paths.judge(study)).items()}
    results = {"comparison": paths.comparison(study) / "comparison.json", **judges}
    return [
        ("parameters", f"study {study}", files.fingerprint(parameters)),
        *_set("real images", paths.real(study)),
        *(_set("unlabelled images", paths.unlabelled(study), "images") if unlabelled_images(study) else ()),
        *(_set("images with pseudo-labels", paths.pseudo_labels(study)) if read_record(study) else ()),
        *_manifest("base", paths.base(study)),
        *(line for name in generators for line in _generator(study, name)),
        *(line for name in training_sets for line in _set(f"training set {name}", paths.training_set(study, name))),
        *((name, path.name, files.sha256(path)) for name, path in results.items() if path.is_file()),
    ]


def versions() -> list[tuple[str, str]]:
    """Return the versions of Python and of the packages that numbers depend on."""
    return [("Python", platform.python_version()), *((name, text) for name in PACKAGES if (text := _version(name)))]


def as_yaml(params: Section) -> str:
    """Return all parameters, those left out of params.yaml included, as a params.yaml that gives the same study.

    Of an absolute path only the last part is shown (elsewhere/name): a report must not tell whose machine made it.
    """
    text = StringIO()
    writer = YAML()
    writer.default_flow_style = False
    writer.dump(_without_folders(params.model_dump(mode="json")), text)
    return text.getvalue()


def _without_folders(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return f"elsewhere/{PurePath(value).name}" if isinstance(value, str) and PurePath(value).is_absolute() else value


def _generator(study: str, name: str) -> Iterator[Line]:
    yield from _manifest(f"generator {name}", paths.generator(study, name))
    yield from _set(f"synthetic images of {name}", paths.synthetic(study, name))


def _set(label: str, folder: Path, what: str = "pairs") -> Iterator[Line]:
    if (folder / MANIFEST).is_file():
        images = ImageSet.open(folder)
        yield label, f"{len(images)} {what}", images.digest


def _manifest(label: str, folder: Path) -> Iterator[Line]:
    if (folder / "manifest.json").is_file():
        yield label, "settings and inputs", files.read_json(folder / "manifest.json").get("fingerprint", "–")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
