"""The next batch is made and copied by a thread while the accelerator trains on this one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches


def batches_on_device(
    batches: Batches, steps: range, runtime: Runtime, ahead: bool | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield each step and this process's share of its batch, on the device.

    `ahead` makes one batch in advance, with the same numbers, for they follow from the names of streams; None: on an
    accelerator. A CPU trains on all its threads, so that a further one would gain nothing. What making a batch raises
    is raised at its own step.
    """

    def make(step: int) -> Any:
        return batches.batch(step, runtime.rank, runtime.world).to(runtime.device)

    if ahead is None:
        ahead = runtime.device.type != "cpu"
    if not ahead:
        yield from ((step, make(step)) for step in steps)
        return
    with ThreadPoolExecutor(1, "batches", _take, (runtime.device,)) as pool:
        upcoming = pool.submit(make, steps.start) if steps else None
        for step in steps:
            assert upcoming is not None
            batch = upcoming.result()
            upcoming = pool.submit(make, step + 1) if step + 1 in steps else None
            yield step, batch


def _take(device: torch.device) -> None:
    """Make a device the thread's own: it would pin memory for the first GPU, and take a part of that."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
