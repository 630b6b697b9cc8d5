"""Privacy: what names patients in the inputs is in nothing that comes out but the local map of names."""

import base64
import gzip
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.cli.main import main
from pipeline.core import paths, plugins
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.mix import mix
from pipeline.stages.prepare.checked_set import load_checked_set
from pipeline.stages.prepare.prepare import names_path, prepare
from pipeline.study import Params
from tests import planted
from tests.conftest import TOY_STUDY, copies
from tests.planted import PICTURE, VOLUME, found_in, word

pytestmark = pytest.mark.faults
FORMATS = ("coco", "imagefolder", "nnunet", "webdataset")


def study(**data: Any) -> Params:
    values = {"reader": "paired_folders", "prompt": "A photo.", "val_share": 0.2, "native_masks": True, **data}
    if "shape" not in values:
        return parse(Params, TOY_STUDY | {"data": values | {"size": 32}})
    kept = {key: TOY_STUDY[key] for key in ("study", "seed", "threads", "segmenters", "segment")}
    return parse(Params, kept | {"data": values, "generators": {}, "training_sets": {"real": {}}})


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    """So that the tests below can fail: every word is found in the inputs, packed ones too."""
    root = planted.pictures(tmp_path / "a")
    assert {one for words in found_in(root.parent).values() for one in words} == {word(place) for place in PICTURE}
    other = planted.volumes(tmp_path / "b")
    assert {one for words in found_in(other.parent).values() for one in words} == {word(place) for place in VOLUME}
    with gzip.open(tmp_path / "page.html.gz", "wb") as file:
        file.write(b"<img src='data:image/png;base64," + base64.b64encode(png_with_text()) + b"'>")
    assert found_in(tmp_path / "page.html.gz") == {(tmp_path / "page.html.gz").as_posix(): {word("pngcompressed")}}


def png_with_text() -> bytes:
    """Long enough for the search to take it for packed content."""
    from tests.drawn_pairs import picture

    return planted.png(picture("x", 80, 81), "x", "pngcompressed", "x", "x")


def test_pictures_of_patients_become_nameless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prepare, mix, every export, the rating page; the report comes with the whole study below."""
    root = planted.pictures(tmp_path / "input")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    params = study(root=str(root))
    real = prepare(params)
    ImageSet.create(paths.synthetic("toy", "siamese"), real.spec, copies(real, 2))
    for name in ("real", "siamese_x1"):
        mix(params, name)
    exported("training-set", "siamese_x1")
    exported("real")
    Path("params.yaml").write_text("study: toy\n")
    YAML(typ="safe").dump(TOY_STUDY, Path("params.yaml"))
    assert main(["rate", "static", "--rater", "Ann", "--images", "3"]) == 0
    assert word("patientname") in names_path("toy").read_text()
    names_path("toy").unlink()
    Path("params.yaml").unlink()
    assert found_in(Path()) == {}
    assert {row["group"][:6] for row in real} == {"group_"}


def exported(*chosen: str) -> None:
    """Every format; Parquet where its library is there."""
    formats = [*FORMATS, *(["parquet"] if find_spec("pyarrow") else [])]
    for name in formats:
        out = f"export_{chosen[0]}_{name}"
        assert main(["export", "set", name, "--study", "toy", f"--{chosen[0]}", *chosen[1:], "--out", out]) == 0


@pytest.mark.parametrize("reader", ["volumes", "msd_slices"])
def test_volumes_of_patients_become_nameless(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = planted.volumes(tmp_path / "input")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    about = {"shape": [12, 12, 8]} if reader == "volumes" else {"size": 32}
    params = study(reader=reader, root=str(root), native_masks=False, **about)
    real = prepare(params)
    mix(params, "real")
    assert len(real) >= 8
    assert word("patientname") in names_path("toy").read_text()
    names_path("toy").unlink()
    assert found_in(Path()) == {}


@pytest.mark.parametrize("about", [{"size": 32}, {"shape": [24, 20, 2]}], ids=["slices", "volumes"])
def test_dicom_of_patients_becomes_nameless(
    about: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A patient's series stay together, under a hash that is not kept either."""
    root = planted.dicom(tmp_path / "input")
    assert {one for words in found_in(root.parent).values() for one in words} == {word(one) for one in planted.DICOM}
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    shares = {"val_share": 0.25, "test_share": 0.25, "native_masks": False}
    real = prepare(study(reader="dicom", root=str(root), **shares, **about))
    assert len({row["group"] for row in real}) == 4
    assert {row["group"][:6] for row in real} == {"group_"}
    assert word("patientname") in names_path("toy").read_text()
    names_path("toy").unlink()
    assert found_in(Path()) == {}
    assert planted.words_in(caplog.text.encode()) == set()


def test_messages_name_files_by_their_place_in_the_data_set(tmp_path: Path) -> None:
    """Not by their place on this computer, which may name more."""
    root = planted.pictures(tmp_path / "input", 4)
    for name in sorted((root / "images").iterdir()):
        name.write_bytes(name.read_bytes()[:90])
    with pytest.raises(UserError) as told:
        load_checked_set(study(root=str(root)).data, 0)
    assert f"images/{word('patientname')}_Erika_00.png: cannot be decoded" in str(told.value)
    assert word("hospitalfolder") not in str(told.value) and str(tmp_path) not in str(told.value)


def test_every_reader_is_known_here() -> None:
    """A new reader is to be tried with planted words, too."""
    of_pictures = {"paired_folders", "isic", "jsonl", "kvasir", "ph2", "pranet", "multirater"}
    assert set(plugins.names("readers")) == {*of_pictures, "phantom", "msd_slices", "volumes", "dicom"}


@pytest.mark.slow
def test_a_whole_study_of_patients_becomes_nameless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage of the smoke study on pictures that name patients; nothing that they publish or keep names one."""
    from tests.faults.launching import STAGES, done, small_params

    root, project = planted.pictures(tmp_path / "input"), tmp_path / "project"
    project.mkdir()
    params = small_params()
    params["data"] = {"reader": "paired_folders", "root": str(root), "size": 32, "prompt": "A photo of a polyp."}
    params["training_sets"] = {name: params["training_sets"][name] for name in ("real", "siamese_x1")}
    YAML(typ="safe").dump(params, project / "params.yaml")
    monkeypatch.setitem(STAGES, "mix_x1", replace(STAGES["mix"], argv=("--training-set", "siamese_x1")))
    for name in ("records", "prepare", "base", "finetune", "generate", "judge", "score", "snapshots", "audit"):
        done(project, name)
    for name in ("mix_real", "mix_x1", "segment", "confirm", "compare", "report"):
        done(project, name)
    assert (project / "reports" / "index.html").is_file()
    assert (project / "work" / "names" / "smoke.csv").is_file()
    (project / "work" / "names" / "smoke.csv").unlink()
    (project / "params.yaml").unlink()
    assert found_in(project) == {}
