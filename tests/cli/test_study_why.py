"""twinsynth study why names the source file, the parameter or the input that makes a stage run again."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.cli import rerun_reasons
from pipeline.cli.main import main
from pipeline.cli.rerun_reasons import reasons
from pipeline.core import files, paths, plugins
from pipeline.stages.records import records
from pipeline.stages.records.records import all_records
from pipeline.study import load_params
from tests.conftest import REPOSITORY


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code, the study smoke, and a dvc.lock as if every stage had just run."""
    for folder in ("pipeline", "stages"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "dvc.yaml", tmp_path)
    shutil.copy(REPOSITORY / "configs" / "studies" / "smoke.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    for module in (records, plugins):
        monkeypatch.setattr(module, "ROOT", tmp_path / "pipeline")
    lock()
    return tmp_path


def lock() -> None:
    """Write the records, and the dvc.lock of stages that depend on them and on their parameters."""
    params, values = load_params(), YAML(typ="safe").load(Path("params.yaml"))
    for name, record in all_records(params):
        files.write_json(paths.records(params.study) / f"{name}.json", record)
    graph = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    entries = {}
    for stage in rerun_reasons._stages(graph, values):
        name, _, entry = stage.partition("@")
        deps = [
            str(dep).replace("${study}", "smoke").replace("${item.g}", entry).replace("${item.s}", entry)
            for dep in graph[name]["deps"]
            if str(dep).startswith("outputs/")
        ]
        for path in deps:
            if not Path(path).exists():
                Path(path).mkdir(parents=True)  # what an earlier stage published
        watched = [str(key).replace("${item.g}", entry) for key in graph[name]["params"] if isinstance(key, str)]
        entries[stage] = {
            "cmd": graph[name]["cmd"],
            "deps": [{"path": path} | ({"md5": md5(path)} if Path(path).is_file() else {}) for path in deps],
            "params": {"params.yaml": {key: rerun_reasons._value(values, key) for key in watched}},
            "outs": [],
        }
    YAML().dump({"schema": "2.0", "stages": entries}, Path("dvc.lock"))


def md5(path: str) -> str:
    return hashlib.md5(Path(path).read_bytes()).hexdigest()


def edit(path: str, text: str = "\n# another line\n") -> None:
    Path(path).write_text(Path(path).read_text() + text)


def found() -> dict[str, set[tuple[str, str]]]:
    """Kind and name of the reasons, by stage; what follows from an earlier stage is left out."""
    by_stage: dict[str, set[tuple[str, str]]] = {}
    for row in reasons():
        if row.kind != "after":
            by_stage.setdefault(row.stage, set()).add((row.kind, row.name))
    return by_stage


def test_nothing_has_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert reasons() == []
    assert main(["study", "why"]) == 0
    assert capsys.readouterr().out == "nothing has changed since the last dvc repro\n"


def test_a_comment_in_one_generator_runs_its_stages_and_no_others() -> None:
    file = "pipeline/methods/generators/siamese.py"
    edit(file)
    stages = ("finetune", "generate", "snapshots", "audit")
    assert found() == {f"{stage}@siamese": {("code", file)} for stage in stages}


def test_an_edit_of_the_style_sheet_runs_the_report_alone(capsys: pytest.CaptureFixture[str]) -> None:
    edit("pipeline/stages/report/page.css", "\n/* another line */\n")
    assert found() == {"report": {("code", "pipeline/stages/report/page.css")}}
    assert main(["study", "why", "report"]) == 0
    assert capsys.readouterr().out == "report runs again\n  code       pipeline/stages/report/page.css  changed\n"


def test_a_new_key_of_segment_runs_what_reads_the_section() -> None:
    file = "pipeline/segmentation/params.py"
    edit(file, "\n\nclass Further(Section):\n    pass\n")
    readers = {"prepare", "pseudo_labels", "judge", "score", "snapshots", "segment", "confirm", "compare", "report"}
    stages = {name.partition("@")[0] for name, rows in found().items() if ("code", file) in rows}
    assert {"judge", "segment"} <= stages <= readers
    assert not {"base", "finetune", "generate", "audit", "mix"} & stages


def test_another_fresh_seed_runs_the_confirmation_and_what_follows() -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("confirm: {seeds: [100]}", "confirm: {seeds: [7]}"))
    assert found() == {"confirm": {("parameter", "confirm.seeds")}}
    assert {row.stage for row in reasons() if row.kind == "after"} == {"compare", "report"}


def test_a_segmenter_runs_its_grid_and_the_confirmation() -> None:
    file = "pipeline/methods/segmenters/unet.py"
    edit(file)
    assert {"segment@unet", "confirm"} <= {stage for stage, rows in found().items() if ("code", file) in rows}


def test_a_new_plugin_runs_nothing() -> None:
    Path("pipeline/methods/segmenters/mine.py").write_text('"""A new segmenter."""\n')
    assert reasons() == []


def test_a_parameter_is_named_with_both_values() -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("max_steps: 4\n  global_batch: 4", "max_steps: 6\n  global_batch: 4"))
    rows = [row for row in reasons() if row.kind == "parameter"]
    assert {(row.stage, row.name, row.change) for row in rows if row.stage.startswith("finetune")} == {
        (f"finetune@{name}", "finetune.max_steps", "4 -> 6") for name in ("siamese", "controlnet")
    }
    assert {row.stage for row in reasons() if row.kind == "after"} >= {"generate@siamese", "mix@real", "report"}


def test_the_earlier_record_is_read_from_the_cache_of_dvc() -> None:
    record = Path("outputs/smoke/records/stages/mix.json")
    cached = rerun_reasons.CACHE / md5(str(record))[:2] / md5(str(record))[2:]
    cached.parent.mkdir(parents=True)
    shutil.copy(record, cached)
    edit("pipeline/stages/mix/mix.py")
    record.write_text("{}")  # the stage records has run since, the stage mix has not
    assert found()["mix@real"] == {("code", "pipeline/stages/mix/mix.py")}
    cached.unlink()
    (reason,) = [row for row in reasons() if row.stage == "mix@real" and row.kind == "code"]
    assert (reason.name, "cannot be named" in reason.change) == (record.as_posix(), True)


def test_stages_that_never_ran_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").unlink()
    assert main(["study", "why", "compare", "--json"]) == 0
    (row, *_) = json.loads(capsys.readouterr().out)
    assert (row["stage"], row["kind"]) == ("compare", "new")
