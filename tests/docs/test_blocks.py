"""Every block of the documentation that is marked runnable is run as a reader would, in a fresh copy of the repository.

The mark stands above the fence: `<!-- runnable -->`, or `<!-- runnable: slow my_data then -->`: with the slow tests,
with the data of that name, after the page's runnable block before it. A block must end with status 0.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data import phantom
from tests import exported
from tests.conftest import REPOSITORY
from tests.pages import PAGES, Block, blocks
from tests.patience import HUNG, HUNG_LONG

RUNNABLE = [block for page in PAGES for block in blocks(page) if block.mark == "runnable"]
RUN = {"sh": ["sh", "-eu"], "python": [sys.executable, "-"]}


def my_data(folder: Path) -> None:
    """24 pictures of different sizes in the layout that docs/your_own_data.md begins with."""
    for number in range(24):
        image, mask = phantom.draw(f"docs/{number}", 96 + number % 3, phantom.Difficulty(0.5, 2), instrument=False)
        for name, pixels in (("images", np.moveaxis(image, 0, -1)), ("masks", 255 * mask)):
            (folder / "data" / "mine" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "data" / "mine" / name / f"case{number}.png")


def toy_outputs(folder: Path) -> None:
    """The image sets of a finished study `toy`; params.yaml names it."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        exported.write_study()
    finally:
        os.chdir(here)
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(text.replace("study: demo", "study: toy"), encoding="utf-8")


NEEDS: Mapping[str, Callable[[Path], None]] = {"my_data": my_data, "toy_outputs": toy_outputs}


def parameters() -> list[object]:
    """One test per block; the slow ones have the marker of slow tests."""
    return [
        pytest.param(block, id=str(block), marks=[pytest.mark.slow] if "slow" in block.words else [])
        for block in RUNNABLE
    ]


def fresh_copy(target: Path) -> None:
    """The files that git knows, as they are now, in a repository of their own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, target / name)
    subprocess.run(["git", "init", "--quiet"], cwd=target, check=True)


def environment(folder: Path) -> dict[str, str]:
    """That of the tests; commands are found beside the interpreter, the package in the copy."""
    own = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    return {**os.environ, **own, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def commands(block: Block) -> str:
    """The text of a block, and before it that of the one which it goes on from."""
    if "then" not in block.words:
        return block.text
    return commands(RUNNABLE[RUNNABLE.index(block) - 1]) + block.text


@pytest.mark.parametrize("block", parameters())
def test_block_runs(block: Block, tmp_path: Path) -> None:
    folder = tmp_path / "twinsynth"
    fresh_copy(folder)
    for need in block.words & set(NEEDS):
        NEEDS[need](folder)
    ended = subprocess.run(
        RUN[block.language],
        cwd=folder,
        env=environment(folder),
        input=commands(block),
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_LONG if "slow" in block.words else HUNG,
    )
    assert ended.returncode == 0, f"{block}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"


def test_marks_are_understood() -> None:
    assert RUNNABLE
    assert {block.language for block in RUNNABLE} <= set(RUN)
    assert set(chain.from_iterable(block.words for block in RUNNABLE)) <= {"slow", "then", *NEEDS}
