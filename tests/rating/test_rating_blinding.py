"""Facts of blinding: which images are shown, and that no file, id or order tells where one is from."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, png, write_pair
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.generate import provenance
from pipeline.study import Params
from pipeline.web.rating import raters
from pipeline.web.rating.blinding import opaque_id, pad_to_one_length, plain_png, shuffle
from pipeline.web.rating.selection import draw, image_sets
from pipeline.web.rating.study_database import begin_study


def chunks(content: bytes) -> list[str]:
    """Names of a PNG's chunks; the checksums are looked at by whoever decodes it."""
    found, at = [], 8
    while at < len(content):
        found.append(content[at + 4 : at + 8].decode())
        at += 12 + int.from_bytes(content[at : at + 4])
    return found


def flat_and_noisy() -> list[np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (3, 24, 24)).astype(np.uint8)
    return [np.zeros((3, 24, 24), np.uint8), noise]


def test_files_have_one_length_and_hold_pixels_alone() -> None:
    images = flat_and_noisy()
    plain = [plain_png(image) for image in images]
    assert len(plain[0]) < len(plain[1]) / 10  # what the length would tell
    padded = pad_to_one_length(plain)
    assert len(padded[0]) == len(padded[1]) == len(plain[1]) + 12
    for image, content in zip(images, padded, strict=True):
        assert chunks(content) == ["IHDR", "IDAT", "paDd", "IEND"]
        decoded = Image.open(io.BytesIO(content))
        decoded.load()
        assert decoded.info == {}
        assert np.array_equal(np.moveaxis(np.asarray(decoded), -1, 0), image)


def test_what_synthetic_files_say_of_themselves_is_left_out(tmp_path: Path, spec: DatasetSpec) -> None:
    sample = Sample("a", flat_and_noisy()[1], np.zeros((1, 24, 24), np.uint8), split="train")
    row = write_pair(tmp_path, sample, {}, provenance.text_chunks("a", "A photo.", {"generator": "siamese"}))
    assert b"siamese" in (tmp_path / row["file_name"]).read_bytes()
    assert plain_png(ImageSet(tmp_path, spec, (row,)).image(row)) == plain_png(np.asarray(sample.image, np.uint8))


def test_equally_many_images_of_every_arm(toy_study: Params) -> None:
    sets = image_sets("toy", toy_study.generators)
    drawn = draw(sets, 100, seed=0)
    assert Counter(one.arm for one in drawn) == {"real": 4, "siamese": 4}  # the test split has four
    assert {one.id for one in drawn if one.arm == "real"} == {f"test_{k}" for k in range(4)}
    assert [one.id for one in draw(sets, 3, 0)] == [one.id for one in draw(sets, 3, 0)]
    assert [one.id for one in draw(sets, 4, 0)] != [one.id for one in draw(sets, 4, 1)]


def test_no_mask_comes_twice_while_another_one_is_left(toy_study: Params) -> None:
    sets = image_sets("toy", toy_study.generators)
    sets["real"] = ImageSet.open(paths.real("toy"))  # 15 of them
    drawn = [one.id.removesuffix("_c0").removesuffix("_c1") for one in draw(sets, 12, 0) if one.arm == "siamese"]
    assert set(Counter(drawn[:8]).values()) == {1}  # two copies of eight masks
    assert max(Counter(drawn).values()) == 2


def test_unknown_generators_are_named(toy_study: Params) -> None:
    with pytest.raises(UserError, match="no generator 'siamse' in params"):
        image_sets("toy", toy_study.generators, ["siamse"])


def test_ids_and_orders_depend_on_the_secret_and_the_rater() -> None:
    items = list(range(1, 31))
    orders = [shuffle(items, secret, rater) for secret in (b"one", b"two") for rater in (1, 2)]
    assert all(sorted(order) == items for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert len({opaque_id(secret, "image", rater, 1) for secret in (b"one", b"two") for rater in (1, 2)}) == 4


def test_raters_share_no_id_and_no_order(toy_study: Params) -> None:
    database = begin_study(toy_study, 4)
    with database.writing() as connection:
        for name in ("Ann", "Ben"):
            raters.add_rater(connection, name)
        tasks = connection.execute("SELECT rater, image, item FROM tasks ORDER BY rater, position").fetchall()
    ids = [{image for rater, image, _ in tasks if rater == number} for number in (1, 2)]
    orders = [[item for rater, _, item in tasks if rater == number] for number in (1, 2)]
    assert len(ids[0]) == len(ids[1]) == 8
    assert not ids[0] & ids[1]
    assert orders[0] != orders[1]


def test_a_stage_run_again_changes_nothing_that_is_shown(toy_study: Params) -> None:
    begin_study(toy_study, 4)
    assert begin_study(toy_study).path == begin_study(toy_study, 4).path
    with pytest.raises(UserError, match="began with 4 images each, not 3; leave --images out"):
        begin_study(toy_study, 3)
    folder = paths.synthetic("toy", "siamese")
    first = ImageSet.open(folder).rows[0]
    (folder / first["file_name"]).write_bytes(png(np.zeros((32, 32, 3), np.uint8)))
    rows = [{**row, "sha256": files.sha256(folder / row["file_name"])} for row in ImageSet.open(folder)]
    ImageSet.finish(folder, ImageSet.open(folder).spec, rows)
    with pytest.raises(UserError, match="the images of siamese are not the ones that the ratings began with"):
        begin_study(toy_study)


def test_another_file_is_not_taken_for_a_database(toy_study: Params) -> None:
    place = paths.ratings("toy") / "rating.sqlite"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"rater,image\n" * 100)
    with pytest.raises(UserError, match="file is not a database"):
        begin_study(toy_study)
    assert place.read_bytes().startswith(b"rater,image")
