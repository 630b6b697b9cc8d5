"""The rooms of the package: imports point down, stages look upstream only, heavy libraries stay behind their fences."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import plugins
from pipeline.core.section import read_yaml
from pipeline.stages.records import records
from tests.conftest import REPOSITORY

PIPELINE = REPOSITORY / "pipeline"
SOURCES = sorted(PIPELINE.rglob("*.py"))
FLOORS = (
    {"core"},
    {"data", "diffusion", "metrics"},
    {"networks"},
    {"methods", "training"},
    {"evaluation", "segmentation"},
    {"study"},
    {"stages"},
    {"api", "cli", "deploy", "web"},
)
STAGES = list(read_yaml(REPOSITORY / "dvc.yaml")["stages"])  # in the order of the graph
FENCES = {
    "diffusers": {"methods/generators", "networks", "stages/base", "stages/finetune"},
    "transformers": {"methods/generators", "methods/segmenters", "networks", "stages/base", "stages/finetune"},
    "segmentation_models_pytorch": {"methods/features", "methods/segmenters"},
    "timm": {"methods/features", "methods/segmenters", "networks"},
    "open_clip": {"methods/features"},
    "cleanfid": {"methods/features"},
    "lpips": {"methods/features"},
    "controlnet_aux": {"methods/conditioning"},
    "accelerate": {"core"},
    "pyarrow": {"methods/exports"},
    "pydicom": {"data"},
    "pycocotools": set(),  # tests read exports back with it
    "webdataset": set(),  # so too
    "dvc": {"cli"},  # reads the graph for the jobs of a cluster
    "matplotlib": {"stages/report"},
    "jinja2": {"stages/report"},
    "fastapi": {"web"},
    "uvicorn": {"web"},
}
SIBLINGS = {("api", "deploy"), ("cli", "deploy"), ("cli", "web"), ("web", "api")}
KINDS = {("generators", "conditioning")}  # a generator paints its hints with a conditioning
LIGHT = ("records", "prepare", "mix", "compare", "report")
LEAVES = (".params", ".checks")
LIMIT_OF_STUDIES = 60  # signatures that take the whole study


def place(path: Path) -> str:
    """The dotted name of a module below pipeline, without the package's own name."""
    return path.relative_to(PIPELINE).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    """The floor of a module's room; the leaves params.py and their checks stand on the lowest one."""
    if module.endswith(LEAVES):
        return 0
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def edges() -> Iterator[tuple[str, str]]:
    """A module and a module that it imports, wherever the statement stands."""
    for path in SOURCES:
        here = place(path)
        for module in records.imports(path):
            there = module.removeprefix("pipeline.")
            source = records.source_of(module)
            if "." in module and source is not None and source.name != "__init__.py":
                yield here, there


EDGES = sorted(edges())


def libraries(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever the statement stands."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def shelf(path: Path) -> str:
    """The room of a file; of stages and methods the folder below."""
    parts = path.relative_to(PIPELINE).parts
    return "/".join(parts[:2]) if parts[0] in ("stages", "methods") else parts[0].removesuffix(".py")


def test_the_package_has_few_entries() -> None:
    entries = {path.name for path in PIPELINE.iterdir() if path.name != "__pycache__"}
    assert len(entries) <= 16
    assert {name.removesuffix(".py") for name in entries} - {"__init__"} == set().union(*FLOORS)


def test_imports_point_down() -> None:
    up = [(here, there) for here, there in EDGES if not here.endswith(LEAVES) and floor(there) > floor(here)]
    assert up == []


def test_siblings_do_not_import_each_other() -> None:
    across = [
        (here, there)
        for here, there in EDGES
        if room(here) != room(there) and 0 < floor(there) == floor(here) and (room(here), room(there)) not in SIBLINGS
    ]
    assert across == []


def test_params_are_leaves() -> None:
    """Anyone may import the sections of params.yaml, so they import nothing but the core and each other."""
    leaves = [(here, there) for here, there in EDGES if here.endswith(LEAVES)]
    assert [(here, there) for here, there in leaves if room(there) != "core" and not there.endswith(LEAVES)] == []


def test_a_stage_imports_rooms_of_stages_upstream_only() -> None:
    down = []
    for here, there in EDGES:
        ours, theirs = here.split("."), there.split(".")
        if ours[0] == theirs[0] == "stages" and len(theirs) > 2 and theirs[-1] != "params":
            down += [(here, there)] if STAGES.index(theirs[1]) > STAGES.index(ours[1]) else []
    assert down == []


def test_every_stage_has_a_script_and_a_room_with_its_name() -> None:
    assert sorted(path.stem for path in (REPOSITORY / "stages").glob("*.py")) == sorted(STAGES)
    assert sorted(p.name for p in (PIPELINE / "stages").iterdir() if (p / "__init__.py").is_file()) == sorted(STAGES)


def test_plugins_import_neither_their_neighbours_nor_stages() -> None:
    across = []
    for here, there in EDGES:
        ours, theirs = here.split("."), there.split(".")
        if ours[0] == "methods" and theirs[0] == "methods" and ours[1] != theirs[1]:
            across += [] if (ours[1], theirs[1]) in KINDS else [(here, there)]
    assert across == []


def test_only_stages_and_what_stands_above_them_know_the_whole_study() -> None:
    assert [here for here, there in EDGES if there == "study" and floor(here) < floor("stages.x")] == []


def test_few_signatures_take_the_whole_study() -> None:
    taking = []
    for path in [path for path in SOURCES if "pipeline.study" in path.read_text(encoding="utf-8")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                annotated = [
                    ast.unparse(a.annotation) for a in [*node.args.args, *node.args.kwonlyargs] if a.annotation
                ]
                taking += [f"{place(path)}:{node.name}"] if {"Params", "'Params'"} & set(annotated) else []
    assert len(taking) <= LIMIT_OF_STUDIES, taking


def test_there_is_no_import_cycle() -> None:
    graph = {path: {records.source_of(m) for m in records.imports(path)} - {path} for path in SOURCES}
    while leaves := {path for path, targets in graph.items() if not targets & graph.keys()}:
        graph = {path: targets for path, targets in graph.items() if path not in leaves}
    assert not graph


@pytest.mark.parametrize("library", FENCES)
def test_libraries_stay_behind_their_fence(library: str) -> None:
    here = {shelf(path) for path in SOURCES if library in libraries(path)}
    assert here <= FENCES[library]


def test_stages_import_no_library() -> None:
    for path in sorted((REPOSITORY / "stages").glob("*.py")):
        assert libraries(path) <= {"pipeline", "logging"}, path.name


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
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in nodes), path


def test_every_data_file_belongs_to_one_module_beside_it() -> None:
    """So that the records of the stages hold it."""
    declared = [data for source in SOURCES for data in records.data_files(source)]
    lying = [path for path in PIPELINE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert sorted(declared) == sorted(lying)


def test_a_stage_that_reads_a_section_of_the_study_has_it_in_its_record(tmp_path: Path) -> None:
    """The study itself is not followed: a new key of one section must not run the stages of all others."""
    reading = tmp_path / "reading.py"
    reading.write_text("from pipeline.study import Params\nx = params.segment.seeds, self.params.generators\n")
    homes = {"pipeline.segmentation.params", "pipeline.stages.finetune.params"}
    reached = {module for module in records.reachable(reading) if module.endswith(".params")}
    assert reached == homes
    assert "pipeline.study" not in records.reachable(reading)
