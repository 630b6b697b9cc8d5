"""The requests of `twinsynth try`: a mask becomes an image, which is kept with its provenance; the rest is refused."""

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from pipeline.cli.main import main
from pipeline.core import paths
from pipeline.core.contracts import ImportedImages
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.stages.finetune.generator import build
from pipeline.stages.generate.generate import Job
from pipeline.study import Params
from pipeline.web.drawing import runs
from pipeline.web.drawing.app import LARGEST, create_app
from pipeline.web.drawing.workbench import Workbench
from pipeline.web.refusals import Refused
from tests.conftest import TOY_STUDY
from tests.patience import HUNG
from tests.toy_outputs import write_toy_outputs

HOST = "http://127.0.0.1:8766"
SETTINGS = {"generator": "siamese", "seed": 3, "steps": 2, "guidance_scale": 1.5, "control_scale": 1.0}


@pytest.fixture
def bench(toy_study: Params, spec: DatasetSpec) -> Workbench:
    write_toy_outputs(toy_study, spec)
    return Workbench(toy_study)


@pytest.fixture
def page(bench: Workbench) -> TestClient:
    return TestClient(create_app(bench), HOST)


def disc(size: int = 32) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = np.mgrid[:size, :size]
    return ((rows - 15) ** 2 + (columns - 12) ** 2 < 40).astype(np.uint8)


def asked(**changes: Any) -> dict[str, Any]:
    return {"runs": runs.encode(disc()), **SETTINGS, **changes}


def finished(page: TestClient, answer: Response) -> dict[str, Any]:
    """The state of a drawing that has come to its end."""
    name, end = answer.raise_for_status().json()["drawing"], time.monotonic() + HUNG
    while time.monotonic() < end:
        state = page.get(f"/api/drawings/{name}").raise_for_status().json()
        if state["image"] or state["error"]:
            return state | {"drawing": name}
        time.sleep(0.02)
    raise TimeoutError


