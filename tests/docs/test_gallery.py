"""One script draws the pictures of the gallery from a finished study, and the page shows all of them."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from pipeline.core import files, paths, tables
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.finished_study import write_audit
from tests.patience import HUNG
from tests.toy_outputs import ABSENT

DOCS = REPOSITORY / "docs"
LARGEST = 500_000  # bytes
NAMES = ["closest.png", "failures.png", "images.png", "masks.png"]


def test_the_script_draws_every_picture(toy_study: Params) -> None:
    files.write_json(Path("params.yaml"), TOY_STUDY | ABSENT)
    write_audit(paths.audit("toy", "siamese"))
    rows = [{"id": f"train_{n}_c0", "dice": n / 10} for n in range(8)]
    tables.write_table(paths.scores("toy", "siamese") / "images.csv", rows)
    command = [sys.executable, str(DOCS / "figures" / "gallery.py"), "--to", "drawn"]
    subprocess.run(command, check=True, timeout=HUNG, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert sorted(path.name for path in Path("drawn").iterdir()) == NAMES
    for path in Path("drawn").iterdir():
        with Image.open(path) as picture:
            assert picture.width > 500


def test_every_picture_is_small_and_shown() -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    kept = sorted((DOCS / "gallery").iterdir())
    assert [path.name for path in kept] == NAMES
    assert [path.name for path in kept if path.stat().st_size > LARGEST or f"(gallery/{path.name})" not in text] == []
