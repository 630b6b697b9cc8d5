"""Takes the screenshots of the documentation from a finished study, such as the demo, in a headless Chromium.

    dvc repro && twinsynth report
    python docs/figures/screenshots.py [FILE ...] [--to docs]

Run it in the folder of params.yaml. It opens the report, and serves the rating page and the page of `twinsynth try`
as their commands do; what it rates and keeps there lies in a temporary copy of the study.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

REPOSITORY = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
SECTIONS: Mapping[str, str] = {  # file: the part of the report that it shows
    "report_curve.png": "#curve .figures",
    "report_arms.png": "#arms",
    "report_samples.png": "#samples .galleries",
    "report_scores.png": "#scores",
    "report_copies.png": "#copies",
    "report_map.png": "#map",
}
FILES = ("report.png", *SECTIONS, "rating.png", "try.png")
WIDTH, HEIGHT = 1280, 900
PATIENCE = 3_600_000  # milliseconds for one image, which takes seconds on an idle machine
COLOURS = 256  # of the palette of a picture, which keeps it small


def main() -> None:
    """Takes all screenshots, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="FILE", help=f"all by default: {', '.join(FILES)}")
    parser.add_argument("--to", type=Path, default=REPOSITORY / "docs", help="folder to write to (default: docs)")
    arguments = parser.parse_args()
    names, folder = arguments.names or list(FILES), arguments.to.resolve()
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit(f"error: none of {', '.join(NAMES)} is on the PATH; install Chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        take(page, names, folder)
        browser.close()


def take(page: Page, names: list[str], folder: Path) -> None:
    """Write the named screenshots."""
    if {"report.png", *SECTIONS} & set(names):
        report(page, names, folder)
    if {"rating.png", "try.png"} & set(names):
        with tempfile.TemporaryDirectory() as temporary:
            copy = copy_of_study(Path(temporary))
            if "rating.png" in names:
                rating(page, copy, folder / "rating.png")
            if "try.png" in names:
                drawing(page, copy, folder / "try.png")


def report(page: Page, names: list[str], folder: Path) -> None:
    """The first screen of the report, and its parts."""
    found = subprocess.run(["twinsynth", "report"], check=True, capture_output=True, text=True).stdout.split()
    page.goto(next(Path(word).resolve() for word in found if word.endswith("index.html")).as_uri())
    if "report.png" in names:
        save(page.screenshot(), folder / "report.png")
    page.locator("nav.parts").evaluate("node => { node.style.position = 'static'; }")  # it would lie over the parts
    for name, part in SECTIONS.items():
        if name in names and page.locator(part).count():
            page.goto(page.url.partition("#")[0] + part.partition(" ")[0])  # opens the tab
            save(page.locator(part).first.screenshot(), folder / name)


def rating(page: Page, study: Path, path: Path) -> None:
    """The page of a rater, at the first image."""
    with serving(study, "rate", "serve", "--rater", "Ann", "--port", "0") as lines:
        page.goto(next(line.split(": ", 1)[1] for line in lines if line.startswith("personal link")))
        page.wait_for_selector("#task:not([hidden])")
        save(page.screenshot(), path)


def drawing(page: Page, study: Path, path: Path) -> None:
    """The page of `twinsynth try` with the image of a training mask."""
    with serving(study, "try", "--port", "0") as lines:
        page.goto(next(line.split(": ", 1)[1] for line in lines if line.startswith("page")))
        page.wait_for_selector("#about:not(:empty)")
        page.keyboard.press("n")
        page.wait_for_selector("#origin:has-text('The mask of the training image')")
        page.keyboard.press("Enter")
        page.wait_for_selector("#keep:not([disabled])", timeout=PATIENCE)
        save(page.screenshot(full_page=True), path)


def copy_of_study(folder: Path) -> Path:
    """A folder in which the study's outputs may be used without leaving anything in its own."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(name, folder)
    (folder / "outputs").symlink_to(Path("outputs").resolve())
    return folder


@contextmanager
def serving(study: Path, *command: str) -> Iterator[list[str]]:
    """A command that serves a page until the block ends; the lines that it prints first."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    program = [sys.executable, "-m", "pipeline.cli", *command]
    process = subprocess.Popen(program, cwd=study, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        yield lines
    finally:
        process.terminate()
        process.wait()


def save(picture: bytes, path: Path) -> None:
    """Write a picture with a palette: screenshots are mostly areas of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".full.png")
    temporary.write_bytes(picture)
    with Image.open(temporary) as full:
        full.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    temporary.unlink()


if __name__ == "__main__":
    main()
