"""Count the studies that `twinsynth init` writes for a CPU, once and for all.

`python benchmarks/shipped_counts.py` writes pipeline/cli/counts.json, from which `twinsynth estimate` and `doctor` then
answer without loading torch. Run it after a change of networks or of parameters; tests/cli/test_kept_counts.py asks.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from ruamel.yaml import YAML

from pipeline.cli import kept_counts
from pipeline.cli.forecast import CPU_TFLOPS, GIB, Machine, forecast, preset_machine
from pipeline.cli.init_study.writing import FOLDER
from pipeline.core import files
from pipeline.core.section import parse
from pipeline.stages.finetune import presets
from pipeline.study import Params

SIZES = (64, 96)  # that init chooses from without a GPU
PAIRS = 160


def main() -> None:
    """Write the file."""
    files.write_json(kept_counts.SHIPPED, counted(map(written_study, SIZES)))


def written_study(size: int) -> Params:
    """Return the study of two classes that init writes for a CPU at a size, whatever the data."""
    data = f"  reader: paired_folders\n  root: .\n  size: {size}\n  num_classes: 2\n  prompt: A medical image."
    values = {"name": "counted", "title": "any", "seen": "#", "threads": 1, "data": data, "batch": 16, "half": 32}
    text = Template((FOLDER / "cpu.yaml.txt").read_text(encoding="utf-8")).substitute(values)
    return parse(Params, YAML(typ="safe", pure=True).load(text))


def counted(studies: Iterable[Params]) -> dict[str, Any]:
    """Return all counts of the studies, on a CPU and under every preset, made anew."""
    folder, shipped = kept_counts.FOLDER, kept_counts.shipped
    machines = [preset_machine(name, presets.load(name)) for name in presets.names()]
    with tempfile.TemporaryDirectory() as place:
        kept_counts.FOLDER, kept_counts.shipped = Path(place), dict
        try:
            for params in studies:
                forecast(params, [Machine("CPU", 1, GIB, CPU_TFLOPS), *machines], PAIRS)
        finally:
            kept_counts.FOLDER, kept_counts.shipped = folder, shipped
        return {path.stem.rpartition("-")[0]: files.read_json(path) for path in sorted(Path(place).iterdir())}


if __name__ == "__main__":
    main()
