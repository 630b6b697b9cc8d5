"""Who sees the images without masks: what learns from them, and audit and report, which look for copies of them."""

import ast
from pathlib import Path

from pipeline.core import paths
from pipeline.core.section import read_yaml
from tests.conftest import REPOSITORY

WRITER = "stages/prepare/prepare.py"
READERS = {
    "stages/base/base.py",  # trains on them
    "stages/pseudo_labels/pseudo_labels.py",  # predicts masks for them, from which generators and segmenters learn
    "stages/segment/arm_options.py",  # mean teachers learn from them
    "stages/audit/training_images.py",  # searches for copies of them
    "stages/report/audit.py",  # shows those that synthetic images resemble
    "stages/report/identity.py",  # their hash
    "deploy/release/hashes.py",  # the hash of their manifest
}
DEPENDING = {"pseudo_labels", "base", "segment", "confirm", "audit", "report"}


def opening(path: Path) -> bool:
    """Whether a file names paths.unlabelled, or the folder as text."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    called = any(isinstance(node, ast.Attribute) and ast.unparse(node) == "paths.unlabelled" for node in nodes)
    imported = any(
        isinstance(node, ast.ImportFrom) and node.module == "pipeline.core.paths" and "unlabelled" in ast.unparse(node)
        for node in nodes
    )
    return called or imported


def test_nothing_else_opens_them() -> None:
    pipeline = REPOSITORY / "pipeline"
    found = {path.relative_to(pipeline).as_posix() for path in pipeline.rglob("*.py") if opening(path)}
    assert found == READERS | {WRITER}


def test_no_other_stage_depends_on_them() -> None:
    stages = read_yaml(REPOSITORY / "dvc.yaml")["stages"]
    place = paths.unlabelled("${study}").as_posix()
    assert {name for name, stage in stages.items() if place in stage["deps"]} == DEPENDING
    assert place in stages["prepare"]["outs"]
