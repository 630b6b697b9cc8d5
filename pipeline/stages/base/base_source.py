"""Where a base comes from: which files are required, whether they are present, and what to download where not.

Nothing here loads weights, so that missing files are reported before any network is built.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks import pretrained as downloads
from pipeline.networks.stable_diffusion import families
from pipeline.networks.stable_diffusion.families import SDXL, WITHDRAWN, Family
from pipeline.stages.base.params import Base

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
INDEX = "model_index.json"
SINGLE = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
STEMS = {  # of the weight files, as safetensors and in torch's format
    "unet": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "text_encoder": ("model", "pytorch_model"),
    "text_encoder_2": ("model", "pytorch_model"),
    "vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
}

Kind = Literal["scratch", "folder", "file", "hub"]
FindFile = Callable[[str], Path | None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequiredFile:
    """A file of a base: its possible names, the preferred first; one of them is enough."""

    names: tuple[str, ...]
    size: float = 0  # bytes, where it is large
    optional: bool = False


@dataclass(frozen=True)
class BaseFiles:
    """The files of a base by their names in its folder."""

    files: Mapping[str, Path]
    commit: str | None = None  # of the hub's repository


def kind_of(source: str) -> Kind:
    """Return what kind of source `base.source` names. Raises UserError where it is none of the four."""
    if source == "scratch":
        return "scratch"
    path = Path(source)
    if path.is_dir():
        return "folder"
    if path.suffix in SINGLE:
        return "file"
    if path.exists():
        raise UserError(f"base.source: {source} is neither a file of weights ({', '.join(SINGLE)}) nor a folder")
    if HUB_ID.fullmatch(source):
        return "hub"
    raise UserError(
        f"base.source: {source!r} is neither a folder here, nor a file ({', '.join(SINGLE)}), nor an id of the hub"
        f" (owner/name); name one of these, for example {SD15}, or use scratch"
    )


def repository(source: str) -> str:
    """Return the hub id that holds the base today; a withdrawn id is an alias, logged as a warning."""
    now = WITHDRAWN.get(source, source)
    if now != source:
        logger.warning("base.source: %s was withdrawn from the hub; taking %s, which holds a copy of it", source, now)
    return now


def required_files(base: Base, family: Family) -> list[RequiredFile]:
    """List the files of a diffusers folder that a base of a family is made of."""
    sizes, tokenizers = families.SIZES[family], ("tokenizer", "tokenizer_2") if family == SDXL else ("tokenizer",)
    configs = [f"{part}/config.json" for part in sizes] + ["scheduler/scheduler_config.json"]
    configs += [f"{name}/tokenizer_config.json" for name in tokenizers]
    vocabulary = [
        RequiredFile((f"{name}/{file}", f"{name}/tokenizer.json"))
        for name in tokenizers
        for file in ("vocab.json", "merges.txt")
    ]
    optional = [INDEX, *(f"{name}/special_tokens_map.json" for name in tokenizers)]
    others = [RequiredFile((name,), optional=True) for name in optional]
    weights = [_weights(part, base, size) for part, size in sizes.items()]
    return [*(RequiredFile((name,)) for name in configs), *vocabulary, *others, *weights]


def _family(source: str, find: FindFile) -> Family:
    """Return the family of a folder or repository, as far as its files differ: by its index, or else by its id.

    Raises UserError for the index of another kind of model.
    """
    known, index = families.published(source).family, find(INDEX)
    if index is None:
        return SDXL if find("text_encoder_2/config.json") else known
    try:
        return families.family_of_pipeline(source, dict(files.read_json(index))) or known
    except (ValueError, TypeError):
        raise UserError(f"base.source: {index} is not a JSON object; download it again") from None


def _weights(part: str, base: Base, size: float) -> RequiredFile:
    """Prefer safetensors to torch's format, and a variant to the plain file, which does not replace the U-Net's."""
    variant = base.variant or ("non_ema" if base.weights == "non_ema" and part == "unet" else None)
    infixes = ["" if variant is None else f".{variant}"]
    if variant is not None and part != "unet":
        infixes.append("")
    ends = list(zip(STEMS[part], (".safetensors", ".bin"), strict=True))
    names = [f"{part}/{stem}{infix}{end}" for infix in infixes for stem, end in ends]
    return RequiredFile(tuple(names), size)


def single_file(source: str) -> Path:
    """Return the path of a single file. Raises UserError saying what to download where it does not exist."""
    path = Path(source)
    if path.is_file():
        return path
    raise UserError(
        f"base.source: there is no file {source}; download v1-5-pruned.safetensors (7.7 GB, EMA and non-EMA weights)"
        f" or v1-5-pruned-emaonly.safetensors (4.3 GB) from {SD15} and put it there"
    )


def in_folder(base: Base) -> BaseFiles:
    """Find the files of a local diffusers folder. Raises UserError naming those that are missing."""
    folder = Path(base.source)

    def find(file: str) -> Path | None:
        return path if (path := folder / file).is_file() else None

    present, missing = _collect(required_files(base, _family(base.source, find)), find)
    if missing:
        raise UserError(
            f"base.source: {folder} is not a Stable Diffusion folder with these weights, because it lacks"
            f" {_names(missing)}"
        )
    return BaseFiles(present)


def on_hub(base: Base) -> BaseFiles:
    """Find the files of a hub repository in its cache, or download them into it; huggingface_hub reads its environment.

    Raises UserError naming all files that are not here and cannot be downloaded, and where to put them.
    """
    name = repository(base.source)
    hub = _Hub(name, base.revision)
    present, missing = _collect(required_files(base, _family(name, hub.find)), hub.find)
    if missing:
        raise _unavailable(name, base.revision, missing, hub)
    return BaseFiles(present, hub.commit)


def missing_files(base: Base) -> str | None:
    """Describe what the hub's cache lacks of a base, with its size; None: nothing. Downloads nothing."""
    from huggingface_hub import try_to_load_from_cache

    name = repository(base.source)

    def find(file: str) -> Path | None:
        path = try_to_load_from_cache(name, file, revision=base.revision)
        return Path(path) if isinstance(path, str) else None

    _, missing = _collect(required_files(base, _family(name, find)), find)
    return f"about {sum(file.size for file in missing) / 1e9:.1f} GB, {_summary(missing)}" if missing else None


