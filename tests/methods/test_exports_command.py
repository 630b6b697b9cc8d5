"""The command: the same bytes twice, bounded memory, nothing half written, and errors that say what helps."""

import errno
import gc
import json
import shutil
import tracemalloc
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.core import files, paths, plugins
from pipeline.data.image_set import ImageSet, Row
from pipeline.methods.exports import _export, _format
from tests.conftest import REPOSITORY
from tests.exported import run, splits, write_study

FORMATS = plugins.names("exports")


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    monkeypatch.chdir(tmp_path)
    return write_study()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of an export that ends with status 2 and leaves nothing behind."""
    before = sorted(Path().rglob("*"))
    try:
        assert main(["export", "set", *arguments]) == 2
    except SystemExit as end:  # of a wrong usage
        assert end.code == 2
    assert sorted(Path().rglob("*")) == before
    return capsys.readouterr().err


def test_the_five_formats_are_there() -> None:
    assert FORMATS == ["coco", "imagefolder", "nnunet", "parquet", "webdataset"]


def test_every_format_is_in_the_guide() -> None:
    guide = (REPOSITORY / "docs" / "exports.md").read_text()
    assert all(f"twinsynth export set {name} " in guide for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_set_gives_the_same_bytes(name: str) -> None:
    first = run(name, "--shard-size", "7", out="a")
    (Path("outputs") / "toy" / "real" / "images" / "train_0.png").touch()
    second = run(name, "--shard-size", "7", out="deep/er/b")
    assert files.tree_sha256(first) == files.tree_sha256(second)
    assert str(Path.cwd()).encode() not in b"".join(p.read_bytes() for p in first.rglob("*") if p.is_file())


@pytest.mark.parametrize("name", FORMATS)
def test_a_copy_of_the_files_is_written_not_a_link(name: str) -> None:
    folder = run(name)
    assert all(path.stat().st_nlink == 1 for path in folder.rglob("*") if path.is_file())
    assert not list(Path().glob(".out*"))


@pytest.mark.parametrize("name", FORMATS)
def test_memory_does_not_grow_with_the_pictures(name: str, study: ImageSet) -> None:
    """150 more pairs of more than 2500 bytes each cost less than half of their size."""
    run(name, out="warm")
    pair = sum(len(content) for content in _format.read_pair(study, study.rows[0]))
    peaks = [peak(name, study, count, Path(f"out{count}")) for count in (60, 210)]
    assert pair > 2500
    assert peaks[1] - peaks[0] < 150 * pair / 2


def peak(name: str, study: ImageSet, count: int, target: Path) -> int:
    """Most bytes that Python held at once while it exported `count` pairs."""
    rows = [dict(study.rows[n % 24]) for n in range(count)]
    numbered = [{**row, "id": f"{row['id']}_{n}"} for n, row in enumerate(rows)]
    images = study.select(numbered)
    gc.collect()
    tracemalloc.start()
    _export.export(name, {"train": images}, target, _format.ExportOptions("toy"))
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return held


def test_without_a_study_that_of_params_yaml_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    demo = (REPOSITORY / "params.yaml").read_text()
    Path("params.yaml").write_text(demo.replace("study: demo", "study: toy"))
    assert main(["export", "set", "webdataset", "--real", "--out", "out"]) == 0
    assert capsys.readouterr().out.endswith("out: 8 train, 3 val, 4 test\n")


def test_unknown_format_lists_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "cocoa", "--real", "--out", "out")
    assert "there is no 'cocoa' among the exports; the available ones are: coco, imagefolder, nnunet" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--training-set", "siamese_x9"],
            "no training set 'siamese_x9' in outputs/toy/training_sets; the available ones are: siam",
        ),
        (["--training-set", "../real"], "no training set '../real'"),
        (
            ["--generator", "gan"],
            "no image set of the generator 'gan' in outputs/toy/synthetic; the available ones are: siamese",
        ),
    ],
)
def test_a_missing_set_is_named_with_those_there_are(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, "coco", "--study", "toy", *arguments, "--out", "out")


def test_a_missing_study_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, "coco", "--study", "tyo", "--real", "--out", "out")
    assert "there is no study 'tyo' in outputs; the available ones are: toy" in told


def test_an_unfinished_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    (paths.synthetic("toy", "siamese") / "metadata.jsonl").unlink()
    told = refused(capsys, "coco", "--study", "toy", "--generator", "siamese", "--out", "out")
    assert "is not a finished image set" in told


@pytest.mark.parametrize("full", [False, True])
def test_a_target_that_exists_is_refused_and_kept(full: bool, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    if full:
        Path("out/precious").write_text("mine")
    told = refused(capsys, "coco", "--study", "toy", "--real", "--out", "out")
    assert "out already exists; remove it, or name another folder with --out" in told


def test_an_empty_set_is_refused(capsys: pytest.CaptureFixture[str], study: ImageSet) -> None:
    ImageSet.create(paths.synthetic("toy", "nothing"), study.spec, [])
    told = refused(capsys, "coco", "--study", "toy", "--generator", "nothing", "--out", "out")
    assert "outputs/toy/synthetic/nothing holds no image to train on" in told


def test_an_unwritable_target_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    told = refused(capsys, "coco", "--study", "toy", "--real", "--out", "file/out")
    assert "the export to file/out failed" in told
    assert "Not a directory" in told


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_leaves_nothing(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))

    def full(images: ImageSet, row: Row, column: str) -> bytes:
        if next(calls) < 9:
            return images.content(row, column)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_format, "_read_verified", full)
    told = refused(capsys, name, "--study", "toy", "--real", "--out", "out")
    assert "the export to out failed, and nothing of it was kept: [Errno 28] No space left on device" in told


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_not_that_of_the_manifest_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = paths.training_set("toy", "siamese_x2")
    shutil.copyfile(folder / "images/train_0.png", folder / "images/train_1_c0.png")
    told = refused(capsys, name, "--study", "toy", "--training-set", "siamese_x2", "--out", "out")
    assert "images/train_1_c0.png is not the file that the manifest lists" in told


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    (paths.real("toy") / "masks/test_0.png").unlink()
    told = refused(capsys, "imagefolder", "--study", "toy", "--real", "--out", "out")
    assert "masks/test_0.png" in told


def test_sets_of_different_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    about = paths.training_set("toy", "siamese_x2") / "spec.json"
    files.write_json(about, {**files.read_json(about), "num_classes": 5})
    told = refused(capsys, "coco", "--study", "toy", "--training-set", "siamese_x2", "--out", "out")
    assert "the splits are of different data sets" in told


def test_an_id_that_stands_for_two_images_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = paths.training_set("toy", "siamese_x2") / "metadata.jsonl"
    manifest.write_text(manifest.read_text() + manifest.read_text().splitlines()[0] + "\n")
    told = refused(capsys, "coco", "--study", "toy", "--training-set", "siamese_x2", "--out", "out")
    assert "ids stand for several images: train_0" in told


@pytest.mark.parametrize(
    "arguments",
    [["--out", "out"], ["--real"], ["--real", "--generator", "siamese", "--out", "out"], ["--real", "--folds", "1"]],
)
def test_arguments_are_checked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "usage: twinsynth export set" in refused(capsys, "coco", *arguments)


def test_what_a_killed_export_left_is_cleared() -> None:
    Path(".out.123.tmp/train").mkdir(parents=True)
    run("webdataset")
    assert not Path(".out.123.tmp").exists()


def test_rows_keep_further_columns_as_json() -> None:
    row = {**splits()["train"].rows[0], "sampler": "ddim", "transform": {"angle": 3}, "seed": None}
    flat = _format.flat_columns(row)
    assert json.loads(flat["more"]) == {"sampler": "ddim", "transform": {"angle": 3}}
    assert flat["seed"] == ""
    assert {"file_name", "mask", "split"} & flat.keys() == set()
