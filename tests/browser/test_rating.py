"""The rating page in a real browser: three raters with the keyboard alone, one closes and resumes; a saved page."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from pipeline.cli.main import main
from pipeline.core import paths
from pipeline.data.image_set import ImageSet
from pipeline.data.ratings import read_ratings
from pipeline.data.sample import DatasetSpec
from tests.conftest import TOY_STUDY, blobs, copies
from tests.patience import HUNG
from tests.served import served

pytestmark = pytest.mark.browser
IMAGES = 30


@pytest.fixture
def study(spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """15 real and 16 synthetic images in the current folder; what must never be said of them."""
    monkeypatch.chdir(tmp_path)
    real = ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 8, "test": 15}))
    synthetic = ImageSet.create(paths.synthetic("toy", "siamese"), spec, copies(real, 2))
    Path("params.yaml").write_text(json.dumps(TOY_STUDY))
    rows = [*real, *synthetic]
    return {"siamese", "toy", "blobs", *(row[key] for row in rows for key in ("id", "file_name", "sha256"))}


@pytest.fixture
def server(study: set[str]) -> Iterator[str]:
    """Address of a page that a process of its own serves until Ctrl-C."""
    with served("rate", "serve", "--port", "0", "--images", "15", lines=3) as (lines, errors):
        yield lines[1].removeprefix("rating page: ").strip()
    assert errors == [""]


class Watched:
    """A page of which everything is noted: what it hears, what it complains of."""

    def __init__(self, browser: Browser, width: int = 1440, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 812}, color_scheme=scheme)
        self.heard: list[str] = []
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self.open()

    def open(self) -> None:
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * HUNG)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfinished", self._hear)

    def _hear(self, request: Any) -> None:
        self.asked.add(request.url)
        response = request.response()
        if response and not request.url.startswith(("blob:", "data:", "file:")):
            self.heard.append(json.dumps(response.all_headers()) + response.body().decode("latin-1"))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait(self, done: int) -> None:
        self.page.locator(f"body:not([aria-busy]) #count:text-is('{done} of {IMAGES} rated')").wait_for()

    def reload_until(self, done: int) -> None:
        """Browsers write their memory a moment later; until then a page that is opened anew finds the older one."""
        limit = time.monotonic() + HUNG
        while self.page.locator("body:not([aria-busy]) #count").inner_text() != f"{done} of {IMAGES} rated":
            assert time.monotonic() < limit
            self.page.wait_for_timeout(100)
            self.page.reload()

    def rate(self, number: int, shift: int) -> None:
        """The image after `number` others: its quality is told by both numbers, as is what it is taken for."""
        self.press(str(1 + (number + shift) % 5), "rs"[(number + shift) % 2])
        if number % 10 == 5:
            self.press("m")
            self.page.keyboard.type("5 rulers, no mucus; u")  # letters that are keys elsewhere
        self.press("Enter")
        self.wait(number + 1)


def expected(shift: int) -> list[tuple[int, bool]]:
    return [(1 + (number + shift) % 5, (number + shift) % 2 == 0) for number in range(IMAGES)]


def lose_answers(rater: Watched, times: int) -> list[str]:
    """So many times the server saves a rating, but the page never hears of it; what the page sent."""
    sent: list[str] = []

    def lose(route: Any) -> None:
        sent.append(route.request.post_data)
        route.fetch()
        route.abort()

    rater.page.route("**/api/ratings", lose, times=times)
    return sent


def enter(rater: Watched, server: str, name: str) -> None:
    rater.page.goto(server)
    rater.page.locator("#name:focus").wait_for()
    rater.page.keyboard.type(name)
    rater.press("Enter")
    rater.wait(0)


def test_three_raters_with_the_keyboard_alone(study: set[str], server: str, chromium: Browser) -> None:
    ann, ben, eve = raters = [Watched(chromium), Watched(chromium, 375, "dark"), Watched(chromium, 375)]
    for shift, (rater, name) in enumerate(zip(raters, ("Ann", "Ben", "Eve Ö."), strict=True)):
        enter(rater, server, name)
        lost = lose_answers(rater, 2) if rater is ann else []
        for number in range(12):
            rater.rate(number, shift)
        assert len(set(lost)) == (rater is ann)  # sent again as it was, and counted once

    link = ben.page.url
    ben.page.close()  # and comes again by the personal link
    ben.open()
    ben.page.goto(link)
    ben.wait(12)

    eve.press("5", "r", "Enter")  # a slip
    eve.wait(13)
    eve.press("Backspace")
    eve.wait(12)
    ann.press("Enter")
    assert ann.page.locator("#trouble").inner_text() == "Press 1 to 5 first."
    ann.press("+", "+")
    assert ann.page.locator("#zoom").inner_text() == "200 %"

    for shift, rater in enumerate(raters):
        for number in range(12, IMAGES):
            rater.rate(number, shift)
        rater.page.locator("#end:focus").wait_for()
        assert rater.page.evaluate("document.documentElement.scrollWidth") <= rater.page.viewport_size["width"]
        assert [text for text in rater.complaints if "net::ERR_FAILED" not in text] == []  # the answers that were lost
        assert all(url.startswith((server, "blob:", "data:")) for url in rater.asked)
        assert len(rater.heard) > 60
        said = "".join(rater.heard)
        assert {secret for secret in study if secret in said} == set()
        rater.context.close()

    assert main(["rate", "export"]) == 0
    lines = (paths.ratings("toy") / "ratings.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 90
    found = read_ratings(paths.ratings("toy"))
    for shift, name in enumerate(("Ann", "Ben", "Eve Ö.")):
        own = [rating for rating in found if rating.rater == name]
        assert [(rating.quality, rating.is_taken_for_real) for rating in own] == expected(shift)
        assert [sum(rating.arm == arm for rating in own) for arm in ("real", "siamese")] == [15, 15]
    assert sum("5 rulers, no mucus; u" in line for line in lines) == 9


def test_a_page_without_a_server(study: set[str], chromium: Browser, tmp_path: Path) -> None:
    assert main(["rate", "static", "--rater", "Ann", "--images", "15"]) == 0
    place = (tmp_path / "for_raters" / "rate_ann.html").resolve().as_uri()
    ann = Watched(chromium, 375)
    ann.page.goto(place)
    ann.wait(0)
    for number in range(10):
        ann.rate(number, 0)
    ann.press("u")
    ann.wait(9)
    ann.page.close()
    ann.open()
    ann.page.goto(place)
    ann.reload_until(9)
    for number in range(9, IMAGES):
        ann.rate(number, 0)
    ann.page.locator("#download:focus").wait_for()
    with ann.page.expect_download() as waiting:
        ann.press("Enter")
    assert waiting.value.suggested_filename == "ratings_Ann.csv"
    waiting.value.save_as("back.csv")
    assert ann.complaints == []
    assert all(url.startswith((place, "blob:", "data:")) for url in ann.asked)
    ann.context.close()
    assert main(["rate", "import", "back.csv"]) == 0
    assert main(["rate", "export"]) == 0
    found = read_ratings(paths.ratings("toy"))
    assert [(rating.quality, rating.is_taken_for_real) for rating in found] == expected(0)
    assert {secret for secret in study if secret in Path("back.csv").read_text(encoding="utf-8")} == set()
