"""The command twinsynth: quick help with examples, verbs that call what exists, one line and status 2 for errors."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main as command
from pipeline.cli.main import VERBS, main
from pipeline.cli.verbs import study
from pipeline.core import paths
from pipeline.stages.report.stage_outputs import stage_outputs
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY

ACTIONS = {
    "study": ("list", "show", "use", "folds"),
    "export": ("set", "generator", "ldm"),
    "import": ("ldm", "dermosegdiff"),
    "rate": ("serve", "static", "import", "export"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped studies and params.yaml."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "configs" / "studies", "configs/studies")
    shutil.copy(REPOSITORY / "params.yaml", "params.yaml")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON value of a successful call."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def helps() -> list[list[str]]:
    nested = [[verb, action, "--help"] for verb, actions in ACTIONS.items() for action in actions]
    return [[verb, "--help"] for verb in VERBS] + nested


@pytest.mark.parametrize("arguments", helps(), ids=" ".join)
def test_help_has_an_example_that_the_parser_takes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    text = re.sub(r"\n {6,}", " ", capsys.readouterr().out)
    examples = re.findall(r"twinsynth (.*)", text.partition("example")[2])
    assert examples
    for example in examples:
        words = re.split(r"\s+[#>;]|\)", example)[0].split()
        command.parser().parse_args(words)


def test_help_reads_nothing_but_the_standard_library_and_this_package() -> None:
    """That is what makes it quick, on any machine; the standard library's own modules are some 150."""
    program = (
        "import runpy, sys; before = set(sys.modules); sys.argv = ['twinsynth', '--help']\n"
        "try: runpy.run_module('pipeline.cli', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "read = set(sys.modules) - before\n"
        "tops = {name.partition('.')[0] for name in read} - sys.stdlib_module_names\n"
        "print(len(read), *sorted(tops), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "usage: twinsynth" in done.stdout
    number, *tops = done.stderr.split()
    assert tops == ["pipeline"]
    assert int(number) < 300


def test_the_package_installs_the_command() -> None:
    import tomllib

    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"twinsynth": "pipeline.cli.main:main"}


def test_an_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["docter"])
    assert end.value.code == 2


def test_errors_of_several_lines_become_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("configs/studies/demo.yaml").write_text("study: demo\nthreads: -1\n")
    line = refused(capsys, "study", "use", "demo")
    assert "threads: " in line
    assert "data: " in line


def test_what_nobody_foresaw_is_one_line_and_its_traceback_lies_in_a_log(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.verbs.study.find", lambda name: 1 // len(name[:0]))
    assert main(["study", "show", "demo"]) == 1
    line, place = capsys.readouterr().err.splitlines()
    assert line.startswith("error: study failed in a way that nobody foresaw (ZeroDivisionError: ")
    assert place == "log: work/logs/twinsynth_study.log"
    assert "Traceback" in Path("work/logs/twinsynth_study.log").read_text()


def test_a_reader_that_leaves_early_is_no_error(project: Path) -> None:
    program = f"{sys.executable} -m pipeline.cli study show polyps | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", program], capture_output=True, text=True, cwd=project)
    assert (done.returncode, done.stderr) == (0, "")


def test_studies_are_listed_with_the_one_in_place(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys, "study", "list")
    assert [row["name"] for row in rows] == sorted(path.stem for path in Path("configs/studies").glob("*.yaml"))
    assert [row["name"] for row in rows if row["in_place"]] == ["demo"]
    assert all(len(row["about"]) > 20 for row in rows)
    assert main(["study", "list"]) == 0
    assert "* demo" in capsys.readouterr().out


def test_a_study_is_shown_as_written_or_with_every_parameter(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "show", "smoke"]) == 0
    assert capsys.readouterr().out == Path("configs/studies/smoke.yaml").read_text()
    shown = told(capsys, "study", "show", "smoke")
    assert (shown["data"]["size"], shown["data"]["val_share"]) == (32, 0.1)


def test_use_shows_the_difference_and_asks(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, smoke = Path("params.yaml").read_bytes(), Path("configs/studies/smoke.yaml").read_bytes()
    for answer, status, after in (("n", 1, before), ("", 1, before), ("y", 0, smoke)):
        monkeypatch.setattr(sys, "stdin", _Terminal(answer))
        assert main(["study", "use", "smoke"]) == status
        out = capsys.readouterr().out
        assert "-study: demo\n" in out
        assert "+study: smoke\n" in out
        assert Path("params.yaml").read_bytes() == after


class _Terminal:
    def __init__(self, answer: str) -> None:
        self.answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return f"{self.answer}\n"


def test_use_without_a_terminal_needs_yes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "study", "use", "smoke"], stdin=subprocess.DEVNULL, capture_output=True
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"--yes" in done.stderr
    assert Path("params.yaml").read_bytes() == before
    assert main(["study", "use", "smoke", "--yes"]) == 0
    assert load_params().study == "smoke"
    assert main(["study", "use", "smoke"]) == 0
    assert "already" in capsys.readouterr().out


