"""A generator without snapshots: the stage writes an empty table and loads no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.core import paths, tables
from tests.conftest import REPOSITORY, TOY_STUDY

RUN = """
import runpy, sys
script, sys.argv[1:] = sys.argv[1], sys.argv[2:]
runpy.run_path(script, run_name="__main__")
sys.exit("torch was loaded" if "torch" in sys.modules else 0)
"""


def test_a_generator_without_snapshots_gets_an_empty_table_without_torch(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(json.dumps(TOY_STUDY), encoding="utf-8")  # JSON is YAML
    name = next(iter(TOY_STUDY["generators"]))
    arguments = [sys.executable, "-c", RUN, str(REPOSITORY / "stages/snapshots.py"), "--generator", name]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    answer = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert tables.read_table(tmp_path / paths.snapshots("toy", name) / "steps.csv") == []
