"""The clock of a training: what restarts add up to, and what nobody has measured."""

from pathlib import Path

import pytest

from pipeline.training import clock as clocks
from pipeline.training.clock import Clock


class Time:
    """Stands in for the module time; the test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    moved = Time()
    monkeypatch.setattr(clocks, "time", moved)
    return moved


def test_a_restart_goes_on_where_its_checkpoint_was_saved(time: Time, tmp_path: Path) -> None:
    first = Clock(tmp_path / "seconds.json")
    first.start(0)
    for done in (10, 20):
        time.now += 3
        first.note(done)
    time.now += 500  # killed, and the machine was idle
    second = Clock(tmp_path / "seconds.json")
    second.start(10)  # the checkpoint of step 20 was lost
    time.now += 4
    second.note(20)
    assert (second.seconds(10), second.seconds(20), second.seconds(30)) == (3.0, 7.0, None)


def test_what_was_not_measured_is_not_made_up(time: Time, tmp_path: Path) -> None:
    """A checkpoint of a version that kept no time, and a damaged file."""
    late = Clock(tmp_path / "seconds.json")
    late.start(10)
    time.now += 4
    late.note(20)
    assert late.seconds(20) is None and not late.path.exists()
    late.start(0)
    late.note(10)
    late.path.write_text(late.path.read_text(encoding="utf-8").replace("10", "11"), encoding="utf-8")
    assert late.seconds(11) is None
