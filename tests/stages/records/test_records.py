"""The record of the code behind an entry: what is in it, and what leaves it unchanged."""

from pathlib import Path

import pytest

from pipeline.core import files, paths, plugins
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.stages.records import records
from pipeline.stages.records.records import code, imports, reachable, write_records
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small pipeline: one -> two -> three, and files, which is plumbing, -> four."""
    root = tmp_path / "pipeline"
    root.mkdir()
    (root / "one.py").write_text("from pipeline.two import f\nimport torch\nfrom pipeline.core import files\n")
    (root / "two.py").write_text("def f():\n    from pipeline import three\n")
    (root / "three.py").write_text("import pipeline.two\n")
    (root / "core").mkdir()
    (root / "core" / "files.py").write_text("import pipeline.four\n")
    (root / "four.py").write_text("")
    monkeypatch.setattr(records, "ROOT", root)
    return root


def test_imports_are_found_wherever_they_stand(package: Path) -> None:
    assert imports(package / "one.py") == {"pipeline.two", "pipeline.core.files"}
    assert imports(package / "two.py") == {"pipeline.three"}


def test_code_follows_imports_but_not_through_plumbing(package: Path) -> None:
    assert reachable(package / "one.py") == {"pipeline.two", "pipeline.three"}
    assert set(code(package / "one.py")) == {"pipeline/one.py", "pipeline/two.py", "pipeline/three.py"}


def test_record_changes_with_a_file_behind_it_only(package: Path) -> None:
    before = code(package / "one.py")
    (package / "four.py").write_text("x = 1\n")
    (package / "five.py").write_text("x = 1\n")
    assert code(package / "one.py") == before
    (package / "three.py").write_text("x = 1\n")
    changed = code(package / "one.py")
    assert {name for name in before if before[name] != changed[name]} == {"pipeline/three.py"}


def test_packages_on_the_way_are_part_of_the_code(package: Path) -> None:
    (package / "house").mkdir()
    (package / "house" / "__init__.py").write_text("from pipeline.four import x\n")
    (package / "house" / "room.py").write_text("")
    (package / "six.py").write_text("import pipeline.house.room\n")
    expected = {"six.py", "house/__init__.py", "house/room.py", "four.py"}
    assert set(code(package / "six.py")) == {f"pipeline/{name}" for name in expected}


def study(**changes: object) -> Params:
    return parse(Params, TOY_STUDY | changes)


def test_an_entry_may_name_another_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generators = {"siamese": {"copies": 2}, "plain": {"method": "siamese", "copies": 1}}
    write_records(study(generators=generators))
    folder = paths.records("toy") / "generators"
    assert files.sha256(folder / "siamese.json") == files.sha256(folder / "plain.json")
    assert "pipeline/methods/generators/siamese.py" in files.read_json(folder / "plain.json")["generators/siamese"]
    assert "pipeline/methods/generators/controlnet.py" not in (folder / "plain.json").read_text()


def test_a_further_entry_leaves_the_other_records_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(study())
    before = {path.name: files.sha256(path) for path in paths.records("toy").rglob("[!.]*.json")}
    write_records(study(segmenters=TOY_STUDY["segmenters"] | {"segformer": {}}))
    after = {path.name: files.sha256(path) for path in paths.records("toy").rglob("[!.]*.json")}
    assert set(after) - set(before) == {"segformer.json"}
    assert {name: after[name] for name in before} == before


def test_confirmation_depends_on_every_segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one is chosen is not known before; without the section there is nothing to depend on."""
    monkeypatch.chdir(tmp_path)
    path = paths.records("toy") / "confirm.json"
    changes = {"segmenters": TOY_STUDY["segmenters"] | {"plain": {"method": "unet_plain32"}}}
    write_records(study(**changes))
    assert files.read_json(path) == {}
    write_records(study(**changes, confirm={"seeds": [100]}))
    found = files.read_json(path)
    assert set(found) == {"segmenters/unet", "segmenters/unet_plain32"}
    assert "pipeline/methods/segmenters/unet_plain32.py" in found["segmenters/unet_plain32"]
    stage = code(REPOSITORY / "stages" / "confirm.py")
    assert {"pipeline/stages/confirm/choice.py", "pipeline/stages/segment/grid.py"} <= set(stage)


def test_unknown_method_is_told_with_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no 'nnunet' among the segmenters; the available ones are: .*unet"):
        write_records(study(segmenters={"unet": {"method": "nnunet"}}))
    assert not paths.records("toy").exists()


def test_source_is_the_file_that_load_runs() -> None:
    assert plugins.load("segmenters", "unet").__file__ == str(plugins.source("segmenters", "unet"))
