"""Plug-ins: a method is one file of a folder; the folder is the registry, the file's name the method's name."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pipeline
from pipeline.core.contracts import WatchedFiles
from pipeline.core.errors import UserError
from pipeline.core.section import Section, parse

ROOT = Path(pipeline.__path__[0])
FOLDERS = {
    "readers": "methods.readers",
    "generators": "methods.generators",
    "masks": "methods.masks",
    "segmenters": "methods.segmenters",
    "image_metrics": "methods.image_metrics",
    "features": "methods.features",
    "conditioning": "methods.conditioning",
    "exports": "methods.exports",
}


def names(kind: str) -> list[str]:
    """Return the names of the plug-ins of one kind (a key of FOLDERS), sorted; files with a leading "_" are none."""
    folder = ROOT.joinpath(*FOLDERS[kind].split("."))
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))


def source(kind: str, name: str) -> Path:
    """Return the file of one plug-in without loading it. Raises UserError listing the names there are."""
    if name not in names(kind):
        raise UserError(f"there is no {name!r} among the {kind}; the available ones are: {', '.join(names(kind))}")
    return ROOT.joinpath(*FOLDERS[kind].split("."), f"{name}.py")


def load(kind: str, name: str) -> ModuleType:
    """Return the module of one plug-in. Raises UserError listing the names there are."""
    source(kind, name)
    return importlib.import_module(f"pipeline.{FOLDERS[kind]}.{name}")


def params_class(kind: str, name: str) -> type[Section]:
    """Return the class of one plug-in's parameters. Raises UserError listing the names there are.

    A plug-in that loads torch keeps its class Params in `_<name>_params.py` beside it; only that file is loaded here.
    """
    source(kind, name)
    apart = f"pipeline.{FOLDERS[kind]}._{name}_params"
    module = importlib.import_module(apart) if importlib.util.find_spec(apart) else load(kind, name)
    return module.Params


def watched_files(kind: str, name: str, values: dict[str, Any], where: str) -> dict[str, str]:
    """Return the hash of the user's files that a plug-in's parameters name, as `files`; empty where they name none."""
    chosen = read_params(kind, name, values, where)
    return {"files": chosen.files_digest()} if isinstance(chosen, WatchedFiles) else {}


def read_params(kind: str, name: str, values: dict[str, Any], where: str) -> Section:
    """Check and return a plug-in's parameters; `where` is the dotted path that an error names."""
    return parse(params_class(kind, name), values, where)