def test_a_study_that_does_not_hold_never_gets_in_place(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_bytes()
    Path("configs/studies/odd.yaml").write_bytes(before + b"colour: red\n")
    assert "colour is not a parameter" in refused(capsys, "study", "use", "odd", "--yes")
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize("action", ["show", "use"])
def test_an_unknown_study_lists_those_there_are(action: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "study", action, "polyp")
    assert "'polyp'" in line
    assert "kvasir_cpu" in line


def test_outside_a_project_the_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "configs/studies holds no study" in refused(capsys, "study", "list")
    for verb in (["weights"], ["report"], ["export", "set", "coco", "--real", "--out", "x"]):
        assert "params.yaml does not exist" in refused(capsys, *verb)


def test_the_first_comment_tells_what_a_study_is() -> None:
    assert study.about('# The study "x": real polyps,\n# at 64 px. More.\nstudy: x\n') == "real polyps, at 64 px"
    assert study.about("study: x\n# later\n") == ""


def test_weights_are_listed_without_fetching(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["extractor"]: row for row in told(capsys, "weights", "--list")}
    assert rows["efficientnet_lite0"]["state"] == "packaged"
    assert rows["inception"]["state"] in ("missing", "present")
    assert rows["inception"]["licence"].startswith("Apache-2.0")
    assert not Path("weights").exists()


def finish(params: Params, *left_out: str) -> None:
    """Empty outputs of all stages but some."""
    for stage, place in stage_outputs(params):
        if stage not in (*left_out, "report"):
            place.mkdir(parents=True, exist_ok=True)


def test_report_names_the_stages_that_have_not_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(load_params(), "segment@unet", "compare")
    assert refused(capsys, "report").endswith("have not run: segment@unet, compare\n")
    assert main(["report", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "study": "demo",
        "report": None,
        "written": False,
        "missing": ["segment@unet", "compare"],
    }


def test_report_is_written_once_and_found_again(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, calls, opened = paths.report("demo") / "index.html", [], []

    def write(params: Params) -> None:
        calls.append(params.study)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"<pre>study: {params.study}\n</pre>")

    monkeypatch.setattr("pipeline.stages.report.page.write_report", write)
    monkeypatch.setattr("webbrowser.open", opened.append)
    finish(load_params())
    assert told(capsys, "report")["written"]
    assert told(capsys, "report", "--open") == {
        "study": "demo",
        "report": "reports/demo/index.html",
        "written": False,
        "missing": [],
    }
    assert opened == [page.resolve().as_uri()]
    assert told(capsys, "report", "--again")["written"]
    assert calls == ["demo"] * 2
    assert '<a href="demo/index.html">demo</a>' in (paths.REPORTS / "index.html").read_text()


def test_outputs_of_an_older_version_are_told(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(params: Params) -> None:
        raise KeyError("choice")

    monkeypatch.setattr("pipeline.stages.report.page.write_report", write)
    finish(load_params())
    assert "made by an older version ('choice' is missing)" in refused(capsys, "report")


def test_stages_have_the_names_of_the_graph() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    names = [stage for stage, _ in stage_outputs(params)]
    assert len(names) == len(set(names)) == 8 + 5 * 3 + 8 + 1  # single stages, per generator, training sets, segmenters
    assert (names[0], names[-1]) == ("records", "report")


def test_export_passes_its_arguments_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("pipeline.methods.exports._export.real_splits", lambda study: {})
    monkeypatch.setattr("pipeline.methods.exports._export.export", lambda *given: calls.append((given[0], given[2])))
    monkeypatch.setattr("pipeline.study.load_params", lambda: None)
    monkeypatch.setattr("pipeline.deploy.generator_export.export", lambda params, *given: calls.append(given))
    monkeypatch.setattr("pipeline.deploy.ldm_generator.export_checkpoint", lambda *given: calls.append(given))
    assert main(["export", "set", "coco", "--study", "toy", "--real", "--out", "x"]) == 0
    assert main(["export", "generator", "siamese", "--to", "y"]) == 0
    assert main(["export", "ldm", "f.ckpt", "--base", "b", "--generator", "g"]) == 0
    assert calls == [("coco", Path("x")), ("siamese", Path("y")), (Path("b"), Path("g"), Path("f.ckpt"))]
    capsys.readouterr()
    assert main(["export", "generator", "siamese", "--to", "y", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "generator", "written": "y"}


def test_export_names_an_unknown_format(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'dicom'" in refused(capsys, "export", "set", "dicom", "--real", "--out", "x")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)
    assert "masks" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes_verbs_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    assert completed(script, "doc") == ["doctor"]
    (tmp_path / "folder").mkdir()
    assert completed(script, "init --root fo") == ["folder"]


def completed(script: Path, line: str) -> list[str]:
    """What bash offers behind `twinsynth` and these words."""
    words = line.split()
    asked = f"COMP_WORDS=(twinsynth {line}); COMP_CWORD={len(words)}; _shtab_twinsynth twinsynth {words[-1]}"
    program = f"source {script}; {asked}; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=script.parent)
    return done.stdout.split()
