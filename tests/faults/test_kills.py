"""Kills: whenever a stage dies, the same command gives the files of an uninterrupted run, to the byte.

A kill counts after the stage's first file operation. Most kills strike forks at the k-th file operation, drawn from a
seeded stream, or after a random time; afterwards every file that is published must already be whole.
"""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults import launching, tally
from tests.faults.conftest import Clean, of_stage
from tests.faults.inside import Fault
from tests.faults.launching import KILLED, STAGES, copy, done, kill_tree, published, real, start
from tests.patience import HUNG

EACH, TRIES = 8, 8  # kills per stage by forks; starts that may end before their kill
SHARED = [name for name in KILLED if STAGES[name].shared]


def whole_or_absent(folder: Path, clean: Clean) -> None:
    """Nothing half-written under a published name."""
    half = {name for name, one in published(folder).items() if clean.hashes.get(name) != one}
    if half:
        tally.count("losses")
    assert not half


def survived(folder: Path, name: str, clean: Clean, ranks: int = 1) -> None:
    """The same command succeeds; all outputs are those of the uninterrupted run; nothing temporary is left."""
    done(folder, name, ranks)
    same(folder, clean)


def same(folder: Path, clean: Clean) -> None:
    found = published(folder)
    differing = sorted(name for name in {*found, *clean.hashes} if found.get(name) != clean.hashes.get(name))
    if differing:
        tally.count("losses")
    assert not differing
    assert launching.leftovers(folder) == []


def struck(folder: Path, name: str, clean: Clean, rng: random.Random, ranks: int = 1) -> None:
    """Starts the stage until a kill strikes it after its first progress; each start that ends too soon is undone."""
    share = 1.0
    for _ in range(TRIES):
        if rng.random() < 0.6:
            at = rng.randint(2, max(2, int(share * clean.operations[name])))
            run = start(folder, name, ranks, {0: Fault(kill_at=at)})
            killed = run.wait() == -signal.SIGKILL
        else:
            run = start(folder, name, ranks)
            run.wait_for_progress()
            time.sleep(rng.uniform(0, 0.8 * share * clean.seconds[name]))
            run.kill()
            killed = run.processes[0].exitcode == -signal.SIGKILL
        if killed and run.wait_for_progress():
            tally.count("kills")
            return
        assert "error" not in run.text, run.text
        launching.forget(folder, name)
        share /= 2
    pytest.fail(f"{name} ended before every kill")


def prior(folder: Path, name: str, rng: random.Random) -> None:
    """Sometimes the stage's outputs are there already, and it has to replace them."""
    if rng.random() < 0.7:
        launching.forget(folder, name)


def kills(clean: Clean, folder: Path, name: str, seed: int, ranks: int = 1, count: int = 1) -> None:
    rng = random.Random(f"{name}/{seed}/{ranks}")
    study = copy(clean.folder, folder / "study", linked=True)
    prior(study, name, rng)
    for _ in range(count):
        struck(study, name, clean, rng, ranks)
        whole_or_absent(study, clean)
    survived(study, name, clean, ranks)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["prepare", "mix_real"])
def test_a_cheap_stage_survives_kills(begun: Clean, tmp_path: Path, name: str) -> None:
    kills(begun, tmp_path, name, seed=0, count=2)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("seed", range(EACH))
@pytest.mark.parametrize("name", KILLED)
def test_one_process_survives_a_kill(whole_study: Clean, tmp_path: Path, name: str, seed: int) -> None:
    kills(whole_study, tmp_path, name, seed)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.dist
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SHARED)
def test_two_processes_survive_a_kill(whole_study: Clean, tmp_path: Path, name: str, seed: int) -> None:
    clean = by_two(whole_study, tmp_path, name) if name == "finetune" else whole_study
    kills(clean, tmp_path, name, seed, ranks=2)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.dist
@pytest.mark.parametrize("name", SHARED)
def test_one_of_two_processes_dies_and_takes_the_other_with_it(whole_study: Clean, tmp_path: Path, name: str) -> None:
    clean = by_two(whole_study, tmp_path, name) if name == "finetune" else whole_study
    study, rng = copy(clean.folder, tmp_path / "study", name, linked=True), random.Random(name)
    run = start(study, name, ranks=2)
    assert run.wait_for_progress()
    time.sleep(rng.uniform(0, 0.3 * clean.seconds[name]))
    run.processes[1].kill()
    assert run.wait() != 0, "the first process reported success without the second"
    tally.count("kills")
    whole_or_absent(study, clean)
    survived(study, name, clean, ranks=2)


def by_two(whole: Clean, folder: Path, name: str) -> Clean:
    """The study after an uninterrupted run of two processes: the sums of a training by two are rounded differently."""
    study = copy(whole.folder, folder / "two", name, linked=True)
    done(study, name, ranks=2)
    return Clean(study, published(study), whole.seconds, whole.operations)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", KILLED)
def test_the_real_command_survives_a_kill(whole_study: Clean, tmp_path: Path, name: str) -> None:
    killed_command(whole_study, tmp_path, name, 1)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.dist
@pytest.mark.parametrize("name", ["generate", "segment"])
def test_the_real_launch_of_two_processes_survives_a_kill(whole_study: Clean, tmp_path: Path, name: str) -> None:
    killed_command(whole_study, tmp_path, name, 2)


def killed_command(clean: Clean, folder: Path, name: str, ranks: int) -> None:
    study, rng = copy(clean.folder, folder / "study", name, linked=True), random.Random(f"real/{name}/{ranks}")
    for share in (0.5, 0.2, 0.0):
        command, limit = real(study, name, ranks), time.monotonic() + HUNG
        while not has_worked(study, name) and command.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, share * clean.seconds[name]))
        over = command.poll() is not None
        kill_tree(command)
        if not over:
            break
        launching.forget(study, name)
    assert not over, f"{name} ended before it could be killed"
    tally.count("kills")
    whole_or_absent(study, clean)
    again = real(study, name, ranks)
    assert again.wait(HUNG) == 0
    same(study, clean)


def has_worked(study: Path, name: str) -> bool:
    """Whether the stage has written a file of its work or its outputs."""
    works = (path for pattern in STAGES[name].works for path in (study / "work").glob(pattern))
    return any(works) or bool(of_stage(published(study), name)) or bool(launching.leftovers(study))


@pytest.mark.faults
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_cheap_stage_goes_on_after_being_asked_to_stop(begun: Clean, tmp_path: Path, sent: signal.Signals) -> None:
    asked(begun, tmp_path, "prepare", sent, 0.0)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", KILLED)
def test_a_stage_goes_on_after_being_asked_to_stop(
    whole_study: Clean, tmp_path: Path, name: str, sent: signal.Signals
) -> None:
    asked(whole_study, tmp_path, name, sent, 0.3)


def asked(clean: Clean, folder: Path, name: str, sent: signal.Signals, share: float) -> None:
    study, rng = copy(clean.folder, folder / "study", name, linked=True), random.Random(f"{name}/{sent}")
    for part in (share, share / 4, 0.0, 0.0):
        run = start(study, name)
        assert run.wait_for_progress(), run.text
        time.sleep(rng.uniform(0, part * clean.seconds[name]))
        run.kill(sent)
        status = run.wait()
        if status:
            break
        launching.forget(study, name)
    assert status in ((-signal.SIGTERM,) if sent == signal.SIGTERM else (130,)), run.text
    if sent == signal.SIGINT:
        assert "the same command goes on" in run.text and "Traceback" not in run.text
    whole_or_absent(study, clean)
    survived(study, name, clean)
