"""Stages end with one readable error, whichever process of a launch meets it."""

import os
import time

import pytest

from pipeline import commands, params
from pipeline.errors import UserError
from pipeline.params import Params


def failing(_: Params) -> None:
    raise UserError("the mask of case_00001 is missing")


@pytest.fixture(autouse=True)
def a_study(toy_params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(params, "load_params", lambda: toy_params)


def test_the_first_process_tells_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        commands.run(failing, None, argv=[])
    assert ended.value.code == 2
    assert time.monotonic() - started < commands.PATIENCE / 2
    assert capsys.readouterr().err == "error: the mask of case_00001 is missing\n"


def test_another_process_waits_before_it_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher ends it in that time where the first process has failed too."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setitem(os.environ, "RANK", "1")
    with pytest.raises(SystemExit):
        commands.run(failing, None, argv=[])
    assert waits == [commands.PATIENCE]
    assert capsys.readouterr().err == "error in process 1: the mask of case_00001 is missing\n"
