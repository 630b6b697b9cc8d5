"""Checks of GPUs and memory: what the machine has, what torch sees, what the study needs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, error, errors, note, warning
from pipeline.cli.forecast import CPU_TFLOPS, GPU_TFLOPS, Machine, alike, counted, of_preset
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.stages.finetune.presets import chosen, load, sharding_of
from pipeline.study import Params

LAUNCHES = Path("configs/accelerate")
DRIVER = Path("/proc/driver/nvidia/version")
BF16 = (8, 0)  # the first compute capability with bf16 arithmetic
SHARE = 0.9  # of a CPU machine's memory that one process may want


@dataclass(frozen=True)
class Hardware:
    """What the machine and torch tell of themselves."""

    driver: str | None  # NVIDIA's, where there is one
    torch: str
    cuda: str | None  # what torch was built for; None: a build for CPUs
    gpus: tuple[tuple[str, int, tuple[int, int]], ...]  # name, bytes, compute capability; of what torch sees
    memory: int  # bytes of the machine
    cores: int


def hardware() -> Hardware:
    """Looks; starts no kernel."""
    import torch

    found = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    shown = [torch.cuda.get_device_properties(number) for number in found]
    gpus = tuple((gpu.name, int(gpu.total_memory), (gpu.major, gpu.minor)) for gpu in shown)
    return Hardware(driver(), torch.__version__, torch.version.cuda, gpus, ram(), os.cpu_count() or 1)


def ram() -> int:
    """Bytes of this machine, or of the container that the process is confined to."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    told = limit.read_text().strip() if limit.is_file() else ""
    return min(whole, int(told)) if told.isdecimal() else whole


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    if DRIVER.is_file():
        told = re.search(r"\s(\d+\.\d[\d.]*)\s", DRIVER.read_text(encoding="utf-8", errors="replace"))
        return told[1] if told else "of unknown version"
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout.strip().partition("\n")[0] or None


def machine(found: Hardware, launch: str | None = None) -> Machine:
    """This machine for a forecast: its preset where the shell chooses one, its GPUs, else its CPU."""
    if (name := chosen()) is not None:
        return of_preset(name, load(name))
    if found.gpus:
        devices = max(1, min(processes(launch) or 1, len(found.gpus)))
        smallest = min(size for _, size, _ in found.gpus)
        return Machine("this machine", devices, smallest, GPU_TFLOPS, sharding_of(launch or ""))
    return Machine("this machine (CPU)", 1, found.memory, CPU_TFLOPS * found.cores)


def processes(launch: str | None) -> int | None:
    """How many processes a launch file starts on each machine; None: no such file."""
    path = LAUNCHES / f"{launch}.yaml"
    if launch is None or not path.is_file():
        return None
    told = read_yaml(path)
    return int(told["num_processes"]) // int(told.get("num_machines", 1))


def gpus(params: Params, found: Hardware, launch: str | None) -> Iterator[Finding]:
    """A driver that torch cannot use, a launch that asks for GPUs that are not there."""
    if found.driver and not found.gpus:
        yield from _unseen(found)
    elif not found.gpus:
        yield note("gpu", "there is no GPU; everything runs on the CPU", "fine for the demo; see twinsynth estimate")
    if launch is not None:
        yield from _launch(launch, found)
    sections = (params.finetune, params.generate, params.base)
    precisions = [section.precision for section in sections if section is not None] + [params.segment.precision]
    old = [name for name, _, capability in found.gpus if capability < BF16]
    if old and "bf16" in precisions:
        yield warning("gpu", f"{old[0]} has no bf16 arithmetic", "set precision: fp32, or use a GPU of 2020 or later")


def _unseen(found: Hardware) -> Iterator[Finding]:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        yield warning("gpu", f"CUDA_VISIBLE_DEVICES is {hidden!r}, so no GPU is seen", "unset it to use the GPU")
    elif found.cuda is None:
        told = f"there is an NVIDIA driver ({found.driver}), but torch {found.torch} is built for CPUs"
        yield error("gpu", told, "install torch for CUDA (its site names the command), or hide the GPU from this check")
    else:
        told = f"the NVIDIA driver ({found.driver}) does not serve torch {found.torch}, built for CUDA {found.cuda}"
        yield error("gpu", told, "update the driver, or install torch for an older CUDA")


def _launch(launch: str, found: Hardware) -> Iterator[Finding]:
    wanted = processes(launch)
    if wanted is None:
        there = ", ".join(sorted(path.stem for path in LAUNCHES.glob("*.yaml")))
        yield error("launch", f"LAUNCH is {launch!r}; there is no such file in {LAUNCHES}", f"choose of: {there}")
    elif not read_yaml(LAUNCHES / f"{launch}.yaml").get("use_cpu") and wanted > len(found.gpus):
        told = f"LAUNCH={launch} starts {wanted} processes on GPUs, torch sees {len(found.gpus)}"
        yield error("launch", told, "choose a launch for this machine (cpu, gpu1), or free the GPUs")


def memory(params: Params, found: Hardware, launch: str | None) -> Iterator[Finding]:
    """Fine-tuning of the heaviest entry against a GPU's memory, or the machine's where there is no GPU."""
    from pipeline.stages.finetune.memory import check_fits

    here = machine(found, launch)
    costs = [counted(params, names[0]) for names in alike(params).values()]
    heavy = max(((cost.late, place) for place, (_, cost) in enumerate(costs) if cost), default=None)
    if heavy is None:
        return
    subject, settings = costs[heavy[1]][0], here.settings(params.finetune)
    room = here.memory if found.gpus else SHARE * here.memory
    try:
        check_fits(subject, settings, room, here.devices, here.sharding)
    except UserError as fault:
        where = "the GPU" if found.gpus else "this machine without a GPU"
        yield from (error("memory", f"{f.found} ({where})", f.advice) for f in errors("memory", str(fault), ""))
