"""Checks of GPUs and memory: the machine, what torch sees of it, what the study needs."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipeline.cli.counts import GeneratorCounts
from pipeline.cli.doctor.findings import Finding, error, errors, note, warning
from pipeline.cli.forecast import CPU_TFLOPS, GPU_TFLOPS, Machine, needed_memory, preset_machine
from pipeline.cli.launch import FOLDER as LAUNCHES
from pipeline.cli.launch import share
from pipeline.core import gpus as gpus_of_machine
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.stages.base.params import Base
from pipeline.stages.finetune.presets import chosen, leaves_open, load, sharding_of
from pipeline.stages.hardware import NO_GPU, refuse_large

DRIVER = Path("/proc/driver/nvidia/version")
BF16 = (8, 0)  # the first compute capability with bf16 arithmetic
USABLE = 0.9  # of a CPU machine's memory for one process


@dataclass(frozen=True)
class Hardware:
    """The machine as its system and torch report it."""

    driver: str | None  # NVIDIA's, where there is one
    torch: str
    cuda: str | None  # what torch was built for; None: a build for CPUs
    gpus: tuple[tuple[str, int, tuple[int, int]], ...]  # name, bytes, compute capability; of what torch sees
    memory: int  # bytes of the machine
    cores: int


def hardware() -> Hardware:
    """Return the hardware of this machine without starting a kernel; torch is loaded only beside a GPU's driver."""
    if not gpus_of_machine.has_driver():
        return Hardware(None, metadata.version("torch"), None, (), ram(), os.cpu_count() or 1)
    import torch

    numbers = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    properties = [torch.cuda.get_device_properties(number) for number in numbers]
    gpus = tuple((gpu.name, int(gpu.total_memory), (gpu.major, gpu.minor)) for gpu in properties)
    return Hardware(driver(), torch.__version__, torch.version.cuda, gpus, ram(), os.cpu_count() or 1)


def ram() -> int:
    """Return the bytes of memory of this machine, or of the container that the process is confined to."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(physical, int(text)) if text.isdecimal() else physical


def driver() -> str | None:
    """Return the version of NVIDIA's driver; None where there is none."""
    if DRIVER.is_file():
        version = re.search(r"\s(\d+\.\d[\d.]*)\s", DRIVER.read_text(encoding="utf-8", errors="replace"))
        return version[1] if version else "of unknown version"
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip().partition("\n")[0] or None


def machine(hardware: Hardware, launch: str | None = None, batch: int | None = None) -> Machine:
    """Return this machine for a forecast: by the preset in the environment, else by its GPUs, else by its CPU.

    `batch` is the global batch, which the GPUs must share evenly where no launch says how many they are.
    """
    if (name := chosen()) is not None:
        return preset_machine(name, load(name))
    if hardware.gpus:
        devices = max(1, min(processes(launch) or share(len(hardware.gpus), batch), len(hardware.gpus)))
        smallest = min(size for _, size, _ in hardware.gpus)
        return Machine("this machine", devices, smallest, GPU_TFLOPS, sharding_of(launch or ""))
    return Machine("this machine (CPU)", 1, hardware.memory, CPU_TFLOPS * hardware.cores)


def processes(launch: str | None) -> int | None:
    """Return how many processes a launch file starts on each machine; None: no such file."""
    path = LAUNCHES / f"{launch}.yaml"
    if launch is None or not path.is_file():
        return None
    config = read_yaml(path)
    return int(config["num_processes"]) // int(config.get("num_machines", 1))


def gpus(precisions: Collection[str], hardware: Hardware, launch: str | None) -> Iterator[Finding]:
    """Find a driver that torch cannot use, a launch with more GPUs than there are, precisions that a GPU lacks."""
    if hardware.driver and not hardware.gpus:
        yield from _unusable_driver(hardware)
    elif not hardware.gpus:
        yield note("gpu", "there is no GPU; everything runs on the CPU", "fine for the demo; see twinsynth estimate")
    if launch is not None:
        yield from _launch(launch, hardware)
    old = [name for name, _, capability in hardware.gpus if capability < BF16]
    if old and "bf16" in precisions:
        yield warning("gpu", f"{old[0]} has no bf16 arithmetic", "set precision: fp32, or use a GPU of 2020 or later")


def _unusable_driver(hardware: Hardware) -> Iterator[Finding]:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        yield warning("gpu", f"CUDA_VISIBLE_DEVICES is {hidden!r}, so no GPU is seen", "unset it to use the GPU")
    elif hardware.cuda is None:
        message = f"there is an NVIDIA driver ({hardware.driver}), but torch {hardware.torch} is built for CPUs"
        yield error(
            "gpu", message, "install torch for CUDA (its site names the command), or hide the GPU from this check"
        )
    else:
        message = (
            f"the NVIDIA driver ({hardware.driver}) does not serve torch {hardware.torch}, built for CUDA"
            f" {hardware.cuda}"
        )
        yield error("gpu", message, "update the driver, or install torch for an older CUDA")


def _launch(launch: str, hardware: Hardware) -> Iterator[Finding]:
    count = processes(launch)
    if count is None:
        available = ", ".join(sorted(path.stem for path in LAUNCHES.glob("*.yaml")))
        yield error("launch", f"LAUNCH is {launch!r}; there is no such file in {LAUNCHES}", f"choose of: {available}")
    elif not read_yaml(LAUNCHES / f"{launch}.yaml").get("use_cpu") and count > len(hardware.gpus):
        message = f"LAUNCH={launch} starts {count} processes on GPUs, but torch sees {len(hardware.gpus)}"
        yield error("launch", message, "choose a launch for this machine (cpu, gpu1), or free the GPUs")


def large_base(base: Base | None, study: str, hardware: Hardware) -> Iterator[Finding]:
    """Find a base that the stages refuse to run on a CPU."""
    if base is None or hardware.gpus:
        return
    try:
        refuse_large(base, study, NO_GPU)
    except UserError as fault:
        yield from errors("gpu", str(fault), "see docs/distribution.md")


def memory(hardware: Hardware, launch: str | None, heaviest: Sequence[GeneratorCounts]) -> Iterator[Finding]:
    """Compare fine-tuning of the heaviest entry with a GPU's memory, or with the machine's where there is no GPU."""
    if not heaviest:
        return
    params = heaviest[0].params
    target = machine(hardware, launch, params.finetune.global_batch)
    settings, available = target.settings(params.finetune), target.memory if hardware.gpus else USABLE * target.memory
    needed = needed_memory(heaviest, settings, target.devices, target.sharding)
    if needed is None or needed[1] <= available:
        return
    from pipeline.stages.finetune.memory import GeneratorProfiler, check_fits, described, lighter_settings

    profiler = GeneratorProfiler(params, needed[0].name)
    if hardware.gpus and chosen() is None and leaves_open(params.finetune):
        lighter = lighter_settings(profiler, settings, available, target.devices, target.sharding)
        if lighter is not None:
            yield note("memory", f"fine-tuning fits the GPU with {described(lighter)}, which it will take", "nothing")
            return
    try:
        check_fits(profiler, settings, available, target.devices, target.sharding)
    except UserError as fault:
        where = "the GPU" if hardware.gpus else "this machine without a GPU"
        yield from (error("memory", f"{f.found} ({where})", f.advice) for f in errors("memory", str(fault), ""))
