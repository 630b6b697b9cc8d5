"""What compare reads of a confirmation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.stages.compare.confirmation import read_confirmation
from pipeline.stages.confirm.choice import publish_none

FOLDER = paths.confirmation("toy")
CHOICE = {
    "segmenter": "unet",
    "training_sets": ["siamese_x2", "siamese_b_x2"],
    "reference": "real",
    "seeds": [101, 100],
}
SETS = ("real", "siamese_x2", "siamese_b_x2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest of a real set whose test images belong to one patient."""
    monkeypatch.chdir(tmp_path)
    images = [{"id": "a", "split": "val"}, {"id": "b", "split": "test", "group": "p"}]
    lines = "".join(f'{{"id": "{row["id"]}", "group": "{row.get("group", "")}"}}\n' for row in images)
    files.write_bytes(paths.real("toy") / "metadata.jsonl", lines.encode())


def leave(**changes: Any) -> None:
    """A confirmation of two generators and two seeds; the Dice of seed 101 is 0.1 below 100's."""
    rows, cells = [], []
    for place, name in enumerate(SETS):
        for seed in (100, 101):
            unit = {"segmenter": "unet", "training_set": name, "seed": seed}
            cells.append(unit | {"device": "cpu", "torch": "2.15", "fingerprint": f"{name}{seed}"})
            for split, image in (("val", "a"), ("test", "b")):
                dice = 0.5 + 0.1 * place - 0.1 * (seed - 100)
                rows.append(unit | {"split": split, "test_set": "s", "image": image, "dice": dice, "iou": dice / 2})
    files.write_json(FOLDER / "choice.json", CHOICE | changes)
    files.write_json(FOLDER / "cells.json", cells)
    tables.write_table(FOLDER / "scores.csv", rows)


def test_no_confirmation_is_none() -> None:
    publish_none("toy")
    assert read_confirmation("toy") is None


def test_scores_come_by_training_set_and_fresh_seed() -> None:
    leave()
    found = read_confirmation("toy")
    assert found is not None
    choice, results = found
    assert choice == CHOICE
    assert results.seeds == ("101", "100") and results.clusters["test"] == ("p",)
    assert {name for name, *_ in results.tables} == set(SETS)
    for place, name in enumerate(SETS):
        assert np.allclose(results.tables[name, "test", "dice"], [[0.4 + 0.1 * place], [0.5 + 0.1 * place]])
    assert results.machines["real", "100"]["torch"] == "2.15"


def test_a_stage_that_has_not_run_is_named() -> None:
    with pytest.raises(UserError, match=r"toy/confirmation/choice.json does not exist; run the stage confirm"):
        read_confirmation("toy")


def test_a_missing_cell_is_named() -> None:
    leave(seeds=[100, 102])
    with pytest.raises(UserError, match=r"no score of real, seed 102, .*run the stage that makes it again"):
        read_confirmation("toy")


def test_a_damaged_confirmation_is_refused() -> None:
    leave()
    files.seal(FOLDER)
    (FOLDER / "choice.json").write_text('{"seeds": []}')
    with pytest.raises(UserError, match=r"choice.json is damaged and differs from what was published"):
        read_confirmation("toy")


def test_cells_of_two_machines_are_refused_with_the_stage_to_run() -> None:
    leave()
    cells = files.read_json(FOLDER / "cells.json")
    cells[-1]["device"] = "cuda"
    files.write_json(FOLDER / "cells.json", cells)
    with pytest.raises(UserError, match=r"seed 101: real was trained on cpu .*--single-item confirm`"):
        read_confirmation("toy")
