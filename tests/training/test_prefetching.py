"""Batches that a thread makes in advance: the same as without it, one ahead, faults at their own step."""

import threading
from typing import Any

import pytest
import torch

from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, dihedral
from pipeline.training import prefetching
from pipeline.training.prefetching import batches_on_device
from tests.toy_training import Interrupted, pairs

ONE = Runtime.alone()


class Watched:
    """Batches that note which step was made, and by which thread."""

    def __init__(self) -> None:
        self.batches = Batches(pairs(), 4, "t", dihedral)
        self.made: list[tuple[int, int]] = []
        self.ready = {step: threading.Event() for step in range(9)}

    def batch(self, step: int, rank: int, world: int) -> Any:
        self.made.append((step, threading.get_ident()))
        self.ready[step].set()
        return self.batches.batch(step, rank, world)


def test_batches_made_ahead_are_the_same() -> None:
    plain, ahead = (
        list(batches_on_device(Batches(pairs(), 4, "t", dihedral), range(2, 9), ONE, ahead)) for ahead in (False, True)
    )
    assert [step for step, _ in plain] == [step for step, _ in ahead] == list(range(2, 9))
    for (_, ours), (_, theirs) in zip(plain, ahead, strict=True):
        assert ours.streams == theirs.streams
        assert torch.equal(ours.image, theirs.image) and torch.equal(ours.mask, theirs.mask)


def test_a_thread_makes_one_batch_ahead_and_no_more() -> None:
    batches = Watched()
    for step, _ in batches_on_device(batches, range(4), ONE, ahead=True):  # type: ignore[arg-type]
        following = min(step + 1, 3)
        assert batches.ready[following].wait(60)
        assert [made for made, _ in batches.made] == list(range(following + 1))
    assert {thread for _, thread in batches.made} != {threading.get_ident()}


def test_on_a_cpu_each_batch_is_made_when_it_is_asked_for() -> None:
    batches = Watched()
    for step, _ in batches_on_device(batches, range(3), ONE):  # type: ignore[arg-type]
        assert batches.made == [(made, threading.get_ident()) for made in range(step + 1)]


@pytest.mark.parametrize("ahead", [False, True])
def test_a_fault_is_raised_at_its_own_step(ahead: bool) -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for step, _ in batches_on_device(Interrupted(Batches(pairs(), 4, "t"), 2), range(5), ONE, ahead):  # type: ignore[arg-type]
            seen.append(step)
    assert seen == [0, 1]


def test_the_thread_takes_the_device_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread starts with the first GPU, of which the threads of all processes would take a part."""
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for device in ("cpu", "cuda", "cuda:3"):
        prefetching._take(torch.device(device))
    assert taken == [torch.device("cuda:3")]


def test_no_steps_are_no_batches() -> None:
    assert list(batches_on_device(Watched(), range(3, 3), ONE, ahead=True)) == []  # type: ignore[arg-type]
