"""The verdict of a finished study on several "machines": the grid trained again with other last bits.

The stages segment, confirm and compare run in temporary copies of the study's folder with one and two threads, in
float32 and bfloat16, and with the plain kernels of torch, so that sums run in other orders and precisions, as on other
processors. A processor without bfloat16 instructions rounds the operands instead (rounded_bf16). Nothing of the study
itself changes. Prints one JSON object, and a table on standard error; --keep copies the new tables, so that later rules
can judge them.

    python benchmarks/verdict_by_machine.py outputs/demo      # in the folder of params.yaml, after dvc repro
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

REPOSITORY = Path(__file__).parents[1]
AGAIN = ("segmentation", "confirmation", "comparison")  # outputs that every machine makes anew
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}  # two threads that spin are slow beside other work; no sum changes
MACHINES: Mapping[str, tuple[dict[str, Any], dict[str, str]]] = {  # name: keys of section segment, environment
    "1 thread, fp32": ({"threads": 1}, {}),
    "2 threads, fp32": ({"threads": 2}, PASSIVE),
    "1 thread, fp32, plain kernels": (
        {"threads": 1},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX", "MKL_CBWR": "COMPATIBLE"},
    ),
    "1 thread, bf16": ({"threads": 1, "precision": "bf16"}, {}),
    "2 threads, bf16": ({"threads": 2, "precision": "bf16"}, PASSIVE),
}


def main() -> None:
    """Reads the arguments, trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path, help="folder of a finished study below outputs/")
    parser.add_argument("--machine", action="append", choices=list(MACHINES), help="only this one; repeatable")
    parser.add_argument("--keep", type=Path, help="folder for the tables of each machine")
    arguments = parser.parse_args()
    rows = {}
    for name in arguments.machine or MACHINES:
        rows[name] = verdict(arguments.outputs, *MACHINES[name], arguments.keep and arguments.keep / name)
        sys.stderr.write(f"| {name} | {rows[name]['sentence']} |\n")
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


def verdict(
    outputs: Path, segment: Mapping[str, Any], environment: Mapping[str, str], keep: Path | None
) -> dict[str, Any]:
    """Trains the grid on one machine, copies its tables to `keep` and returns what the study says."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_study(outputs, folder, segment)
        params = YAML(typ="safe", pure=True).load(folder / "params.yaml")
        for name in params["segmenters"]:
            run(folder, environment, "segment.py", "--segmenter", name)
        for stage in ("confirm.py", "compare.py"):
            run(folder, environment, stage)
        made = folder / "outputs" / outputs.name
        found = json.loads((made / "comparison" / "comparison.json").read_text("utf-8"))
        if keep:
            for name in AGAIN:
                shutil.copytree(made / name, keep / name, dirs_exist_ok=True)
    arms = {arm["training_set"]: [arm["dice"], arm["verdict"]] for arm in found["arms"]}
    return {"sentence": found["verdict"], "headline": found["headline"], "arms": arms}


def copy_study(outputs: Path, folder: Path, segment: Mapping[str, Any]) -> None:
    """Links the outputs that stay and writes params.yaml with other keys of the section segment."""
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["segment"].update(segment)
    yaml.dump(params, folder / "params.yaml")
    shutil.copy("dvc.yaml", folder)
    own = folder / "outputs" / outputs.name
    own.mkdir(parents=True)
    for path in outputs.resolve().iterdir():
        if path.name not in AGAIN:
            (own / path.name).symlink_to(path)
    for name in ("weights", "data"):
        if Path(name).exists():
            (folder / name).symlink_to(Path(name).resolve())


def run(folder: Path, environment: Mapping[str, str], stage: str, *options: str) -> None:
    """Runs one stage as DVC would; its output is shown only if it fails."""
    command = [sys.executable, str(REPOSITORY / "stages" / stage), *options]
    folders = [REPOSITORY] if has_bf16() else [REPOSITORY / "benchmarks" / "rounded_bf16", REPOSITORY]
    values = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), **environment}
    done = subprocess.run(command, cwd=folder, env=values, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{stage} failed: {done.stderr[-2000:]}")


def has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16; only Linux is asked."""
    processor = Path("/proc/cpuinfo")
    return processor.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor.read_text("utf-8").split())


if __name__ == "__main__":
    main()
