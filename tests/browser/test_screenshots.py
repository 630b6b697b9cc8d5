"""One script takes all screenshots of the documentation from one finished study."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from pipeline.data.sample import DatasetSpec
from pipeline.stages.report.page import write_report
from pipeline.study import Params
from tests.conftest import REPOSITORY
from tests.finished_study import leave_results
from tests.patience import HUNG
from tests.toy_outputs import write_toy_outputs

pytestmark = pytest.mark.browser
SCRIPT = REPOSITORY / "docs" / "figures" / "screenshots.py"
LARGEST = 500_000  # bytes


def test_the_script_takes_every_screenshot(chromium: Browser, toy_study: Params, spec: DatasetSpec) -> None:
    leave_results()
    write_report(toy_study)
    write_toy_outputs(toy_study, spec)
    Path("dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, SCRIPT, "--to", "taken"], check=True, timeout=HUNG, env=environment)
    expected = {"report.png", "report_arms.png", "report_scores.png", "report_copies.png", "rating.png", "try.png"}
    taken = {path.name: path for path in Path("taken").iterdir()}
    assert expected <= set(taken)
    for path in taken.values():
        assert path.stat().st_size < LARGEST
        with Image.open(path) as picture:
            assert picture.width > 300
    assert not Path("ratings").exists()
    assert not Path("data").exists()


def test_every_screenshot_is_shown_and_by_this_name() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs").rglob("*.md"))
    taken = [path.name for path in (REPOSITORY / "docs").glob("*.png")]
    script = SCRIPT.read_text(encoding="utf-8")
    assert taken
    assert [name for name in taken if f"({name})" not in pages or f'"{name}"' not in script] == []