class _Hub:
    """One revision of one repository; its first file pins the commit of all others."""

    def __init__(self, name: str, revision: str | None) -> None:
        self.name, self.revision = name, revision
        self.commit: str | None = None
        self.reason: str | None = None

    def find(self, file: str) -> Path | None:
        """Find or download a file; None, with the reason kept, where that fails."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError, LocalEntryNotFoundError

        try:
            at, local_only = self.commit or self.revision, self.reason is not None  # one failed connection is enough
            path = Path(hf_hub_download(self.name, file, revision=at, local_files_only=local_only))
        except (OSError, EntryNotFoundError, HFValidationError, HTTPError) as error:
            absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            self.reason = self.reason or (None if absent else _reason(error))
            return None
        self.commit = self.commit or _commit(path, file)
        return path


def _commit(path: Path, file: str) -> str:
    """Return the commit of a cached file, which lies at snapshots/<commit>/<file>."""
    return path.parents[file.count("/")].name


def _reason(error: Exception) -> str:
    if downloads.offline():
        return "HF_HUB_OFFLINE is set, so nothing is downloaded"
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def _collect(wanted: Iterable[RequiredFile], find: FindFile) -> tuple[dict[str, Path], list[RequiredFile]]:
    """Return the files that exist by name, and the required ones that do not."""
    present, missing = {}, []
    for file in wanted:
        match = next(((name, path) for name in file.names if (path := find(name)) is not None), None)
        if match:
            present[match[0]] = match[1]
        elif not file.optional:
            missing.append(file)
    return present, missing


def _names(missing: Iterable[RequiredFile]) -> str:
    return ", ".join(file.names[0] + (f" ({file.size / 1e9:.1f} GB)" if file.size else "") for file in missing)


def _summary(missing: list[RequiredFile]) -> str:
    """Name the weights and count the other files."""
    rest = [file for file in missing if not file.size]
    weights = [file for file in missing if file.size]
    if not weights:
        return _names(rest)
    return _names(weights) + (f" and {len(rest)} small files" if rest else "")


def _unavailable(name: str, revision: str | None, missing: list[RequiredFile], hub: _Hub) -> UserError:
    from huggingface_hub.constants import HF_HUB_CACHE

    total = sum(file.size for file in missing) / 1e9
    names = " ".join([name, *(file.names[0] for file in missing), *(["--revision", revision] if revision else [])])
    why = hub.reason or "the repository has no such files"
    return UserError(
        f"base.source: {name} is not here ({why}). Missing, about {total:.1f} GB: {_summary(missing)}. Where there is a"
        f" network, `hf download {names}` puts them into the hub's cache, here {HF_HUB_CACHE}; or put them into a"
        " folder and set base.source to it. A single .safetensors or .ckpt file of Stable Diffusion 1.5 also works,"
        " and source: scratch needs none"
    )
