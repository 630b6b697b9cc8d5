"""Stages end with one readable line and the place of their log, whichever process of a launch fails."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import study
from pipeline.core import progress
from pipeline.core.errors import UserError
from pipeline.core.progress import Bar, advance_bar, track
from pipeline.stages import command
from pipeline.study import Params


def failing(_: Params) -> None:
    raise UserError("the mask of case_00001 is missing")


def broken(_: Params) -> None:
    raise ZeroDivisionError("by nothing\nand more")


def stopped(_: Params) -> None:
    raise KeyboardInterrupt


def slow(_: Params) -> None:
    for _number in track(range(3), "counting"):
        pass


LOG = Path("work/logs/test_stage_command.log")


@pytest.fixture(autouse=True)
def a_study(toy_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(study, "load_params", lambda: toy_params)
    monkeypatch.chdir(tmp_path)
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:], logging.root.level = handlers, level


def test_the_first_process_tells_at_once_and_names_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(SystemExit) as ended:
        command.run(failing, None, argv=[])
    assert ended.value.code == 2
    assert waits == []
    assert capsys.readouterr().err == f"error: the mask of case_00001 is missing\nlog: {LOG}\n"
    assert LOG.read_text() == "error: the mask of case_00001 is missing\n"


def test_another_process_waits_before_it_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher ends it in that time where the first process has failed too."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setitem(os.environ, "RANK", "1")
    with pytest.raises(SystemExit):
        command.run(failing, None, argv=[])
    assert waits == [command.PATIENCE]
    told = capsys.readouterr().err
    assert told.startswith("process 1: error: the mask of case_00001 is missing\n")
    assert told.endswith("test_stage_command_process1.log\n")


def test_what_nobody_foresaw_is_one_line_and_its_traceback_is_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(broken, None, argv=[])
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "test_stage_command failed" in told
    assert "ZeroDivisionError: by nothing)" in told
    assert "Traceback" not in told
    assert "Traceback" in LOG.read_text()
    assert "in broken" in LOG.read_text()


def test_a_stopped_stage_says_how_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(stopped, None, argv=[])
    assert ended.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_progress_is_lines_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setattr(progress, "QUIET", 0.0)
    command.run(slow, None, argv=[])
    lines = LOG.read_text().splitlines()
    assert [line.split(" counting ")[1].split(" | ")[0] for line in lines] == ["1/3", "2/3", "3/3"]
    assert lines[-1].endswith("| 0 s left")


def test_a_step_of_more_than_five_seconds_has_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Twelve items of 2 s: the first line at 6 s, the next one 15 s later."""
    clock = iter(range(0, 100, 2))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    with caplog.at_level(logging.INFO, progress.steps.name):
        assert list(track(range(12), "counting")) == [*range(12)]
    assert caplog.messages == ["counting 3/12 | 18 s left", "counting 11/12 | 2 s left"]


def test_a_folder_that_cannot_be_written_costs_the_log_only(capsys: pytest.CaptureFixture[str]) -> None:
    Path("work").write_text("a file where the folder should be")
    with pytest.raises(SystemExit):
        command.run(failing, None, argv=[])
    assert capsys.readouterr().err == "error: the mask of case_00001 is missing\n"


def nested(_: Params) -> None:
    for _number in track(range(2), "outer"):
        for _part in track(range(4), "inner"):
            pass
        advance_bar(0.25)  # as a training inside does


def test_what_runs_inside_moves_the_bar_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setattr(progress, "QUIET", 0.0)
    command.run(nested, None, argv=[])
    lines = [line.split(" | ")[0].split(" ")[-2:] for line in LOG.read_text().splitlines()]
    assert [place for name, place in lines if name == "inner"] == ["1/4", "2/4", "3/4", "4/4"] * 2
    outer = [place for name, place in lines if name == "outer"]
    told = "0.2 0.5 0.8 1.0 0.2 1 1.2 1.5 1.8 2.0 1.2 2"
    assert outer == [f"{done}/2" for done in told.split()]
    assert Bar.open == []
