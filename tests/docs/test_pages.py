"""Links lead somewhere, named files exist, shown parameters are parameters, figures are small."""

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.core.section import parse, read_yaml
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params
from tests.conftest import REPOSITORY
from tests.pages import LINK, PAGES, QUOTED, Block, anchors, blocks, prose

NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]
EXAMPLES = {"foo"}  # what a reader is about to write
MADE = ("outputs/", "work/", "reports/", "weights/", "data/", "my_data/", "exported/", "ratings/")  # by a run, or yours
SUFFIXES = {".py", ".md", ".yaml", ".sh", ".toml", ".cff", ".j2", ".svg", ".png"}
FIGURE = 200_000  # bytes


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_named_files_exist(name: str) -> None:
    page = REPOSITORY / name
    places = (REPOSITORY, page.parent, REPOSITORY / "pipeline")
    assert [path for path in paths(page) if not any((place / path).exists() for place in places)] == []


def paths(page: Path) -> Iterator[str]:
    """Names of files with a folder in backticks, `{a,b}` written out; placeholders and results of runs left out."""
    for quoted in QUOTED.findall(prose(page)):
        path = Path(quoted)
        if path.suffix not in SUFFIXES or "/" not in quoted or path.stem in EXAMPLES:
            continue
        if re.search(r"[*<>\s:]|[A-Z]{3,}(?!.*\.md)", quoted) or (quoted.startswith(MADE) and path.suffix != ".py"):
            continue
        choice = re.search(r"\{(.+?)\}", quoted)
        for part in choice[1].split(",") if choice else [""]:
            yield re.sub(r"\{.+?\}", part, quoted)


def yaml_blocks() -> list[Any]:
    return [
        pytest.param(block, id=str(block))
        for page in PAGES
        for block in blocks(page)
        if block.language == "yaml" and block.mark != "fragment"
    ]


@pytest.mark.parametrize("block", yaml_blocks())
def test_shown_parameters_are_parameters(block: Block) -> None:
    """A block is laid over the demo's parameters, entries added to its entries, a section to its section."""
    demo = read_yaml(REPOSITORY / "params.yaml")
    demo["training_sets"] = {name: demo["training_sets"][name] for name in ("real", "siamese_x1")}
    shown = YAML(typ="safe", pure=True).load(block.text)
    assert set(shown) <= set(Params.model_fields)
    check_plugins(parse(Params, laid_over(demo, shown)))


def laid_over(under: Any, over: Any) -> Any:
    """Mappings are merged, all else replaced; another reader of data brings its own keys."""
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return copy.deepcopy(over)
    if under.get("reader", over.get("reader")) != over.get("reader", under.get("reader")):
        under = {key: under[key] for key in under if key in ("size", "num_classes", "prompt")}
    return {key: laid_over(under.get(key), over[key]) if key in over else under[key] for key in {**under, **over}}


def test_the_index_names_every_page() -> None:
    listed = {(REPOSITORY / "docs" / link).resolve() for link in LINK.findall(prose(REPOSITORY / "docs" / "README.md"))}
    pages = {page for page in PAGES if page.parent.name == "docs" and page.name not in ("README.md", "index.md")}
    assert sorted(page.name for page in pages - listed) == []


def test_the_index_of_results_names_every_page_of_results() -> None:
    index = REPOSITORY / "docs" / "results.md"
    listed = {(index.parent / link).resolve() for link in LINK.findall(prose(index))}
    pages = set((REPOSITORY / "docs" / "results").glob("*.md"))
    assert pages
    assert sorted(page.name for page in pages - listed) == []


def test_figures_are_small_and_shown() -> None:
    figures = sorted((REPOSITORY / "docs" / "figures").glob("*.[ps][nv]g"))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert figures
    assert {path.name: path.stat().st_size for path in figures if path.stat().st_size > FIGURE} == {}
    assert [path.name for path in figures if f"figures/{path.name}" not in text] == []
