"""Where a base comes from: which files are needed, whether they are here, and what to download where they are not.

Nothing here loads weights, so a base that cannot be had is told before any network is built.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.core.errors import UserError
from pipeline.networks import pretrained as downloads
from pipeline.stages.base.params import Base

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
WITHDRAWN = {"runwayml/stable-diffusion-v1-5": SD15}
SINGLE = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
SIZES = {"unet": 3.44e9, "text_encoder": 0.49e9, "vae": 0.33e9}  # bytes of SD 1.5's parts in 32 bits
STEMS = {  # of the weight files, as safetensors and in torch's format
    "unet": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
    "text_encoder": ("model", "pytorch_model"),
    "vae": ("diffusion_pytorch_model", "diffusion_pytorch_model"),
}
CONFIGS = (
    *(f"{part}/config.json" for part in SIZES),
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
)

Kind = Literal["scratch", "folder", "file", "hub"]
Find = Callable[[str], Path | None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Need:
    """A file of a base: its names, the best first; one of them is enough."""

    names: tuple[str, ...]
    size: float = 0  # bytes, where it is large
    optional: bool = False


@dataclass(frozen=True)
class Found:
    """The files of a base by their names in its folder."""

    files: Mapping[str, Path]
    commit: str | None = None  # of the hub's repository


def kind_of(source: str) -> Kind:
    """What `base.source` names. Raises UserError where it is none of the four."""
    if source == "scratch":
        return "scratch"
    path = Path(source)
    if path.is_dir():
        return "folder"
    if path.suffix in SINGLE:
        return "file"
    if path.exists():
        raise UserError(f"base.source: {source} is no file of weights ({', '.join(SINGLE)}) and no folder")
    if HUB_ID.fullmatch(source):
        return "hub"
    raise UserError(
        f"base.source: {source!r} is no folder here, no file ({', '.join(SINGLE)}) and no id of the hub (owner/name);"
        f" name one of them, for example {SD15}, or use scratch"
    )


def repository(source: str) -> str:
    """The hub id that holds the base today; a withdrawn id is an alias, and said so."""
    now = WITHDRAWN.get(source, source)
    if now != source:
        logger.warning(
            "base.source: %s was withdrawn from the hub; taking %s, which holds the same weights", source, now
        )
    return now


def needs(base: Base) -> list[Need]:
    """The files of a diffusers folder that a base is made of."""
    vocabulary = [Need((f"tokenizer/{name}", "tokenizer/tokenizer.json")) for name in ("vocab.json", "merges.txt")]
    configs = [Need((name,)) for name in CONFIGS]
    others = [Need((name,), optional=True) for name in ("model_index.json", "tokenizer/special_tokens_map.json")]
    return [*configs, *vocabulary, *others, *(_weights(part, base) for part in SIZES)]


def _weights(part: str, base: Base) -> Need:
    """Safetensors before torch's format; a variant before the plain file, which does not stand for the U-Net's."""
    variant = base.variant or ("non_ema" if base.weights == "non_ema" and part == "unet" else None)
    infixes = ["" if variant is None else f".{variant}"]
    if variant is not None and part != "unet":
        infixes.append("")
    ends = list(zip(STEMS[part], (".safetensors", ".bin"), strict=True))
    names = [f"{part}/{stem}{infix}{end}" for infix in infixes for stem, end in ends]
    return Need(tuple(names), SIZES[part])


def single_file(source: str) -> Path:
    """A single file that is here. Raises UserError saying what to download."""
    path = Path(source)
    if path.is_file():
        return path
    raise UserError(
        f"base.source: there is no file {source}; download v1-5-pruned.safetensors (7.7 GB, EMA and non-EMA weights)"
        f" or v1-5-pruned-emaonly.safetensors (4.3 GB) from {SD15} and put it there"
    )


def in_folder(base: Base) -> Found:
    """The files of a local diffusers folder. Raises UserError naming what it lacks."""
    folder = Path(base.source)
    found, missing = _collect(needs(base), lambda name: path if (path := folder / name).is_file() else None)
    if missing:
        raise UserError(
            f"base.source: {folder} is no Stable Diffusion folder with these weights, it lacks {_list(missing)}"
        )
    return Found(found)


def on_hub(base: Base) -> Found:
    """The files of a hub's repository, from its cache or downloaded into it; the hub's library reads its environment.

    Raises UserError naming all files that are not here and cannot be downloaded, and where to put them.
    """
    name = repository(base.source)
    hub = _Hub(name, base.revision)
    found, missing = _collect(needs(base), hub.find)
    if missing:
        raise _unavailable(name, base.revision, missing, hub)
    return Found(found, hub.commit)


def lacking(base: Base) -> str | None:
    """What the hub's cache lacks of a base, with its size; None: nothing. Downloads nothing."""
    from huggingface_hub import try_to_load_from_cache

    name = repository(base.source)

    def find(file: str) -> Path | None:
        path = try_to_load_from_cache(name, file, revision=base.revision)
        return Path(path) if isinstance(path, str) else None

    _, missing = _collect(needs(base), find)
    return f"about {sum(need.size for need in missing) / 1e9:.1f} GB, {_large(missing)}" if missing else None


