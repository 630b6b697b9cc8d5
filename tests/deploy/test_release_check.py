"""The files of release cards: which ones a card lists, the check of their hashes, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.main import main
from pipeline.core import files, paths
from pipeline.data.image_set import MANIFEST, SPEC
from pipeline.deploy.release.hashes import CARD, PAGE
from pipeline.study import Params
from tests.attacked_generators import STUDY
from tests.released import SIAMESE, edit, finished_study, images_of, refused, released, rewrite


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A study with several attacked generators, of which every stage but the report has left its files."""
    monkeypatch.chdir(tmp_path)
    return finished_study()


def test_the_weights_are_listed_only_where_they_are_released(study: Params) -> None:
    weights = paths.generator("toy", "siamese") / "weights.safetensors"
    files.write_bytes(weights, b"weights")
    rows = [row | {"generator_sha256": files.tree_sha256(weights.parent)} for row in images_of("siamese")]
    rewrite("siamese", rows)
    with_weights, images = released("siamese"), released("siamese", "--images")
    listed = {one.path: one for one in with_weights.files}
    assert listed[weights.as_posix()].sha256 == files.sha256_of(b"weights")
    assert weights.as_posix() not in {one.path for one in images.files}
    for card in (with_weights, images):
        named = {one.path for one in card.files}
        assert {"params.yaml", *(f"{paths.real('toy').as_posix()}/{file}" for file in (MANIFEST, SPEC))} <= named
        assert (paths.audit("toy", "siamese") / "membership.json").as_posix() in named
        assert (paths.synthetic("toy", "siamese") / MANIFEST).as_posix() in named


