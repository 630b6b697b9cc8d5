"""twinsynth submit and jobs with stand-ins for SLURM's commands: graph, scripts, states, attempts, errors.

tests/e2e/test_slurm_cluster.py runs a study under a real SLURM.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.cli.slurm import graph, job, planning, resources, scheduler, states, submission
from pipeline.cli.slurm.graph import Node
from pipeline.cli.slurm.submission import End
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from tests.cli.slurm_toys import calls, forget_outputs, install, toy_checkout

SUBMIT = ["submit", "--resources", "toy"]
NAMES = ["first", "each@controlnet", "each@siamese", "last", "commit"]
BY_HAND = """import os
from pipeline.cli.slurm import job
os.environ["JOB"], job.WAIT = str(os.getpid()), 0
raise SystemExit(job.main("first"))
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = toy_checkout(tmp_path / "study")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return folder


@pytest.fixture
def slurm(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path / "slurm", monkeypatch)


def run_jobs(names: list[str]) -> None:
    """Run submitted jobs as SLURM would, one after the other."""
    assert [job.main(name) for name in names] == [0] * len(names)


def ran() -> list[str]:
    return Path("ran").read_text().split() if Path("ran").exists() else []


def contents() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(Path("outputs").rglob("*")) if path.is_file()}


def planned(nodes: list[Node]) -> dict[str, tuple[str, ...]]:
    return {one.name: one.after for one in planning.plan(nodes, "toy", resources.Resources())}


def test_only_outdated_stages_get_jobs_and_wait_for_the_nearest() -> None:
    nodes = [
        Node("a", "make a", (), False),
        Node("b", "make b", ("a",), True),
        Node("c", "make c", ("a", "b"), True),
        Node("d", "make d", ("a", "b", "c"), True),
        Node("e", "make e", ("b",), True),
    ]
    assert planned(nodes) == {"b": (), "c": ("b",), "d": ("c",), "e": ("b",), "commit": ("d", "e")}
    assert planned(nodes[:1]) == {}


