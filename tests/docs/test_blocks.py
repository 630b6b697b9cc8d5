"""Every block of the documentation that is marked runnable is run as a reader would, in a fresh copy of the repository.

The mark stands above the fence: `<!-- runnable -->`, or `<!-- runnable: slow my_data then -->`: with the slow tests,
with the files of that name (tests/reader_files.py), after the page's runnable block before it. A block must end with
status 0, or with `status_1`; one that is `served` waits for Ctrl-C, which it gets. In the tutorial and the how-to
guides, a block of commands that cannot run on every machine says why: `<!-- not run: needs eight GPUs -->`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.pages import PAGES, Block, blocks, listed_pages
from tests.patience import HUNG, HUNG_LONG
from tests.reader_files import NEEDS

RUNNABLE = [block for page in PAGES for block in blocks(page) if block.mark == "runnable"]
COMMANDS = ("sh", "bash", "shell", "console")
RUN = {"sh": ["sh", "-eu"], "python": [sys.executable, "-"]}


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


def surroundings(folder: Path) -> dict[str, str]:
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
    for need in sorted(block.words & set(NEEDS)):
        NEEDS[need](folder)
    ended = run(block, folder)
    assert ended.returncode == int("status_1" in block.words), (
        f"{block}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    )


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """The block's commands in this folder, as they ended."""
    if "served" in block.words:
        return serve(block, folder)
    return subprocess.run(
        RUN[block.language],
        cwd=folder,
        env=surroundings(folder),
        input=commands(block),
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_LONG if "slow" in block.words else HUNG,
    )


def serve(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """The same, of commands that serve a page: they get Ctrl-C once they have said that it stops them."""
    script = ["sh", "-euc", f"trap : INT\n{commands(block)}"]  # the shell lives on and ends with the command's status
    piped, surrounding = subprocess.PIPE, surroundings(folder) | {"BROWSER": "true"}
    process = subprocess.Popen(
        script, cwd=folder, env=surrounding, stdout=piped, stderr=piped, text=True, start_new_session=True
    )
    said: list[str] = []
    try:
        assert process.stdout
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C"):
                pages = re.findall(r"http://\S+", "".join(said))
                urllib.request.urlopen(pages[0], timeout=HUNG).close()
                os.killpg(process.pid, signal.SIGINT)
        process.wait(HUNG)
        assert process.stderr
        return subprocess.CompletedProcess(script, process.returncode, "".join(said), process.stderr.read())
    finally:
        process.kill()


def test_marks_are_understood() -> None:
    assert RUNNABLE
    assert {block.language for block in RUNNABLE} <= set(RUN)
    assert set(chain.from_iterable(block.words for block in RUNNABLE)) <= {"slow", "then", "served", "status_1", *NEEDS}


@pytest.mark.parametrize("part", ["tutorial", "how_to"])
def test_every_command_is_run_or_says_why_not(part: str) -> None:
    found = [block for page in listed_pages(part) for block in blocks(page) if block.language in COMMANDS]
    assert len(found) > 10
    assert [str(block) for block in found if block.mark not in ("runnable", "not run")] == []
    assert [str(block) for block in found if block.mark == "not run" and len(block.reason.split()) < 2] == []
