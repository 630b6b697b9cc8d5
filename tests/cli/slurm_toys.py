"""A study of five stages that shell commands make, and stand-ins for the commands of SLURM."""

import os
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import TOY_STUDY

GRAPH = """stages:
  first:
    cmd: sh -c 'echo first >> ran; mkdir -p outputs/${study}; cat data/in > outputs/${study}/first'
    deps: [data/in]
    params: [seed]
    outs: ["outputs/${study}/first"]
  each:
    matrix: {g: "${generators}"}
    cmd: >-
      sh -c 'echo each@${item.g} >> ran; mkdir outputs/${study}/${item.g};
      wc -c < outputs/${study}/first > outputs/${study}/${item.g}/n'
    deps: ["outputs/${study}/first"]
    params: ["generators.${item.g}"]
    outs: ["outputs/${study}/${item.g}"]
  last:
    cmd: sh -c 'echo last >> ran; cat outputs/${study}/*/n > outputs/${study}/last'
    deps: ["outputs/${study}/siamese", "outputs/${study}/controlnet", "outputs/${study}/first"]
    outs: ["outputs/${study}/last"]
"""
RESOURCES = """attempts: 2
defaults: {time: "00:10:00", cpus-per-task: 1}
stages:
  each: {gpus-per-node: 1, mem: 4G}
  each@siamese: {mem: 8G, exclusive: true, time: null}
"""
COMMANDS = {
    # the number of calls so far is the job's id; scripts that name the partition "absent" are refused
    "sbatch": """echo "$@" >> "$FAKE_SLURM/sbatch"
for script; do :; done
if grep -q "partition=absent" "$script"; then
    echo "sbatch: error: invalid partition specified: absent" >&2
    echo "sbatch: error: Batch job submission failed: Invalid partition name specified" >&2
    exit 1
fi
echo $((100 + $(wc -l < "$FAKE_SLURM/sbatch")))
""",
    "squeue": 'cat "$FAKE_SLURM/queue"\n',
    "scancel": 'echo "$@" >> "$FAKE_SLURM/scancel"\n',
    "scontrol": 'echo "$@" >> "$FAKE_SLURM/scontrol"\n',
    "sinfo": "echo debug; echo gpu\n",
}


def toy_checkout(folder: Path) -> Path:
    """Write the study into a folder, as a repository of DVC without git."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    (folder / "dvc.yaml").write_text(GRAPH)
    generators = {"siamese": {"copies": 2}, "controlnet": {"copies": 1}}
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(TOY_STUDY | {"generators": generators}, file)
    (folder / "data").mkdir()
    (folder / "data" / "in").write_text("twelve bytes")
    (folder / "configs" / "slurm").mkdir(parents=True)
    (folder / "configs" / "slurm" / "toy.yaml").write_text(RESOURCES)
    return folder


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-ins first on PATH; what they were called with, and what squeue shows, lies in the folder."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    for name, text in COMMANDS.items():
        (binaries / name).write_text(f"#!/bin/sh\n{text}")
        (binaries / name).chmod(0o755)
    (folder / "queue").touch()
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    return folder


def calls(folder: Path, command: str) -> list[str]:
    """Return the arguments of every call of a stand-in."""
    return (folder / command).read_text().splitlines() if (folder / command).exists() else []


def forget_outputs(folder: Path) -> None:
    """Remove everything that the toy stages and DVC made, the cache of runs too."""
    for name in ("outputs", "work", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("ran", "dvc.lock"):
        (folder / name).unlink(missing_ok=True)
