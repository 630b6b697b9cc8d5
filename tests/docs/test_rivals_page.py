"""The page of rivals: what it says that twinsynth has is there, and what it says is missing is missing."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pipeline.core import plugins
from tests.conftest import REPOSITORY
from tests.pages import QUOTED

PAGE = REPOSITORY / "docs" / "rivals.md"
HEADER = ["method", "named by", "in twinsynth", "known", "remark"]


class Rival(NamedTuple):
    """A row of the page."""

    method: str
    named_by: str
    ours: str
    known: str
    remark: str


def rivals() -> Iterator[Rival]:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells != HEADER:
                yield Rival(*cells)


def methods() -> set[str]:
    return {*plugins.names("generators"), *plugins.names("segmenters")}


def letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@pytest.mark.parametrize("rival", rivals(), ids=lambda rival: rival.method)
def test_what_is_here_is_a_method_with_these_keys(rival: Rival) -> None:
    assert rival.known in ("read", "recalled")
    if rival.ours == "no":
        assert letters(rival.method) not in {letters(name) for name in methods()}
        assert rival.remark, "a method that is missing needs the reason"
        return
    method, *settings = QUOTED.findall(rival.ours)
    assert method in methods()
    kind = "generators" if method in plugins.names("generators") else "segmenters"
    fields = plugins.params_class(kind, method).model_fields
    key = None
    for setting in settings:
        name, _, value = setting.partition(": ")
        key = name if name in fields else key  # a further value of the same key stands alone
        assert key is not None, f"{method} has no key {name!r}"
        shown = value if name in fields else name
        assert not shown or shown in str(fields[key].annotation), f"{method}.{key} cannot be {shown!r}"


def test_the_page_has_the_tables_of_all_papers() -> None:
    named = " ".join(rival.named_by for rival in rivals())
    assert all(paper in named for paper in ("Siamese-Diffusion", "DermoSegDiff", "recycling", "CIMD"))
