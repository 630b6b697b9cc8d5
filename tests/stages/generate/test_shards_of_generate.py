"""Generation into tar shards: the pixels of the folder, one result for any number of processes, safe from kills."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.verification import verify
from pipeline.stages.generate import generate as generation
from pipeline.stages.generate.params import Generate
from pipeline.study import Params
from tests.sharded import Drawer, fill, study

PER_SHARD = 6  # three batches; the 24 images fill four shards


@pytest.fixture(autouse=True)
def drawer(toy_study: Params, monkeypatch: pytest.MonkeyPatch) -> Drawer:
    """The generator of every run of a test, which counts its batches."""
    drawer = Drawer()
    monkeypatch.setattr(generation, "build", lambda *_: drawer)
    return drawer


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("keys", [{}, {"keep_background": {}}, {"limit": 8}], ids=["plain", "background", "limit"])
def test_shards_hold_the_pixels_and_rows_of_the_folder(keys: dict[str, Any]) -> None:
    loose, stored = fill(study(None, **keys), Path("loose")), fill(study(PER_SHARD, **keys), Path("stored"))
    assert ("background_id" in loose.rows[0], "limit" in loose.rows[0]) == ("keep_background" in keys, "limit" in keys)
    assert stored.ids == loose.ids and len(stored) == 24
    verify(stored)
    for row, other in zip(stored, loose, strict=True):
        assert np.array_equal(stored.image(row), loose.image(other))
        assert np.array_equal(stored.mask(row), loose.mask(other))
        own = {"shard", "image_offset", "image_size", "mask_offset", "mask_size", "sha256"}
        assert {key: value for key, value in row.items() if key not in own} == {
            key: value for key, value in other.items() if key != "sha256"
        }
    assert sorted(path.name for path in stored.folder.rglob("*.tar")) == [f"{number:06d}.tar" for number in range(4)]
    assert not list(stored.folder.rglob("*.png"))


def test_images_carry_the_same_text() -> None:
    import io

    from PIL import Image

    loose, stored = fill(study(None), Path("loose")), fill(study(PER_SHARD), Path("stored"))
    texts = []
    for images in (loose, stored):
        with Image.open(io.BytesIO(images.content(images.rows[4], "file_name"))) as picture:
            texts.append(picture.text)  # type: ignore[attr-defined]
    assert texts[0] == texts[1] and "twinsynth" in texts[0]


@pytest.mark.parametrize("shard", [None, PER_SHARD])
def test_one_two_and_four_processes_give_the_same_bytes(shard: int | None) -> None:
    made = [content(fill(study(shard), Path(f"work{world}"), world).folder) for world in (1, 2, 4)]
    assert made[0] == made[1] == made[2]


def test_a_shard_holds_whole_batches() -> None:
    made = fill(study(5, copies=1, batch_size=3), Path("work"))  # eight images in batches of 3, 3 and 2
    assert [sum(row["shard"] == f"shards/{k:06d}.tar" for row in made) for k in range(3)] == [6, 2, 0]


def killed_at(call: int, world: int) -> None:
    """Run all processes of a launch; each is killed when it draws its batch of this number."""
    for _ in range(world):
        child = os.fork()
        if child == 0:
            rank = _
            try:
                _draw_until(call, rank, world)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _draw_until(call: int, rank: int, world: int) -> None:
    from types import SimpleNamespace

    import torch

    from pipeline.core import paths
    from pipeline.core.runtime import Runtime

    def die(calls: int) -> None:
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    generation.build = lambda *_: Drawer(die)  # type: ignore[assignment]
    params, together = study(PER_SHARD), SimpleNamespace(wait_for_everyone=lambda: None)
    trained, real = paths.generator("toy", "siamese"), ImageSet.open(paths.real("toy"))
    job = generation.Job(params, "siamese", trained, 3, real)
    generation.fill(job, Runtime(torch.device("cpu"), rank, world, together), Path("killed"))


def test_a_killed_run_loses_at_most_one_shard_per_process(drawer: Drawer) -> None:
    whole = content(fill(study(PER_SHARD), Path("whole")).folder)
    killed_at(5, world=2)  # of six batches, in the second shard of each process
    assert sorted(path.name for path in Path("killed/set/shards").glob("*.tar")) == ["000000.tar", "000001.tar"]
    assert list(Path("killed/set/shards").glob(files.TEMPORARY))  # what the killed processes were writing
    drawer.calls = 0
    made = fill(study(PER_SHARD), Path("killed"), world=1)
    assert drawer.calls == 6  # the batches of two of four shards
    assert content(made.folder) == whole


def test_a_finished_set_is_not_drawn_again(drawer: Drawer) -> None:
    fill(study(PER_SHARD), Path("work"))
    drawer.calls = 0
    fill(study(PER_SHARD), Path("work"), world=2)
    assert drawer.calls == 0


@pytest.mark.parametrize("damage", ["lost", "cut", "member", "rows"])
def test_a_damaged_shard_alone_is_made_again(drawer: Drawer, damage: str) -> None:
    before = content(fill(study(PER_SHARD), Path("work")).folder)
    path = Path("work/set/shards/000002.tar")
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "member":  # of the columns in JSON, which no hash of the manifest covers
        path.write_bytes(path.read_bytes().replace(b'"synthetic": true', b'"synthetic": null', 1))
    else:
        (row_file,) = Path("work/rows").rglob("*2.json")
        row_file.write_text("{")
    drawer.calls = 0
    assert content(fill(study(PER_SHARD), Path("work")).folder) == before
    assert drawer.calls == 3


def test_an_error_in_a_shard_leaves_nothing_half_written(drawer: Drawer) -> None:
    def fail(calls: int) -> None:
        if calls == 2:
            raise UserError("the generator cannot")

    drawer.before = fail
    with pytest.raises(UserError, match="the generator cannot"):
        fill(study(PER_SHARD), Path("work"))
    assert not [path for path in Path("work").rglob("*") if path.is_file()]


def test_no_shards_is_the_default_and_leaves_fingerprints_alone() -> None:
    given: dict[str, Any] = {"steps": 2, "guidance_scale": 1.0, "batch_size": 2}
    plain, stored = parse(Generate, given), parse(Generate, {**given, "shards": 10})
    assert plain.shards is None and "shards" not in plain.model_dump(mode="json")
    assert stored.model_dump(mode="json") == {**plain.model_dump(mode="json"), "shards": 10}
    assert files.fingerprint(plain) != files.fingerprint(stored)
    with pytest.raises(UserError, match="shards: Input should be greater than 0, found 0"):
        parse(Generate, {**given, "shards": 0})


def test_the_card_and_the_croissant_file_describe_shards() -> None:
    made = fill(study(PER_SHARD), Path("work"))
    told = files.read_json(made.folder / "croissant.json")
    (records,) = told["recordSet"]
    columns = {field["source"]["extract"]["column"] for field in records["field"]}
    assert columns == set(made.rows[0])
    (container,) = [part for part in told["distribution"] if part["@type"] == "cr:FileSet"]
    assert len([path for pattern in container["includes"] for path in made.folder.glob(pattern)]) == 4
    body = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "WebDataset" in body and "images/" not in body


def test_huggingface_and_webdataset_read_the_shards(tmp_path: Path) -> None:
    datasets, webdataset = pytest.importorskip("datasets"), pytest.importorskip("webdataset")
    made = fill(study(PER_SHARD), Path("work"))
    by_id = {row["id"]: row for row in made}
    loaded = datasets.load_dataset(str(made.folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert sorted(one["id"] for one in loaded["json"]) == made.ids
    first = loaded[7]
    row = by_id[first["json"]["id"]]
    assert np.array_equal(np.moveaxis(np.asarray(first["image.png"].convert("RGB")), -1, 0), made.image(row))
    paths_of_shards = sorted(map(str, made.folder.rglob("*.tar")))
    read = list(webdataset.WebDataset(paths_of_shards, shardshuffle=False).decode("rgb8"))
    assert [pair["__key__"] for pair in read] == [f"{number:09d}" for number in range(24)]
    assert np.array_equal(np.moveaxis(read[3]["image.png"], -1, 0), made.image(by_id[read[3]["json"]["id"]]))
