"""The notebook runs from its first cell to its last in the folder of a finished study; it is stored without outputs."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from pipeline.data.sample import DatasetSpec
from pipeline.study import Params
from tests.conftest import REPOSITORY
from tests.toy_outputs import write_toy_outputs

NOTEBOOK = REPOSITORY / "docs" / "notebooks" / "api.ipynb"


def cells() -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_runs(
    toy_study: Params, spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy_outputs(toy_study, spec)
    monkeypatch.setenv("MPLBACKEND", "agg")
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells()):
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    assert names["drawn"].shape == (4, 3, 32, 32)
    told = capsys.readouterr().out
    assert "study toy: 8 training pairs, 4 to test on, 32 pixels" in told
    assert "better +0.0" in told
    assert Path("params.yaml").is_file()


def test_the_notebook_is_stored_without_outputs() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells())
