"""Imports point down only, heavy libraries stay behind their fences, light stages stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import plugins
from pipeline.stages.records import records
from tests.conftest import REPOSITORY

PIPELINE = REPOSITORY / "pipeline"
SOURCES = sorted(PIPELINE.rglob("*.py"))
FLOORS = (
    {
        "params",
        "base_params",
        "data_params",
        "finetune_params",
        "segment_params",
        "compare_params",
        "parsing",
        "sampling",
        "plugins",
        "paths",
        "files",
        "locks",
        "seeding",
        "runtime",
        "transfer",
        "contracts",
        "errors",
        "methods",
        "weights",
        "training_sets",
    },
    {"data", "networks", "diffusion", "metrics"},
    {"conditioning"},  # hints that the generators paint
    {"generators", "masks", "segmenters", "quality", "features"},
    set(),  # everything else: what the stages call
    {"commands", "cli", "doctor"},
)
ROOMS = 4  # the floor of everything else
FENCES = {
    "diffusers": {"generators", "networks", "pretraining"},
    "transformers": {"generators", "networks", "pretraining", "segmenters"},
    "segmentation_models_pytorch": {"segmenters", "features"},
    "timm": {"segmenters", "features"},
    "open_clip": {"features", "quality"},
    "cleanfid": {"features", "quality"},
    "lpips": {"features", "quality"},
    "controlnet_aux": {"conditioning"},
    "accelerate": {"runtime"},
    "pyarrow": {"exports"},
    "pycocotools": set(),  # tests read exports back with it
    "webdataset": set(),  # so too
    "dvc": set(),
    "matplotlib": {"reporting"},
    "jinja2": {"reporting"},
    "fastapi": {"rating"},
    "uvicorn": {"rating"},
}
SIBLINGS = {("networks", "diffusion")}  # the one import between siblings: a base knows the schedule of its folder
LIGHT = ("records", "prepare", "mix", "compare", "report")


def room(path: Path) -> str:
    """The module or folder directly below pipeline/."""
    return path.relative_to(PIPELINE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next((number for number, names in enumerate(FLOORS) if name in names), ROOMS)


def edges() -> Iterator[tuple[str, str, str]]:
    """(file, its room, a room it imports) over all our sources."""
    for path in SOURCES:
        for module in records.imports(path):
            if "." in module:
                yield path.relative_to(REPOSITORY).as_posix(), room(path), module.split(".")[1]


def libraries(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever the statement stands."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def test_imports_point_down() -> None:
    up = {f"{file} imports {there}" for file, here, there in edges() if floor(there) > floor(here)}
    assert not up


def test_siblings_do_not_import_each_other() -> None:
    across = {
        f"{file} imports {there}"
        for file, here, there in edges()
        if here != there and 0 < floor(here) < ROOMS and floor(here) == floor(there) and (here, there) not in SIBLINGS
    }
    assert not across


def test_there_is_no_import_cycle() -> None:
    graph = {path: {records.source_of(m) for m in records.imports(path)} - {path} for path in SOURCES}
    while leaves := {path for path, targets in graph.items() if not targets & graph.keys()}:
        graph = {path: targets for path, targets in graph.items() if path not in leaves}
    assert not graph


@pytest.mark.parametrize("library", FENCES)
def test_libraries_stay_behind_their_fence(library: str) -> None:
    assert {room(path) for path in SOURCES if library in libraries(path)} <= FENCES[library]


def test_stages_import_no_library() -> None:
    allowed = {"pipeline", "logging"}
    for path in sorted((REPOSITORY / "stages").glob("*.py")):
        assert libraries(path) <= allowed, path.name


@pytest.mark.parametrize("stage", LIGHT)
def test_light_stages_do_not_import_torch(stage: str) -> None:
    path = REPOSITORY / "stages" / f"{stage}.py"
    program = f"import runpy, sys; runpy.run_path({str(path)!r}, run_name='stage'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


@pytest.mark.parametrize("kind", plugins.FOLDERS)
def test_every_plugin_folder_has_a_plugin(kind: str) -> None:
    assert plugins.names(kind)


def test_packages_do_no_work_at_import() -> None:
    """Beyond their docstring they may pass on names of their modules."""
    for path in PIPELINE.rglob("__init__.py"):
        if room(path) not in ("__init__", "commands"):
            nodes = ast.parse(path.read_text(encoding="utf-8")).body
            assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in nodes), path
