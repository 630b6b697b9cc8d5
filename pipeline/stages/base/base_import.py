"""Import of an existing base: its files are checked, put into a diffusers folder, and listed with their hashes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.networks.stable_diffusion import base_shape, families, ldm_base, weight_file
from pipeline.networks.stable_diffusion.families import Family
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, XL_MODEL_INDEX, index_path
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.stages.base import base_source
from pipeline.stages.base.base_source import BaseFiles
from pipeline.stages.base.params import Base

PLAIN = {name: stems[0] for name, stems in base_source.STEMS.items()}
PRECISION = ("dtype", "torch_dtype")  # how a text tower's config names it
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


def import_base(base: Base, folder: Path, configs: PartConfigs | None = None) -> dict[str, Any]:
    """Write an existing base into `folder` as a diffusers folder with standard file names.

    Returns what the manifest records of it: the kind of source, the family and what its U-Net predicts, the hub's
    commit, which weights of the U-Net were taken, and the sha256 of every file. `configs` are those of a single file's
    parts (default: SD 1.5). Raises UserError, before any network is built, where files are missing or of no family
    that can be a base.
    """
    kind = base_source.kind_of(base.source)
    if kind == "file":
        about = _from_file(base, folder, configs or PartConfigs())
    else:
        if kind == "folder":
            base_shape.check_model_kind(Path(base.source))
        source_files = base_source.in_folder(base) if kind == "folder" else base_source.on_hub(base)
        about = _from_files(base, source_files, folder)
    base_shape.check_weights(folder)
    hashes = {path.relative_to(folder).as_posix(): files.sha256(path) for path in _files_of(folder)}
    return {**about, "kind": kind, "weights": base.weights, "files": hashes}


def _from_file(base: Base, folder: Path, configs: PartConfigs) -> dict[str, Any]:
    source = base_source.single_file(base.source)
    prefix = ldm_base.unpack(source, base.weights, folder, configs)
    about = {"unet_from": f"{prefix}*", "file_sha256": files.sha256(source)}
    return {**about, "family": families.SD1, "prediction": "epsilon"}


def _from_files(base: Base, source_files: BaseFiles, folder: Path) -> dict[str, Any]:
    configs = {part: path for part in PLAIN if (path := source_files.files.get(f"{part}/config.json"))}
    configs["scheduler"] = source_files.files["scheduler/scheduler_config.json"]
    family = base_shape.check_configs(base.source, configs)
    for name, path in source_files.files.items():
        _copy(name, path, folder)
    _complete_index(index_path(folder), family)
    clean_configs(folder)
    unet = next(name for name in source_files.files if name.startswith("unet/diffusion"))
    about = {"unet_from": unet, "family": family, "prediction": base_shape.prediction_of(configs["scheduler"])}
    return about if source_files.commit is None else {**about, "revision": base.revision, "commit": source_files.commit}


def _copy(name: str, path: Path, folder: Path) -> None:
    """Link weights in 32-bit safetensors as they are, convert others; a variant's file name loses its infix."""
    part, _, file = name.partition("/")
    if part not in PLAIN or file == "config.json":
        _link(path, folder / name)
        return
    target = folder / part / f"{PLAIN[part]}.safetensors"
    if weight_file.is_float32_safetensors(path):
        _link(path, target)
    else:
        weight_file.write(weight_file.float32(weight_file.read(path)), target)


def _link(path: Path, target: Path) -> None:
    """Link or copy a file; of the links in the hub's cache, their targets."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    files.link_or_copy(path.resolve(), target)


def _complete_index(path: Path, family: Family) -> None:
    """Remove from the pipeline's index what a base does not hold; write an index where there is none."""
    plain = XL_MODEL_INDEX if family == families.SDXL else MODEL_INDEX
    index = files.read_json(path) if path.is_file() else plain
    kept = {**index, **{name: [None, None] for name in LEFT_OUT if name in index}}
    if family != families.SDXL:  # its pipeline has no checker
        kept["requires_safety_checker"] = False
    if kept != index or not path.is_file():
        files.write_json(path, kept)


def clean_configs(folder: Path) -> None:
    """Remove from the parts' configs the path they were loaded from, and set a precision that they no longer have."""
    for path in folder.glob("*/*config.json"):
        config: Mapping[str, Any] = files.read_json(path)
        kept = {
            key: "float32" if key in PRECISION else value for key, value in config.items() if not _is_path(key, value)
        }
        if kept != config:
            files.write_json(path, kept)


def _is_path(key: str, value: Any) -> bool:
    return key in ("_name_or_path", "name_or_path") and Path(str(value)).is_absolute()


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
