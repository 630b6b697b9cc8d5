"""The suite has teeth: without the rename, the flush, the fingerprint or the seals it finds what they prevent."""

import random
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.faults import tally
from tests.faults.conftest import Clean
from tests.faults.damage import flip
from tests.faults.inside import Fault
from tests.faults.launching import STUDY, copy, done, published, start

REPORT = f"outputs/{STUDY}/real_report.json"  # written to its place, not into a folder that is published


def half(clean: Clean, study: Path) -> set[str]:
    """Published files with other content than the clean run's."""
    return {name for name, one in published(study).items() if clean.hashes.get(name) != one}


def cut(clean: Clean, folder: Path, fault: Fault) -> set[str]:
    """What is half there after prepare and this fault; nothing: then the same command makes it whole."""
    study = copy(clean.folder, folder, "prepare")
    start(study, "prepare", faults=fault).wait()
    found = half(clean, study)
    if not found:
        done(study, "prepare")
        assert published(study) == clean.hashes
    return found


@pytest.mark.faults
def test_a_power_cut_loses_nothing_that_was_published(begun: Clean, tmp_path: Path) -> None:
    last = begun.operations["prepare"]
    for number, at in enumerate(random.Random("power").sample(range(last - 40, last), 3)):
        tally.count("kills")
        assert cut(begun, tmp_path / str(number), Fault(kill_at=at, power=True)) == set()
    assert cut(begun, tmp_path / "after", Fault(power=True)) == set()


@pytest.mark.faults
def test_without_the_flush_a_power_cut_is_found(begun: Clean, tmp_path: Path) -> None:
    assert cut(begun, tmp_path / "cut", Fault(power=True, without=("fsync",)))


@pytest.mark.faults
def test_without_the_rename_a_kill_is_found(begun: Clean, tmp_path: Path) -> None:
    study = copy(begun.folder, tmp_path / "uncut", "prepare")
    run = start(study, "prepare", faults=Fault(without=("rename",)))
    assert run.wait() == 0
    at = run.operations.index(REPORT) + 1
    assert cut(begun, tmp_path / "killed", Fault(kill_at=at, without=("rename",))) == {REPORT}
    tally.count("kills")
    assert cut(begun, tmp_path / "whole", Fault(kill_at=at)) == set()


@pytest.mark.faults
def test_without_the_fingerprint_another_study_is_resumed(begun: Clean, tmp_path: Path) -> None:
    """Killed with 18 training images, run again with 16: nothing of the 18 may be left."""
    fresh = with_train(copy(begun.folder, tmp_path / "fresh", "prepare"), 16)
    done(fresh, "prepare")
    for without, alike in (((), True), (("fingerprint",), False)):
        study = copy(begun.folder, tmp_path / f"killed{alike}", "prepare")
        fault = Fault(kill_at=begun.operations["prepare"] - 60, without=without)
        start(study, "prepare", faults=fault).wait()
        tally.count("kills", int(alike))
        done(with_train(study, 16), "prepare", fault=Fault(without=without))
        assert (published(study) == published(fresh)) == alike


def with_train(study: Path, images: int) -> Path:
    place = study / "params.yaml"
    params: dict[str, Any] = YAML(typ="safe").load(place)
    params["data"]["train"] = images
    YAML(typ="safe").dump(params, place)
    return study


@pytest.mark.faults
def test_without_the_seal_a_flipped_bit_goes_through(begun: Clean, tmp_path: Path) -> None:
    study = copy(begun.folder, tmp_path / "study", "mix_real")
    manifest = study / "outputs" / STUDY / "real" / "metadata.jsonl"
    content = manifest.read_bytes()
    flip(manifest, 8 * content.rindex(b"polyp", 0, content.index(b'"split": "train"')))  # in a prompt: still JSON
    tally.count("corruptions")
    refused = start(study, "mix_real")
    assert refused.wait() == 2
    assert str(manifest.relative_to(study)) in refused.text and "remove outputs" in refused.text
    assert start(study, "mix_real", faults=Fault(without=("seal",))).wait() == 0
    assert half(begun, study) - {str(manifest.relative_to(study))}
