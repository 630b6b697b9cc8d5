"""The machine that the tests run on: told at the start of a run, so that a report from elsewhere can be read."""

import os
import platform
import re
from pathlib import Path

import psutil

CPUINFO, CONFINED = Path("/proc/cpuinfo"), Path("/sys/fs/cgroup/memory.max")
# Only those that decide which kernels the libraries take.
FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve", "bf16")
VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")
PER_WORKER, MOST = 2.5e9, 8  # bytes that a worker with its children needs; workers


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """Bytes of the machine, or of the container that the process is confined to; and those that are free."""
    told, found = CONFINED.read_text().strip() if CONFINED.is_file() else "", psutil.virtual_memory()
    whole = min(found.total, int(told)) if told.isdecimal() else found.total
    return whole, min(whole, found.available)


def workers() -> int:
    """One for each core, fewer where memory is short."""
    return max(1, min(cores(), int(memory()[1] / PER_WORKER), MOST))


def described(running: int) -> list[str]:
    """Processor, resources and versions, in three lines; `running` workers, 0 for none."""
    import torch  # not needed by workers() and whoever else imports this

    name, flags = processor()
    told = [f"processor: {name}", f"flags: {' '.join(flags) or 'unknown'}"]
    told.append(f"torch uses {torch.backends.cpu.get_cpu_capability()}")
    told += [f"{variable}={os.environ[variable]}" for variable in VARIABLES if variable in os.environ]
    shared = f"{running or 'no'} worker{'s' * (running != 1)}, threads per process: {torch.get_num_threads()}"
    whole, free = memory()
    return [
        "; ".join(told),
        f"resources: {cores()} of {os.cpu_count()} cores, {shared}, {whole / 1e9:.1f} GB of memory"
        f" ({free / 1e9:.1f} free)",
        f"versions: Python {platform.python_version()}, torch {torch.__version__}, {platform.platform()}",
    ]


def processor() -> tuple[str, list[str]]:
    """Its name and those of its instruction sets that matter, where the system tells them."""
    text = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    told = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    has = set(told[1].split()) if told else set()
    return name[1] if name else platform.processor() or platform.machine(), [flag for flag in FLAGS if flag in has]
