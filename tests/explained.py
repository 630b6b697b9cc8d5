"""Whether a report says what it shows: every column of a table and every mark of a figure, beside it."""

import html.parser
from dataclasses import dataclass, field

VOID = {"meta", "link", "img", "br", "path", "rect", "circle", "use"}


@dataclass
class Section:
    """What a section of the page shows, and what it explains."""

    name: str
    columns: set[str] = field(default_factory=set)  # headings of its tables
    explained: set[str] = field(default_factory=set)  # terms of its keys
    bare: int = 0  # drawings without the meanings of their marks
    drawings: int = 0


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sections = [Section("top")]
        self.inside: list[str] = []
        self.words: list[str] = []
        self.is_drawn = self.has_key = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        if tag == "section":
            self.sections.append(Section(about["id"] or ""))
        if tag == "figure":
            self.is_drawn = self.has_key = False
        self.is_drawn |= tag == "svg" and about.get("role") == "img"
        self.has_key |= tag == "li" and self.inside[-2:] == ["figure", "ul"]
        if tag not in VOID:
            self.inside.append(tag)
        self.words = []

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        text = "".join(self.words).strip()
        if tag == "th" and "thead" in self.inside:
            self.sections[-1].columns.add(text)
        elif tag == "dt":
            self.sections[-1].explained.add(text)
        elif tag == "figure":
            self.sections[-1].drawings += self.is_drawn
            self.sections[-1].bare += self.is_drawn and not self.has_key
        while self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def sections(page: str) -> dict[str, Section]:
    """The sections of a report by their names, and what stands above them."""
    reader = _Reader()
    reader.feed(page)
    return {section.name: section for section in reader.sections}


def unexplained(page: str) -> list[str]:
    """Columns without a meaning, and sections with a figure whose marks have none."""
    found = []
    for section in sections(page).values():
        found += [f"{section.name}: {column!r}" for column in sorted(section.columns - section.explained)]
        found += [f"{section.name}: {section.bare} drawings without a key"] if section.bare else []
    return found
