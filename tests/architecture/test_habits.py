"""Sizes, words and the lock file."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest
from packaging.markers import Marker

from tests.conftest import REPOSITORY

TEXT = {".py", ".yaml", ".yml", ".toml", ".md", ".cff", ".j2", ".json", ".lock", ".sh", ""}
SOURCES = sorted(path for folder in ("pipeline", "stages") for path in (REPOSITORY / folder).rglob("*.py"))
# Built from pieces, so that this file does not hold what it looks for.
REGISTRY = ("py" + "pi.org", "python" + "hosted.org", "index" + "-url =", "arti" + "factory", "ne" + "xus.")
MACHINE = ("/work/" + "main", "/work/" + "shared", "/ro" + "ot/", "/ho" + "me/", "../sha" + "red")
THE_ONE_PLACE = {".ci/run": {"../sha" + "red"}}
SILENT = re.compile(r"^\s*print\(|import \*|\*\*kwargs", re.MULTILINE)


def tracked() -> list[Path]:
    """Text files that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    paths = [REPOSITORY / line for line in listed.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix in TEXT]


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and lines of every function."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.name, (node.end_lineno or 0) - node.lineno + 1) for node in found]


def requirements() -> list[str]:
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return [line.removesuffix("\\").strip() for line in lines if re.match(r"[A-Za-z0-9]", line)]


def test_files_are_short() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
    assert statistics.median(lengths.values()) <= 120


def test_functions_are_short() -> None:
    lengths = {f"{path.name}:{name}": length for path in SOURCES for name, length in functions(path)}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert statistics.median(lengths.values()) <= 10


@pytest.mark.parametrize("path", sorted((REPOSITORY / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_stages_are_recipes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_modules_say_what_they_hold() -> None:
    nameless = [str(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert nameless == []


def test_code_neither_prints_nor_tunnels() -> None:
    assert [path.name for path in SOURCES if SILENT.search(path.read_text(encoding="utf-8"))] == []


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = []
    for path in tracked():
        text, name = path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY).as_posix()
        found += [
            (name, word) for word in (*REGISTRY, *MACHINE) if word in text and word not in THE_ONE_PLACE.get(name, ())
        ]
    assert found == []


def test_lock_names_no_host() -> None:
    text = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "@" not in re.sub(r"^ +#.*", "", text, flags=re.MULTILINE)  # no direct reference either


def test_every_locked_package_has_a_hash() -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (REPOSITORY / "requirements.lock").read_text(encoding="utf-8"))
    bare = [
        block.splitlines()[0] for block in blocks if re.match(r"[A-Za-z0-9]", block) and "--hash=sha256:" not in block
    ]
    assert bare == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_scipy_stays_below_what_clean_fid_can_bear(python: str, platform: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    lines = [line.partition(";") for line in requirements() if line.startswith("scipy==")]
    versions = [pin.strip() for pin, _, marker in lines if not marker or Marker(marker.strip()).evaluate(environment)]
    assert len(versions) == 1
    major, minor = map(int, versions[0].removeprefix("scipy==").split(".")[:2])
    assert (major, minor) < (1, 18)


def test_torch_is_recent_enough() -> None:
    pins = [line for line in requirements() if line.startswith("torch==")]
    versions = [tuple(map(int, re.findall(r"\d+", pin)[:2])) for pin in pins]
    assert versions
    assert min(versions) >= (2, 10)
