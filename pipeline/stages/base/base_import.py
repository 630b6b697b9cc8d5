"""Bringing in an existing base: its files checked, put into a diffusers folder, written down with their hashes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.networks.stable_diffusion import base_shape, ldm_base, weight_file
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, index_path
from pipeline.networks.stable_diffusion.sd15 import Layout
from pipeline.stages.base import base_source
from pipeline.stages.base.base_source import Found
from pipeline.stages.base.params import Base

PLAIN = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PRECISION = ("dtype", "torch_dtype")  # how a text tower's config names it
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")


def bring(base: Base, folder: Path, layout: Layout | None = None) -> dict[str, Any]:
    """Writes an existing base into `folder` as a diffusers folder with plain file names.

    Returns what the manifest says of it: the kind of source, the hub's commit, which weights of the U-Net were taken,
    and the sha256 of every file. `layout` holds the sizes of a single file's parts (default: SD 1.5). Raises UserError,
    before any network is built, where files are missing or not SD 1.5-shaped.
    """
    kind = base_source.kind_of(base.source)
    if kind == "file":
        about = _from_file(base, folder, layout or Layout())
    else:
        if kind == "folder":
            base_shape.check_strangers(Path(base.source))
        found = base_source.in_folder(base) if kind == "folder" else base_source.on_hub(base)
        about = _from_files(base, found, folder)
    base_shape.check_weights(folder)
    hashes = {path.relative_to(folder).as_posix(): files.sha256(path) for path in _all_files(folder)}
    return {**about, "kind": kind, "weights": base.weights, "files": hashes}


def _from_file(base: Base, folder: Path, layout: Layout) -> dict[str, Any]:
    source = base_source.single_file(base.source)
    prefix = ldm_base.unpack(source, base.weights, folder, layout)
    return {"unet_from": f"{prefix}*", "file_sha256": files.sha256(source)}


def _from_files(base: Base, found: Found, folder: Path) -> dict[str, Any]:
    configs = [found.files[f"{part}/config.json"] for part in PLAIN]
    base_shape.check_configs(base.source, configs[0], configs[1], configs[2])
    for name, path in found.files.items():
        _copy(name, path, folder)
    _name_parts(index_path(folder))
    plain_configs(folder)
    unet = next(name for name in found.files if name.startswith("unet/diffusion"))
    about = {"unet_from": unet}
    return about if found.commit is None else {**about, "revision": base.revision, "commit": found.commit}


def _copy(name: str, path: Path, folder: Path) -> None:
    """Weights in 32-bit safetensors are linked as they are, others converted; a variant loses its infix."""
    part, _, file = name.partition("/")
    if part not in PLAIN or file == "config.json":
        _link(path, folder / name)
        return
    target = folder / part / f"{PLAIN[part]}.safetensors"
    if weight_file.is_plain(path):
        _link(path, target)
    else:
        weight_file.write(weight_file.float32(weight_file.read(path)), target)


def _link(path: Path, target: Path) -> None:
    """The hub's cache keeps links to its files; what they lead to is taken."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    files.link_or_copy(path.resolve(), target)


def _name_parts(path: Path) -> None:
    """Takes out of the pipeline's index what a base does not hold; writes one where there is none."""
    index = files.read_json(path) if path.is_file() else MODEL_INDEX
    kept = {**index, **{name: [None, None] for name in LEFT_OUT if name in index}, "requires_safety_checker": False}
    if kept != index or not path.is_file():
        files.write_json(path, kept)


def plain_configs(folder: Path) -> None:
    """Takes out of the parts' configs the path they were loaded from, and a precision that they no longer have."""
    for path in folder.glob("*/*config.json"):
        config: Mapping[str, Any] = files.read_json(path)
        kept = {
            key: "float32" if key in PRECISION else value for key, value in config.items() if not _is_path(key, value)
        }
        if kept != config:
            files.write_json(path, kept)


def _is_path(key: str, value: Any) -> bool:
    return key in ("_name_or_path", "name_or_path") and Path(str(value)).is_absolute()


def _all_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
