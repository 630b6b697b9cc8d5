"""The positive control of the membership attacks: they find a generator overfitted on purpose, and no other one."""

from pathlib import Path

import pytest

from benchmarks import membership_control


@pytest.mark.slow
def test_an_overfitted_generator_is_found_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = membership_control.run(0, membership_control.CASES)
    losses = {name: next(a for a in record["attacks"] if a["score"] == "loss") for name, record in found.items()}
    assert losses["few"]["auc"] >= 0.9
    assert losses["few"]["low"] > max(losses["brief"]["high"], losses["many"]["high"])
    assert abs(losses["many"]["auc"] - 0.5) < 0.1