def test_dry_run_prints_graph_and_valid_scripts_without_slurm(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(study))
    assert main([*SUBMIT, "--dry-run", "--json"]) == 0
    jobs = {row["stage"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: set(row["after"]) for name, row in jobs.items()} == {
        "first": set(),
        "each@controlnet": {"first"},
        "each@siamese": {"first"},
        "last": {"each@siamese", "each@controlnet"},
        "commit": {"last"},
    }
    script = jobs["each@siamese"]["script"]
    assert script.startswith("#!/bin/bash\n#SBATCH --job-name=toy:each@siamese\n")
    assert {"#SBATCH --mem=8G", "#SBATCH --exclusive", "#SBATCH --gpus-per-node=1"} <= set(script.splitlines())
    assert "--time" not in script and "#SBATCH --time=00:10:00" in jobs["last"]["script"]
    checked = subprocess.run(["/bin/bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert not Path("work").exists() and not Path("dvc.lock").exists()
    assert main([*SUBMIT, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "last             after each@" in shown and "\n# first: sh -c 'echo first" in shown


def test_jobs_make_what_dvc_repro_makes_and_leave_it_nothing_to_run(study: Path, slurm: Path) -> None:
    subprocess.run([*graph.COMMAND, "repro", "-q"], check=True)
    expected, lock = contents(), read_yaml(Path("dvc.lock"))
    forget_outputs(study)
    assert main(SUBMIT) == 0
    sent = calls(slurm, "sbatch")
    assert sent[0] == "--parsable --hold work/slurm/scripts/first.sh"
    assert sent[1].split()[1] == sent[2].split()[1] == "--dependency=afterok:101"
    assert sent[3].split()[1:] == ["--dependency=afterok:102:103", "work/slurm/scripts/last.sh"]
    assert calls(slurm, "scontrol") == ["release 101"]
    run_jobs(NAMES)
    assert contents() == expected and read_yaml(Path("dvc.lock")) == lock
    assert sorted(ran()) == ["each@controlnet", "each@siamese", "first", "last"]  # commit and dvc repro ran nothing
    assert subprocess.run([*graph.COMMAND, "status", "--json"], capture_output=True, check=True).stdout == b"{}\n"


def test_what_is_up_to_date_is_not_submitted_and_what_stays_equal_is_not_run(
    study: Path, slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run([*graph.COMMAND, "repro", "-q"], check=True)
    assert main(SUBMIT) == 0
    assert "nothing to submit" in capsys.readouterr().out and calls(slurm, "sbatch") == []
    parameters = Path("params.yaml")
    parameters.write_text(parameters.read_text().replace("copies: 1", "copies: 3"))
    Path("ran").unlink()
    assert main(SUBMIT) == 0
    assert [line.split("/")[-1] for line in calls(slurm, "sbatch")] == ["each@controlnet.sh", "last.sh", "commit.sh"]
    run_jobs(["each@controlnet", "last", "commit"])
    assert ran() == ["each@controlnet"]  # its output is the same, so the stage behind it is up to date
    end = submission.read_end("last")
    assert end is not None and end.result == "unchanged"


def test_a_later_submit_keeps_what_earlier_jobs_finished(study: Path, slurm: Path) -> None:
    assert main(SUBMIT) == 0
    run_jobs(["first", "each@siamese"])
    assert main(SUBMIT) == 0
    assert [line.split("/")[-1] for line in calls(slurm, "sbatch")[5:]] == [
        "each@controlnet.sh",
        "last.sh",
        "commit.sh",
    ]
    run_jobs(["each@controlnet", "last", "commit"])
    assert ran() == ["first", "each@siamese", "each@controlnet", "last"]


def test_a_submit_while_jobs_wait_or_run_is_refused(
    study: Path, slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SUBMIT) == 0
    (slurm / "queue").write_text("101|RUNNING|None|2030-01-01T00:00:00\n102|PENDING|Dependency|N/A\n")
    assert main(SUBMIT) == 2
    assert "still run or wait: first (101), each@controlnet (102);" in capsys.readouterr().err
    assert len(calls(slurm, "sbatch")) == len(NAMES)
    assert main(["jobs", "--cancel"]) == 0
    assert calls(slurm, "scancel") == ["101 102"]


def test_a_partition_that_is_not_there_cancels_what_was_accepted(
    study: Path, slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study / "configs" / "slurm" / "toy.yaml"
    file.write_text(file.read_text().replace("stages:", "stages:\n  last: {partition: absent}"))
    assert main(SUBMIT) == 2
    message = capsys.readouterr().err
    assert "work/slurm/scripts/last.sh: invalid partition specified: absent" in message
    assert "the partitions are: debug, gpu" in message
    assert calls(slurm, "scancel") == ["101 102 103"] and calls(slurm, "scontrol") == []
    submitted = submission.read()
    assert submitted is not None and submitted.jobs == {}


def replace_command(slurm: Path, name: str, text: str) -> None:
    (slurm / "bin" / name).write_text(f"#!/bin/sh\n{text}")


def test_jobs_that_cannot_be_cancelled_stay_in_the_records(
    study: Path, slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = study / "configs" / "slurm" / "toy.yaml"
    file.write_text(file.read_text().replace("stages:", "stages:\n  last: {partition: absent}"))
    replace_command(slurm, "scancel", "echo 'scancel: error: Unable to contact slurm controller' >&2; exit 1\n")
    (slurm / "queue").write_text("101|PENDING|JobHeldUser|N/A\n102|COMPLETED|None|N/A\n")
    assert main(SUBMIT) == 2
    message = capsys.readouterr().err
    assert "invalid partition specified: absent" in message and "run twinsynth jobs --cancel when" in message
    assert "scancel failed: Unable to contact slurm controller; these jobs still run or wait: 101;" in message
    submitted = submission.read()
    assert submitted is not None and list(submitted.jobs.values()) == ["101", "102", "103"]
    assert main(["jobs", "--cancel"]) == 2
    (slurm / "queue").write_text("101|COMPLETED|None|N/A\n")  # it has ended between the two commands
    scheduler.cancel(["101"])


@pytest.mark.parametrize(("printed", "job_id"), [("Welcome to 2 clusters\n77", "77"), ("78;north", "78"), ("OK", None)])
def test_the_job_id_is_found_in_what_sbatch_prints(printed: str, job_id: str | None, study: Path, slurm: Path) -> None:
    replace_command(slurm, "sbatch", f"echo '{printed}'\n")
    if job_id is None:
        with pytest.raises(UserError, match="without printing a job id; it printed: OK; look for the job with squeue"):
            scheduler.submit(Path("script.sh"), [])
    else:
        assert scheduler.submit(Path("script.sh"), []) == job_id


def test_options_reach_sbatch_as_one_word(study: Path) -> None:
    options = {
        "time": "01:00:00",
        "constraint": "[a*1&b*2]",
        "comment": "it's",
        "reservation": "a b",
        "exclusive": True,
    }
    assert resources.lines(options) == [
        "#SBATCH --time=01:00:00",
        "#SBATCH --constraint=[a*1&b*2]",
        """#SBATCH --comment='it'"'"'s'""",
        "#SBATCH --reservation='a b'",
        "#SBATCH --exclusive",
    ]


def test_without_slurm_one_line_says_so(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(study))
    for arguments in (SUBMIT, ["jobs"]):
        assert main(arguments) == 2
        assert "there is no sbatch on PATH" in capsys.readouterr().err


def test_a_job_refuses_parameters_that_changed_after_the_submit(
    study: Path, slurm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(SUBMIT) == 0
    parameters = Path("params.yaml")
    parameters.write_text(parameters.read_text().replace("copies: 1", "copies: 3"))
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    assert job.main("first") == 2
    assert "params.yaml changed after the study toy was submitted" in capsys.readouterr().err
    assert ran() == [] and "requeue 101" not in calls(slurm, "scontrol")


def test_the_last_job_commits_nothing_that_was_made_from_other_data(
    study: Path, slurm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(SUBMIT) == 0
    run_jobs(NAMES[:-1])
    (study / "data" / "in").write_text("other data")
    assert job.main("commit") == 2
    assert "must run again, because data/in changed after their jobs" in capsys.readouterr().err
    assert "first" not in read_yaml(Path("dvc.lock"))["stages"]


def failing(name: str) -> None:
    """Let the command of a stage fail, as if the graph had always been like this."""
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace(f"echo {name} >> ran;", f"echo {name} >> ran; kill -9 $$;"))


def test_a_killed_stage_goes_back_into_the_queue_as_often_as_allowed(
    study: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing("first")
    assert main(SUBMIT) == 0
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    monkeypatch.setattr(job, "WAIT", 0.0)
    with pytest.raises(SystemExit):
        job.main("first")
    assert calls(slurm, "scontrol")[-1] == "requeue 101"
    assert job.main("first") != 0  # the second and last attempt
    assert calls(slurm, "scontrol").count("requeue 101") == 1
    end = submission.read_end("first")
    assert end is not None and (end.result, end.attempts) == ("failed", 2)
    assert signal.getsignal(job.TIME_LIMIT) is signal.SIG_IGN  # near the limit, the record is written all the same


def test_a_job_near_its_time_limit_goes_back_into_the_queue(
    study: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("echo first >> ran;", "kill -USR1 $JOB; sleep 5;"))
    assert main(SUBMIT) == 0
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", BY_HAND],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "the time limit was reached (attempt 1 of 2)" in done.stderr
    assert calls(slurm, "scontrol")[-1] == "requeue 101"


def test_jobs_shows_states_time_left_and_logs(study: Path, slurm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SUBMIT) == 0
    submission.write_end("first", End("done"))
    submission.log("each@controlnet").write_text("finetune 10/20 | loss 0.1 | 3700 s left\n")
    (slurm / "queue").write_text(
        "101|COMPLETED|None|N/A\n102|RUNNING|None|N/A\n103|PENDING|Priority|2030-01-01T00:00:00\n"
    )
    capsys.readouterr()
    assert main(["jobs", "--json"]) == 1  # the two jobs that squeue does not list have left no record
    rows = {row["stage"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == NAMES
    assert [row["state"] for row in rows.values()] == ["done", "running", "pending", "failed", "failed"]
    assert 3690 <= rows["each@controlnet"]["seconds_left"] <= 3700
    assert rows["each@siamese"]["start"] == "2030-01-01T00:00:00"
    assert rows["last"]["log"] == "work/slurm/logs/last.log" and "without a record" in rows["last"]["note"]
    assert main(["jobs"]) == 1
    assert capsys.readouterr().out.startswith("stage            job  state")


def test_states_are_told_apart(tmp_path: Path) -> None:
    queued = scheduler.QueuedJob
    assert states._word(queued("PENDING", "Dependency", None), None)[0] == "waiting"
    assert states._word(queued("PENDING", "DependencyNeverSatisfied", None), None)[0] == "blocked"
    assert states._word(queued("COMPLETING", "None", None), None)[0] == "running"
    assert states._word(queued("PENDING", "BeginTime", None), End("failed", 1, "exit status 9")) == (
        "pending",
        "exit status 9",
    )
    assert states._word(queued("TIMEOUT", "None", None), None) == ("failed", "SLURM ended it: TIMEOUT")
    log = tmp_path / "log"
    log.write_text("finetune 1/3 | 100 s left\nfinetune 2/3 | 50 s left\n")
    assert states.seconds_left(log, log.stat().st_mtime + 20) == 30
    assert states.seconds_left(log, log.stat().st_mtime + 60) is None
    log.write_text("no progress yet")
    assert states.seconds_left(log) is None and states.seconds_left(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attempts: 0", "attempts: Input should be greater than or equal to 1"),
        ("defaults: {dependency: x}", "dependency is set by twinsynth submit itself"),
        ("stages: {finetun: {}}", "stages.finetun is no stage of dvc.yaml; they are: commit, each, first, last"),
        ("default: {}", "default is not a parameter; did you mean defaults"),
        ("defaults: {--time: 1}", "defaults"),
        ("defaults: {array: 0-3}", "array cannot be combined with twinsynth submit"),
        ('defaults: {comment: "two\\nlines"}', "comment has several lines, but an option of sbatch takes one"),
    ],
)
def test_faults_of_a_file_of_resources_are_named(study: Path, text: str, message: str) -> None:
    file = study / "configs" / "slurm" / "toy.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        resources.load("toy", NAMES[:-1])
    assert "configs/slurm/toy.yaml" in str(error.value) and message in str(error.value)


def test_an_absent_file_of_resources_lists_those_there_are(study: Path) -> None:
    with pytest.raises(UserError, match=r"no file configs/slurm/gpu99\.yaml; the available ones are: toy"):
        resources.load("gpu99", [])


def test_the_files_of_the_repository_fit_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import REPOSITORY

    monkeypatch.chdir(REPOSITORY)
    stages = read_yaml(REPOSITORY / "dvc.yaml")["stages"]
    assert set(resources.names()) == {"cpu", "gpu1", "gpu8"}
    for name in resources.names():
        resources.load(name, stages)
