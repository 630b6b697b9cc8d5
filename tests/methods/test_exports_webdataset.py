"""WebDataset, read back by webdataset."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from tests.exported import run, splits, write_study


@pytest.fixture(autouse=True, params=[2, 3])
def num_classes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(tmp_path)
    write_study(request.param)
    return request.param


def test_webdataset_reads_every_pair_in_order() -> None:
    folder = run("webdataset", "--shard-size", "10")
    for split, images in splits().items():
        shards = sorted(map(str, folder.glob(f"{split}-*.tar")))
        read = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
        assert len(read) == len(images)
        for number, (row, pair) in enumerate(zip(images, read, strict=True)):
            assert pair["__key__"] == f"{number:09d}"
            image, mask = (Image.open(io.BytesIO(pair[key])) for key in ("image.png", "mask.png"))
            assert np.array_equal(np.moveaxis(np.asarray(image), -1, 0), images.image(row))
            assert np.array_equal(np.asarray(mask), images.mask(row))
            assert (pair["json"]["id"], pair["json"]["synthetic"]) == (row["id"], row["synthetic"])


def test_webdataset_decodes_the_image_by_its_key() -> None:
    shards = [str(run("webdataset") / "val-000000.tar")]
    first = next(iter(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8")))
    images = splits()["val"]
    assert np.array_equal(np.moveaxis(first["image.png"], -1, 0), images.image(images.rows[0]))


def test_shards_hold_a_fixed_number_of_pairs_and_nothing_of_the_machine() -> None:
    folder = run("webdataset", "--shard-size", "10")
    entries = {}
    for path in sorted(folder.iterdir()):
        with tarfile.open(path) as tar:
            entries[path.name] = tar.getmembers()
    train = [f"train-{number:06d}.tar" for number in range(3)]
    assert list(entries) == ["test-000000.tar", *train, "val-000000.tar"]
    assert [len(entries[name]) // 3 for name in train] == [10, 10, 4]
    for members in entries.values():
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert entries[train[1]][0].name == "000000010.image.png"
