"""`twinsynth try` in a real browser: draw with the pointer and with keys, see the image, keep the pair."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.study import Params
from tests.patience import HUNG
from tests.served import served
from tests.toy_outputs import write_toy_outputs

pytestmark = pytest.mark.browser


@pytest.fixture
def address(toy_study: Params, spec: DatasetSpec) -> Iterator[str]:
    """Address of a page that a process of its own serves until Ctrl-C."""
    write_toy_outputs(toy_study, spec)
    with served("try", "--port", "0", lines=2) as (lines, errors):
        yield lines[1].removeprefix("page: ").strip()
    assert "Traceback" not in errors[0]


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """The page, of which nothing may go wrong and that asks its own server only."""
    context = chromium.new_context(viewport={"width": 390, "height": 812}, color_scheme="dark")
    opened = context.new_page()
    opened.set_default_timeout(1000 * HUNG)
    complaints: list[str] = []
    asked: set[str] = set()
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: asked.add(request.url))
    opened.goto(address)
    opened.wait_for_selector("#about:not(:empty)")
    yield opened
    assert complaints == []
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
    context.close()


def draw_and_keep(page: Page, kept: str) -> None:
    page.keyboard.press("Enter")
    page.wait_for_selector("#keep:not([disabled])")
    assert "Dice" in page.inner_text("#verdict")
    assert page.locator("#closest img").count() == 3
    page.keyboard.press("k")
    page.wait_for_selector(f"#kept:has-text('{kept}')")


def test_a_mask_is_drawn_becomes_an_image_and_is_kept(page: Page) -> None:
    box = page.locator("#mask").bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    draw_and_keep(page, "1 pair")
    page.locator("#mask").focus()
    page.keyboard.press("c")
    page.keyboard.down(" ")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.up(" ")
    draw_and_keep(page, "2 pairs")
    pairs = ImageSet.open(Path("data/drawn/toy"))
    by_pointer, by_keys = sorted((pairs.mask(row) for row in pairs), key=lambda mask: bool(mask[16, 22]))
    assert by_pointer[13, 13]
    assert by_keys[16, 16]
    assert not by_keys[4:8].any()


def test_a_training_mask_is_taken_and_an_empty_mask_is_refused(page: Page) -> None:
    page.keyboard.press("Enter")
    page.wait_for_selector("#trouble:has-text('empty')")
    page.keyboard.press("n")
    page.wait_for_selector("#origin:has-text('The mask of the training image')")
    draw_and_keep(page, "1 pair")
    (row,) = ImageSet.open(Path("data/drawn/toy")).rows
    assert row["source_id"].startswith("train_")
    assert row["transform"] == "{}"


def test_a_picture_of_a_mask_is_loaded(page: Page, spec: DatasetSpec) -> None:
    real = ImageSet.open(Path("outputs/toy/real"))
    row = real.split("train").rows[0]
    page.set_input_files("#file", real.folder / "masks" / Path(row["mask"]).name)
    page.wait_for_selector("#origin:has-text('scaled to 32 x 32')")
    page.locator("h1").click()
    draw_and_keep(page, "1 pair")
    pairs = ImageSet.open(Path("data/drawn/toy"))
    assert (pairs.mask(pairs.rows[0]) == real.mask(row)).all()
