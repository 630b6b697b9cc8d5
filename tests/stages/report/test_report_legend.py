"""Every mark of a figure and every column of a table has its meaning beside it."""

import pytest

from pipeline.stages.report import legend
from pipeline.stages.report.extra_tables import KINDS, MEANINGS
from pipeline.stages.report.page import page
from pipeline.study import Params
from tests.explained import sections, unexplained
from tests.finished_study import leave_results


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study of which every stage has left its files."""
    leave_results()
    return toy_study


def test_every_mark_and_every_column_has_its_meaning_beside_it(study: Params) -> None:
    found = sections(page(study))
    assert sum(section.drawings for section in found.values()) >= 6
    assert {"arms", "curve", "scores", "copies", "losses"} <= {name for name, one in found.items() if one.columns}
    assert unexplained(page(study)) == []


def test_keys_use_symbols_that_there_are() -> None:
    keys = [value for name, value in vars(legend).items() if name.isupper() and isinstance(value, tuple)]
    used = {symbol for key in keys for symbol, _ in key}
    assert len(keys) >= 10
    assert used | {"outline"} == set(legend.SYMBOLS)


def test_every_column_of_the_further_tables_has_a_meaning() -> None:
    assert set(MEANINGS) == {label for _, _, columns, _ in KINDS for label in columns}
