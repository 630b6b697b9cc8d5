"""Exports of a set in tar shards are those of the same set in files."""

import shutil
from pathlib import Path

import pytest

from pipeline.core import files, paths, plugins
from pipeline.data.image_set import ImageSet
from tests.exported import run, write_study
from tests.sharded import packed


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_study()


def pack(folder: Path) -> None:
    """Put the set of this folder into shards."""
    packed(ImageSet.open(folder), Path("packed"))
    shutil.rmtree(folder)
    Path("packed").rename(folder)


@pytest.mark.parametrize("name", plugins.names("exports"))
def test_a_training_set_in_shards_is_exported_byte_for_byte(name: str) -> None:
    loose = run(name, "--shard-size", "7", out="loose")
    pack(paths.training_set("toy", "siamese_x2"))
    stored = run(name, "--shard-size", "7", out="stored")
    assert files.tree_sha256(stored) == files.tree_sha256(loose)


@pytest.mark.parametrize("name", ["webdataset", "coco"])
def test_synthetic_images_in_shards_are_exported_byte_for_byte(name: str) -> None:
    loose = run(name, "--generator", "siamese", out="loose")
    pack(paths.synthetic("toy", "siamese"))
    assert files.tree_sha256(run(name, "--generator", "siamese", out="stored")) == files.tree_sha256(loose)


def test_a_damaged_shard_is_told_and_nothing_is_exported(capsys: pytest.CaptureFixture[str]) -> None:
    folder = paths.synthetic("toy", "siamese")
    pack(folder)
    path = folder / "shards" / "000000.tar"
    content = bytearray(path.read_bytes())
    content[700:710] = b"0123456789"
    path.write_bytes(content)
    run("webdataset", "--generator", "siamese", status=2)
    assert "is not the file that the manifest lists (sha256)" in capsys.readouterr().err
    path.unlink()
    run("webdataset", "--generator", "siamese", status=2)
    assert "000000.tar cannot be read" in capsys.readouterr().err
    assert not Path("out").exists()