class _Hub:
    """One revision of one repository; its first file pins the commit of all others."""

    def __init__(self, name: str, revision: str | None) -> None:
        self.name, self.revision = name, revision
        self.commit: str | None = None
        self.trouble: str | None = None

    def find(self, file: str) -> Path | None:
        """The file, or None with the trouble noted."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError, LocalEntryNotFoundError

        try:
            at, silent = self.commit or self.revision, self.trouble is not None  # one failed connection is enough
            path = Path(hf_hub_download(self.name, file, revision=at, local_files_only=silent))
        except (OSError, EntryNotFoundError, HFValidationError, HTTPError) as error:
            known = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            self.trouble = self.trouble or (None if known else _reason(error))
            return None
        self.commit = self.commit or _commit(path, file)
        return path


def _commit(path: Path, file: str) -> str:
    """The cache keeps a file as snapshots/<commit>/<file>."""
    return path.parents[file.count("/")].name


def _reason(error: Exception) -> str:
    if downloads.offline():
        return "HF_HUB_OFFLINE is set, so nothing is downloaded"
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def _collect(wanted: Iterable[Need], find: Find) -> tuple[dict[str, Path], list[Need]]:
    """What was found by its name, and what was not."""
    found, missing = {}, []
    for need in wanted:
        hit = next(((name, path) for name in need.names if (path := find(name)) is not None), None)
        if hit:
            found[hit[0]] = hit[1]
        elif not need.optional:
            missing.append(need)
    return found, missing


def _list(missing: Iterable[Need]) -> str:
    return ", ".join(need.names[0] + (f" ({need.size / 1e9:.1f} GB)" if need.size else "") for need in missing)


def _large(missing: list[Need]) -> str:
    """The weights by name and the rest by number."""
    rest = [need for need in missing if not need.size]
    weights = [need for need in missing if need.size]
    if not weights:
        return _list(rest)
    return _list(weights) + (f" and {len(rest)} small files" if rest else "")


def _unavailable(name: str, revision: str | None, missing: list[Need], hub: _Hub) -> UserError:
    from huggingface_hub.constants import HF_HUB_CACHE

    total = sum(need.size for need in missing) / 1e9
    names = " ".join([name, *(need.names[0] for need in missing), *(["--revision", revision] if revision else [])])
    why = hub.trouble or "the repository has no such files"
    return UserError(
        f"base.source: {name} is not here ({why}). Missing, about {total:.1f} GB: {_large(missing)}. Where there is a"
        f" network, `hf download {names}` puts them into the hub's cache, here {HF_HUB_CACHE}; or put them into a"
        " folder and set base.source to it. A single .safetensors or .ckpt file of Stable Diffusion 1.5 will do as"
        " well, and source: scratch needs none"
    )