def pixels(text: str) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@given(arrays.arrays(np.uint8, (8, 8), elements=st.integers(0, 2)))
def test_runs_hold_the_whole_mask(mask: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    assert np.array_equal(runs.decode(runs.encode(mask), 8, 3), mask)


@pytest.mark.parametrize("bad", [[(0, 63)], [(0, 65)], [(2, 64)], [(0, 0), (1, 64)], [(-1, 64)], []])
def test_runs_that_are_no_mask_are_refused(bad: list[tuple[int, int]]) -> None:
    with pytest.raises(Refused, match=r"8 x 8|labels"):
        runs.decode(bad, 8, 2)


def test_the_page_learns_what_can_be_drawn(page: TestClient) -> None:
    facts = page.get("/api/study").raise_for_status().json()
    expected = {"study": "toy", "size": 32, "generators": ["siamese"], "masks": 8, "folder": "data/drawn/toy"}
    assert facts.items() >= expected.items()
    assert facts["colours"] == [[0, 0, 0], [255, 255, 255]]


def test_an_image_is_drawn_judged_and_compared(page: TestClient) -> None:
    state = finished(page, page.post("/api/drawings", json=asked()))
    assert state["error"] is None
    assert (state["done"], state["steps"]) == (2, 2)
    assert pixels(state["image"]).shape == (32, 32, 3)
    assert 0 <= state["dice"] <= 1
    assert runs.decode(state["predicted"], 32, 2).shape == (32, 32)
    distances = [close["distance"] for close in state["closest"]]
    assert len(distances) == 3
    assert distances == sorted(distances)


def test_the_same_request_draws_the_same_image(page: TestClient) -> None:
    def image(**changes: Any) -> str:
        return finished(page, page.post("/api/drawings", json=asked(**changes)))["image"]

    first = image()
    assert image() == first
    assert image(seed=4) != first


def test_the_image_of_a_training_mask_is_compared_with_its_own(page: TestClient, bench: Workbench) -> None:
    mask = page.get("/api/masks/2").raise_for_status().json()
    row = bench.train.rows[2]
    assert mask["id"] == row["id"]
    assert np.array_equal(runs.decode(mask["runs"], 32, 2), bench.train.mask(row))
    original = bench.closest.find(bench.train.picture(row))
    assert original[0].id == row["id"]
    assert original[0].same
    assert not original[1].same


def test_a_kept_pair_says_where_it_comes_from(page: TestClient) -> None:
    mask = page.get("/api/masks/0").json()
    state = finished(page, page.post("/api/drawings", json=asked(source=mask["id"], control_scale=0.5)))
    kept = page.post("/api/pairs", json={"drawing": state["drawing"]}).raise_for_status().json()
    again = page.post("/api/pairs", json={"drawing": state["drawing"]}).raise_for_status().json()
    assert kept == again == {"id": kept["id"], "pairs": 1}
    pairs = ImageSet.open(Path("data/drawn/toy"))
    (row,) = pairs.rows
    expected = {"generator": "siamese", "control_scale": 0.5, "steps": 2, "seed": "3", "source_id": mask["id"]}
    assert row.items() >= (expected | {"synthetic": True, "masks": "drawn", "split": "train"}).items()
    assert json.loads(row["transform"]) == {"drawn": "by hand"}
    assert np.array_equal(pairs.mask(row), disc())
    assert np.array_equal(pairs.picture(row).transpose(1, 2, 0), pixels(state["image"]))
    with Image.open(pairs.folder / row["file_name"]) as picture:
        assert json.loads(picture.info["twinsynth"])["generator"] == "siamese"


def test_kept_pairs_come_into_a_study_as_a_folder(page: TestClient, toy_study: Params) -> None:
    for seed in (0, 1):
        state = finished(page, page.post("/api/drawings", json=asked(seed=seed)))
        page.post("/api/pairs", json={"drawing": state["drawing"]}).raise_for_status()
    folder = Path("data/drawn/toy")
    bank = {"masks": "bank", "mask_params": {"folder": f"{folder}/masks"}}
    entry = {"method": "folder", "root": f"{folder}/images", "copies": 1, **bank}
    params = parse(Params, TOY_STUDY | {"generators": {**TOY_STUDY["generators"], "mine": entry}})
    job = Job(params, "mine", paths.generator("toy", "mine"), 1, ImageSet.open(paths.real("toy")))
    assert len(job.plan.masks) == 2
    assert all(np.array_equal(mask.pixels, disc()) for mask in job.plan.masks)
    images = build("toy", 0, "mine", params.generators["mine"], job.real.spec, Runtime.alone())
    assert isinstance(images, ImportedImages)
    images.check(job.plan.masks, 1)


def test_one_image_at_a_time_and_it_can_be_stopped(page: TestClient, bench: Workbench) -> None:
    started = page.post("/api/drawings", json=asked(steps=1000)).raise_for_status()
    second = page.post("/api/drawings", json=asked())
    assert (second.status_code, "another image" in second.json()["error"]) == (409, True)
    unfinished = page.post("/api/pairs", json=started.json())
    assert (unfinished.status_code, unfinished.json()["error"]) == (409, "this image is not finished")
    page.post("/api/stop", json=started.json()).raise_for_status()
    assert finished(page, started)["error"] == "stopped"
    assert finished(page, page.post("/api/drawings", json=asked()))["error"] is None


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"runs": [[0, 1023]]}, 422, "32 x 32"),
        ({"runs": [[0, 1000], [5, 24]]}, 422, "labels 0 to 5"),
        ({"runs": []}, 422, "runs"),
        ({"generator": "../../etc"}, 404, "siamese"),
        ({"seed": -1}, 422, "seed"),
        ({"steps": 0}, 422, "steps"),
        ({"guidance_scale": 1e9}, 422, "guidance_scale"),
        ({"control_scale": -1}, 422, "control_scale"),
        ({"folder": "elsewhere"}, 422, "the request as a whole"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(
    changes: dict[str, Any], status: int, told: str, page: TestClient
) -> None:
    answer = page.post("/api/drawings", json=asked(**changes))
    assert answer.status_code == status
    assert told in answer.json()["error"]


def test_masks_of_the_test_set_condition_nothing(page: TestClient, bench: Workbench) -> None:
    row = bench.real.split("test").rows[0]
    answer = page.post("/api/drawings", json=asked(runs=runs.encode(bench.real.mask(row))))
    assert answer.status_code == 409
    assert "validation or test" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_pages_cannot_ask(headers: dict[str, str], status: int, page: TestClient) -> None:
    assert page.get("/api/masks/0", headers=headers).status_code == status
    assert page.post("/api/drawings", json=asked(), headers=headers).status_code == status


def test_forms_large_bodies_and_unknown_drawings_are_refused(page: TestClient) -> None:
    assert page.post("/api/drawings", data={"runs": "1"}).status_code == 415
    large = page.post("/api/drawings", content=b"[" * (LARGEST + 1), headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    assert page.get(f"/api/drawings/{'0' * 32}").status_code == 404
    assert page.post("/api/pairs", json={"drawing": "../x"}).status_code == 422
    assert page.get("/api/masks/8").status_code == 404
    assert page.get("/openapi.json").status_code == 404


def test_pairs_of_another_size_are_not_mixed(page: TestClient) -> None:
    ImageSet.create(Path("data/drawn/toy"), DatasetSpec(name="blobs", size=64), [])
    state = finished(page, page.post("/api/drawings", json=asked()))
    answer = page.post("/api/pairs", json={"drawing": state["drawing"]})
    assert answer.status_code == 409
    assert "move it away" in answer.json()["error"]


def test_a_study_without_a_trained_generator_says_so(
    toy_study: Params, capsys: pytest.CaptureFixture[str], spec: DatasetSpec
) -> None:
    with pytest.raises(UserError, match="run dvc repro"):
        Workbench(toy_study)
    write_toy_outputs(toy_study, spec)
    assert main(["try", "--port", "99999"]) == 2
    assert "choose another --port" in capsys.readouterr().err


def test_without_a_judge_the_reason_is_shown(toy_study: Params, spec: DatasetSpec) -> None:
    write_toy_outputs(toy_study, spec)
    paths.judge("toy").rename("elsewhere")
    page = TestClient(create_app(Workbench(toy_study)), HOST)
    state = finished(page, page.post("/api/drawings", json=asked()))
    assert state["dice"] is None
    assert "dvc repro judge" in state["unjudged"]