def test_check_names_every_file_that_is_missing_or_differs(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    released("siamese")
    capsys.readouterr()
    assert main(["release", "--check", str(SIAMESE)]) == 0
    out = capsys.readouterr().out
    assert "are those that the card describes" in out
    assert f"SHA-256 of the card: {files.sha256(SIAMESE / CARD)}\n" in out
    manifest, audit = paths.generator("toy", "siamese") / "manifest.json", paths.audit("toy", "siamese") / "audit.json"
    manifest.unlink()
    edit(audit, suspects=0)
    with (SIAMESE / PAGE).open("a") as page:
        page.write(" ")
    assert main(["release", "--check", str(SIAMESE), "--json"]) == 1
    found = {one["path"]: one["problem"] for one in json.loads(capsys.readouterr().out)["problems"]}
    assert found == {
        (SIAMESE / PAGE).as_posix(): "differs",
        manifest.as_posix(): "missing",
        audit.as_posix(): "differs",
    }
    assert main(["release", "--check", str(SIAMESE)]) == 1
    out = capsys.readouterr().out
    assert f"{manifest.as_posix()}: missing\n" in out and " files are missing or different\n" in out


@pytest.mark.parametrize("seal", [{}, [], "no JSON", None])
def test_a_card_without_the_hashes_of_its_own_files_is_not_accepted(
    study: Params, capsys: pytest.CaptureFixture[str], seal: Any
) -> None:
    released("siamese")
    path = SIAMESE / files.SEAL
    path.unlink()
    if isinstance(seal, str):
        path.write_text(seal)
    elif seal is not None:
        files.write_json(path, seal)
    capsys.readouterr()
    assert main(["release", "--check", str(SIAMESE), "--json"]) == 1
    found = {one["path"]: one["problem"] for one in json.loads(capsys.readouterr().out)["problems"]}
    own = {(SIAMESE / name).as_posix(): "differs" for name in (CARD, PAGE)}
    assert found == (own if seal == {} else {path.as_posix(): "missing" if seal is None else "differs"})


def test_check_compares_every_released_image_elsewhere_too(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    released("siamese", "--images")
    elsewhere = Path("elsewhere")
    for name in ("params.yaml", "outputs", "released"):
        target = elsewhere / name
        elsewhere.mkdir(exist_ok=True)
        (shutil.copytree if Path(name).is_dir() else shutil.copy)(name, target)
    card, files_at = str(elsewhere / "released/siamese_images"), ["--files", str(elsewhere)]
    assert main(["release", "--check", card, *files_at]) == 0
    assert "32 files of images and masks" in capsys.readouterr().out
    first, second, *_ = images_of("siamese").rows
    folder = elsewhere / paths.synthetic("toy", "siamese")
    (folder / first["file_name"]).unlink()
    (folder / second["mask"]).write_bytes(b"another")
    assert main(["release", "--check", card, *files_at]) == 1
    out = capsys.readouterr().out
    assert f"{paths.synthetic('toy', 'siamese') / first['file_name']}: missing" in out
    assert f"{paths.synthetic('toy', 'siamese') / second['mask']}: differs" in out


def test_a_card_is_written_for_a_finished_study_alone(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no generator 'siames' in params.yaml" in refused(capsys, "siames")
    shutil.rmtree(paths.snapshots("toy", "unused"))
    assert "These stages have not run: snapshots@unused" in refused(capsys, "siamese")
    paths.snapshots("toy", "unused").mkdir()
    released("siamese")
    assert "released/siamese already exists" in refused(capsys, "siamese")
    inside = paths.generator("toy", "siamese") / "card"
    assert "lies in outputs, where only stages write" in refused(capsys, "siamese", "--output", str(inside))
    image = images_of("siamese").folder / images_of("siamese").rows[0]["file_name"]
    image.write_bytes(b"another")
    assert f"{image.as_posix()} is missing, or is not the file" in refused(capsys, "siamese", "--images")


def test_results_that_do_not_belong_together_have_no_card(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite("siamese", [row | {"generator_sha256": "another"} for row in images_of("siamese")])
    assert "were not made by the generator in" in refused(capsys, "siamese")
    files.write_json(Path("params.yaml"), STUDY | {"seed": 1})
    assert "was trained with other parameters" in refused(capsys, "siamese")


def test_outputs_of_an_older_version_are_refused(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    path = paths.audit("toy", "siamese") / "audit.json"
    files.write_json(path, {key: value for key, value in files.read_json(path).items() if key != "share"})
    assert "made by an older version (share is missing); run dvc repro" in refused(capsys, "siamese")


def test_the_verb_takes_a_generator_or_a_card(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name either a generator" in refused(capsys)
    assert "name either a generator" in refused(capsys, "siamese", "--check", "x")
    assert "leave them out with --check" in refused(capsys, "--check", "x", "--images")
    assert "use it with --check" in refused(capsys, "siamese", "--files", "x")
    assert "there is no folder x" in refused(capsys, "--check", "x", "--files", "x")
    assert "--terms is empty" in refused(capsys, "siamese", "--terms", " ")
    assert "there is no generator '../x'" in refused(capsys, "../x")


def test_what_is_no_card_is_refused(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no release_card.json" in refused(capsys, "--check", "released")
    released("siamese")
    path = SIAMESE / CARD
    content = files.read_json(path)
    files.write_json(path, content | {"version": 2})
    assert "is of version 2, but this twinsynth reads version 1" in refused(capsys, "--check", str(SIAMESE))
    files.write_json(path, content | {"format": "other"})
    assert "is not a release card" in refused(capsys, "--check", str(SIAMESE))
    outside = content["files"][0] | {"path": "../secret"}
    files.write_json(path, content | {"files": [outside]})
    assert "'../secret' does not lie below" in refused(capsys, "--check", str(SIAMESE))
    for name in ("siamese", "../../../elsewhere"):  # of an image set whose manifest has no hash on the card
        files.write_json(path, content | {"kind": "images", "entry": name, "files": content["files"][:1]})
        assert "does not list the manifest of the images" in refused(capsys, "--check", str(SIAMESE))


def test_names_of_files_cannot_write_on_the_terminal(study: Params, capsys: pytest.CaptureFixture[str]) -> None:
    released("siamese")
    content = files.read_json(SIAMESE / CARD)
    files.write_json(SIAMESE / CARD, content | {"files": [content["files"][0] | {"path": "a\x1b[2J\nb"}]})
    capsys.readouterr()
    assert main(["release", "--check", str(SIAMESE)]) == 1
    assert "a\\x1b[2J\\x0ab: missing\n" in capsys.readouterr().out
