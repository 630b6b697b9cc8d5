"""The report can be sent as one file: with as many pictures as the demo's it has less than 3 MB."""

import re
import shutil

import pytest

from pipeline.core import paths, tables
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.stages.report.page import page
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY, blobs, copies
from tests.finished_study import leave_results


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study of which every stage has left its files."""
    leave_results()
    return toy_study


def test_a_report_with_the_pictures_of_the_demo_can_be_sent_as_one_file(study: Params) -> None:
    """Twice the demo's pictures of one generator, in place of its two; noise of 256 pixels is their worst case."""
    demo = load_params(REPOSITORY / "params.yaml")
    count = len(demo.generators)
    spec = DatasetSpec(name="blobs", size=256)
    shutil.rmtree(paths.real("toy"))
    shutil.rmtree(paths.synthetic("toy", "siamese"))
    real = ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": demo.report.samples * count, "test": 4}))
    made = ImageSet.create(paths.synthetic("toy", "siamese"), spec, copies(real, 2))
    rows = [{"id": row["id"], "dice": number / len(made)} for number, row in enumerate(made)]
    tables.write_table(paths.scores("toy", "siamese") / "images.csv", rows)
    closest = {"suspect": 0, "own_source": 1, "space": "pixels", "flip": "", "distance_pixels": 0.5}
    pairs = [closest | {"id": row["id"], "nearest": row["source_id"]} for row in made]
    tables.write_table(paths.audit("toy", "siamese") / "images.csv", pairs[: demo.audit.pictures * count])
    values = study.model_dump(mode="json") | {"report": {"samples": demo.report.samples * count}}
    values["audit"] = {"pictures": demo.audit.pictures * count}
    text = page(parse(Params, values))
    shown = len(re.findall(r'<img src="data:image/(?:png|jpeg);base64,', text))
    assert shown >= count * (4 * demo.report.samples + 2 * demo.audit.pictures)
    assert len(text.encode()) < 3e6
