"""The pages of the documentation and what a test may look at in them: fenced blocks, links, paths, headings."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "data" / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
FENCE = "```"
MARK = re.compile(r"<!-- (runnable|not run|fragment)(?:: (.+?))? -->")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block with the mark that stands above it, which a reader of the rendered page does not see."""

    page: Path
    line: int  # of the opening fence, from 1
    language: str
    text: str
    mark: str  # runnable, not run, fragment (of YAML that is no whole section), or nothing
    reason: str  # what stands behind the colon of the mark

    @property
    def words(self) -> frozenset[str]:
        """What a runnable block needs, a word each."""
        return frozenset(self.reason.split())

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY).as_posix()}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, without their indentation."""
    mark, reason, language, inside, start = "", "", "", None, 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if inside is None and text.startswith(FENCE):
            inside, start, language = [], number, text.removeprefix(FENCE)
        elif inside is not None and text == FENCE:
            yield Block(page, start, language, textwrap.dedent("\n".join(inside)) + "\n", mark, reason)
            mark, reason, inside = "", "", None
        elif inside is not None:
            inside.append(line)
        elif found := MARK.fullmatch(text):
            mark, reason = found[1], found[2] or ""
        elif text:
            mark, reason = "", ""
    assert inside is None, f"{page}: the block of line {start} is not closed"


def listed_pages(part: str) -> list[Path]:
    """The pages that the tables of contents of one part of the site list."""
    index = REPOSITORY / "docs" / "site" / f"{part}.md"
    trees = re.findall(rf"^{FENCE}{{toctree}}\n(.*?)^{FENCE}$", index.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    return [(index.parent / f"{name}.md").resolve() for name in names]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(rf"^ *{FENCE}.*?^ *{FENCE}$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link may name behind its #, as code hosts make it from headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
