"""Runs a task in fresh processes that form one launch; a fault, a crash or a hang of one ends them all, in one line."""

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

import torch

from pipeline.core.runtime import Runtime


class FailedError(Exception):
    """Why a line of the check failed, in one line."""


class NotApplicableError(Exception):
    """Why a line of the check says nothing here."""


@dataclass(frozen=True)
class Launch:
    """How many processes run a task, and where."""

    world: int = 1
    on_cpu: bool = False
    sharding: Literal["none", "fsdp2", "zero2"] = "none"
    patience: float = 900.0  # seconds until a task counts as hung
    library_timeout: float | None = None  # seconds that the collectives' libraries would wait by themselves


def run(launch: Launch, task: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `task` with each process's Runtime and the arguments; return the answers in the order of ranks.

    Raises FailedError with what the first process to fail said, and NotApplicableError where the task raises it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.gpu_check.one_process", "benchmarks.gpu_check.several_processes"])
    port, receivers, processes = _free_port(), [], []
    try:
        for rank in range(launch.world):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_join, args=(sender, launch, rank, port, task, arguments))
            process.start()
            sender.close()
            receivers.append(receiver)
            processes.append(process)
        return _answers(receivers, launch.patience)
    finally:
        for process in processes:
            process.kill()
            process.join()


def run_here(task: Callable[..., Any], *arguments: Any) -> Any:
    """Call `task` on the CPU in this process: a toy needs no protection, and is warm after the first line.

    Raises as `run`.
    """
    try:
        return task(Runtime.alone(1, torch.device("cpu")), *arguments)
    except (FailedError, NotApplicableError):
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        raise FailedError(one_line(error)) from error


def _answers(receivers: list[Connection], patience: float) -> list[Any]:
    answers: dict[int, Any] = {}
    until = time.monotonic() + patience
    while len(answers) < len(receivers):
        silent = [receiver for rank, receiver in enumerate(receivers) if rank not in answers]
        ready = wait(silent, max(0.0, until - time.monotonic()))
        if not ready:
            raise FailedError(f"no answer within {patience:.0f} s")
        for receiver in ready:
            assert isinstance(receiver, Connection)
            answers[receivers.index(receiver)] = _answer(receiver)
    return [answers[rank] for rank in range(len(receivers))]


def _answer(receiver: Connection) -> Any:
    try:
        error, value = receiver.recv()
    except EOFError:
        raise FailedError("a process died without a word") from None
    if error is not None:
        raise error(value)
    return value


def _join(
    sender: Connection, launch: Launch, rank: int, port: int, task: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        answer = (None, task(_runtime(launch, rank, port), *arguments))
    except NotApplicableError as reason:
        answer = (NotApplicableError, str(reason))
    except BaseException as error:  # noqa: BLE001  (whatever it is, the check goes on with its next line)
        traceback.print_exc(file=sys.stderr)
        answer = (FailedError, one_line(error))
    sender.send(answer)


def one_line(error: BaseException) -> str:
    """Return class and first line of an error."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _runtime(launch: Launch, rank: int, port: int) -> Runtime:
    if launch.on_cpu:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    if launch.library_timeout is not None:
        library: Any = torch.distributed.distributed_c10d
        library.default_pg_timeout = library.default_pg_nccl_timeout = timedelta(seconds=launch.library_timeout)
    threads = 1 if launch.on_cpu else 4
    if launch.world == 1:
        return Runtime.alone(threads)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(launch.world), "LOCAL_WORLD_SIZE": str(launch.world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if launch.sharding == "fsdp2":
        os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    if launch.sharding == "zero2":
        os.environ |= {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}
    return Runtime.start(threads)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
