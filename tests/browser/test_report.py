"""The report in a browser: silent, self-contained; tabs, tables, pictures, print; on a phone and in the dark."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page

from pipeline.core import files, paths, tables
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, png
from pipeline.data.sample import DatasetSpec
from pipeline.stages.report.page import write_report
from pipeline.study import Params
from tests.conftest import TOY_STUDY, blobs, copies
from tests.finished_study import leave_results

pytestmark = pytest.mark.browser
SMALLEST = 3  # contrast of large text and of signs; of other text it is 4.5 (WCAG 2.2, 1.4.3 and 1.4.11)
CONTRASTS = """
() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('svg')) continue;
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
    found.push([node.tagName, node.className, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  const series = [...document.querySelectorAll('svg[role=img] [stroke^="#"], svg[role=img] [fill^="#"]')];
  const signs = series.map((node) => {
    const paint = ['stroke', 'fill'].map((name) => node.getAttribute(name)).find((value) => value?.startsWith('#'));
    const [a, b] = [light(rgba(paint)), light(behind(node))];
    return [paint, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
  return {found, signs};
}
"""


@dataclass
class Opened:
    """A page and all that it said and asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The report of the toy study, every section in it, its names full of markup."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_report(finished_study())
        yield folder / "reports" / "toy" / "index.html"


def finished_study() -> Params:
    spec = DatasetSpec(name="blobs", size=32)
    real = ImageSet.create(paths.real("toy"), spec, blobs(spec, {"train": 8, "val": 3, "test": 4}))
    ImageSet.create(paths.synthetic("toy", "siamese"), spec, copies(real, 2))
    leave_results()
    rows = [{"id": f"train_{n}_c0", "dice": n / 10} for n in range(8)]
    tables.write_table(paths.scores("toy", "siamese") / "images.csv", rows)
    folder = paths.generator("toy", "siamese")
    tables.write_table(folder / "validation.csv", [{"step": 2, "mask": 0.5}, {"step": 4, "mask": 0.25}])
    files.write_bytes(folder / "samples" / "000002.png", png(np.zeros((96, 256, 3), np.uint8)))
    record = {"generator": "siamese", "images": 16, "kept": 3, "dropped": {"screen": 12}, "dice_threshold": 0.6127}
    record |= {"mean_dice": {"before": 0.3751, "after": 0.6754}, "dropped_images": []}
    files.write_json(paths.training_set("toy", "strict") / "screening.json", record)
    sets = TOY_STUDY["training_sets"] | {"strict": {"generator": "siamese", "multiplier": 2, "screen": 0.25}}
    title = "<img src=x onerror=alert(1)> </style><script>alert(2)</script>"
    return parse(Params, TOY_STUDY | {"training_sets": sets, "report": {"title": title}})


def opened(chromium: Browser, report: Path, width: int = 1440, scheme: str = "light") -> Opened:
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("request", lambda request: found.asked.append(request.url))
    found.page.goto(report.as_uri())
    return found


PARTS = ["Comparison", "Images", "Scores", "Copies and screening", "Training", "How to reproduce"]


def unfold(page: Page) -> Iterator[str]:
    """Opens every part of the page in turn, and in it all that is folded away; its name."""
    page.locator("header summary").click()
    for tab in page.get_by_role("tab").all():
        tab.click()
        for summary in page.locator(".part:not([hidden]) summary").all():
            summary.click()
        yield tab.inner_text()


def column(table: Locator, number: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_page_says_nothing_and_asks_for_nothing_but_itself(chromium: Browser, report: Path) -> None:
    seen = opened(chromium, report)
    assert seen.page.locator("p.verdict").inner_text() == "Inconclusive: <b>& so</b> it is."
    seen.page.locator("main img").first.click()
    seen.page.keyboard.press("Escape")
    assert list(unfold(seen.page)) == PARTS
    assert seen.said == []
    assert [url for url in seen.asked if not url.startswith("data:image/")] == [report.as_uri()]
    assert report.stat().st_size < 15e6


def test_policy_stops_scripts_styles_and_pictures_that_are_not_ours(chromium: Browser, report: Path) -> None:
    seen = opened(chromium, report)
    seen.page.evaluate(
        """() => {
          document.body.insertAdjacentHTML('beforeend', '<p id="planted" style="color: red" onclick="alert(3)">x</p>');
          const script = document.createElement('script');
          script.textContent = 'document.title = "taken"';
          document.body.append(script);
          const image = document.createElement('img');
          image.src = 'https://example.org/x.png';
          document.body.append(image);
        }"""
    )
    seen.page.locator("#planted").click()
    seen.page.wait_for_function("document.images[document.images.length - 1].complete")
    assert seen.page.title() != "taken"
    red = "rgb(255, 0, 0)"
    assert seen.page.locator("#planted").evaluate("node => getComputedStyle(node).color") != red
    assert len([line for line in seen.said if "Content Security Policy" in line]) == 4


def test_one_part_is_seen_and_the_keys_go_to_the_next(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    tabs = page.get_by_role("tab")
    assert tabs.all_inner_texts() == PARTS
    tabs.first.focus()
    keys = {"ArrowRight": 1, "End": 5, "ArrowLeft": 4, "Home": 0, " ": 0}
    for key, place in keys.items():
        page.keyboard.press(key)
        shown = page.get_by_role("tab", selected=True)
        assert shown.all_inner_texts() == [PARTS[place]]
        assert shown.evaluate("node => node === document.activeElement")
        panel = page.get_by_role("tabpanel", name=PARTS[place])
        assert panel.is_visible() and panel.get_attribute("id") == shown.get_attribute("aria-controls")
        assert page.locator(".part[hidden]").count() == 5
    page.keyboard.press("ArrowLeft")  # from the first to the last
    assert page.get_by_role("tab", selected=True).inner_text() == PARTS[-1]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    assert page.locator("#comparison").evaluate("node => node.contains(document.activeElement)")


def test_a_link_opens_the_part_that_it_leads_into(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    page.goto(f"{report.as_uri()}#losses")
    assert page.get_by_role("tab", selected=True).inner_text() == "Training"
    assert page.locator("#losses h2").is_visible()
    page.goto(f"{report.as_uri()}#arms")
    assert page.get_by_role("tab", selected=True).inner_text() == "Comparison"
    page.locator("nav.sections a[href='#curve']").click()
    assert page.locator("#curve").bounding_box()
    assert page.get_by_role("tab", selected=True).inner_text() == "Comparison"


def test_without_scripts_all_parts_are_there(chromium: Browser, report: Path) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(report.as_uri())
    assert all(part.is_visible() for part in page.locator(".part > section").all())
    assert page.locator("nav.parts a").all_inner_texts() == PARTS


def test_tables_sort_by_number_and_by_name_with_the_keyboard(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    arms = page.locator("#arms table").first
    before = column(arms, 2)
    assert before == ["real", "real_again", "siamese_x1"]
    difference = arms.get_by_role("button", name="Dice minus real")
    difference.focus()
    page.keyboard.press("Enter")
    header = arms.locator("th", has=page.get_by_role("button", name="Dice minus real"))
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(arms, 2) == ["real_again", "siamese_x1", "real"]  # the reference has no difference: it comes last
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending"
    assert column(arms, 2) == ["siamese_x1", "real_again", "real"]
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") is None and column(arms, 2) == before
    arms.get_by_role("button", name="training set").click()
    arms.get_by_role("button", name="training set").click()
    assert column(arms, 2) == ["siamese_x1", "real_again", "real"]
    assert arms.locator("[aria-sort]").count() == 1


def test_pictures_open_large_go_on_and_close_with_escape(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    page.get_by_role("tab", name="Images").click()
    first = page.locator("#samples button.zoom").first
    small = first.bounding_box()
    first.focus()
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name="Enlarged picture")
    assert viewer.is_visible()
    large = viewer.locator("img").bounding_box()
    assert small and large and large["width"] > 3 * small["width"]
    assert viewer.locator("p").inner_text().startswith("mask of train_0 (5 of ")  # after those at the top
    page.keyboard.press("ArrowRight")
    assert viewer.locator("img").get_attribute("alt") == "real image train_0"
    viewer.get_by_role("button", name="Previous").click()
    assert viewer.locator("img").get_attribute("alt") == "mask of train_0"
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert first.evaluate("node => node === document.activeElement")  # back where the reader was
    first.click()
    viewer.get_by_role("button", name="Close").click()
    assert not viewer.is_visible()


def test_print_shows_what_is_folded_away_on_light_paper(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report, scheme="dark").page
    folded = "document.querySelectorAll('details:not([open])').length"
    page.evaluate(f"window.addEventListener('beforeprint', () => {{ window.folded = {folded}; }})")
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") >= 4
    assert page.evaluate("window.folded") == 0
    assert page.locator("details[open]").count() == 0  # folded again afterwards
    page.emulate_media(media="print")
    assert all(part.is_visible() for part in page.locator(".part > section").all())
    assert page.locator("body").evaluate("node => getComputedStyle(node).color") == "rgb(27, 31, 39)"


@pytest.mark.parametrize("width", [320, 375, 1440])
def test_nothing_is_wider_than_the_window(chromium: Browser, report: Path, width: int) -> None:
    page = opened(chromium, report, width).page
    for part in unfold(page):
        assert page.evaluate("document.documentElement.scrollWidth") <= width, part
    regions = page.locator("[role=region]")
    assert regions.count() >= 8
    assert all(region.get_attribute("tabindex") == "0" for region in regions.all())  # wide tables scroll by keyboard


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_signs_stand_out(chromium: Browser, report: Path, scheme: str) -> None:
    page = opened(chromium, report, scheme=scheme).page
    body = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
    assert body == {"light": "rgb(251, 251, 249)", "dark": "rgb(20, 23, 28)"}[scheme]
    ratios = page.evaluate(CONTRASTS)
    assert len(ratios["found"]) > 200 and len(ratios["signs"]) > 20
    assert [one for one in ratios["found"] if one[2] < 4.5] == []
    assert [one for one in ratios["signs"] if one[1] < SMALLEST] == []


def test_every_figure_says_what_it_shows(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    figures = page.locator("figure:has(svg[role=img])")
    assert figures.count() == 9
    for figure in figures.all():
        assert figure.locator("figcaption").text_content()
        assert len(figure.locator("svg[role=img]").get_attribute("aria-label") or "") > 20
    assert page.locator("main img:not([alt])").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
