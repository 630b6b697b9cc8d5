"""The studies of the papers have the settings that configs/papers/settings.csv lists."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline.core import plugins, tables
from pipeline.data import splitting
from pipeline.segmentation.params import entry_settings
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY

COLUMNS = ["paper", "studies", "key", "value", "ours", "known", "place"]
KNOWN = {"paper", "code", "log", "answer"}
KINDS = {"generators": "generators", "segmenters": "segmenters"}
STATED = [dict(row) for row in tables.read_table(REPOSITORY / "configs" / "papers" / "settings.csv")]
CASES = [(study, row) for row in STATED for study in row["studies"].split()]
WITH_TEST_FOLDERS = ("pranet",)


@cache
def shipped(study: str) -> Params:
    return load_params(REPOSITORY / "configs" / "studies" / f"{study}.yaml")


def plain(value: Any) -> Any:
    """Lists for tuples, mappings for sections, as YAML has them."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def read_value(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def own_params(kind: str, method: str, options: dict[str, Any]) -> BaseModel:
    return plugins.read_params(kind, method, options, kind)


def setting(study: Params, key: str) -> Any:
    """The value under a dotted key, defaults of sections and plug-ins included."""
    section, *rest = key.split(".")
    value: Any = getattr(study, section)
    if section in KINDS:
        name, first, *rest = rest
        entry = value[name]
        if section == "segmenters" and first == "segment":
            value = entry_settings(study.segment, name, entry)
        elif first in type(entry).model_fields:
            value = getattr(entry, first)
        else:
            value = getattr(own_params(KINDS[section], entry.method_of(name), entry.options), first)
    for part in rest:
        own = section == "data" and part not in type(value).model_fields
        value = getattr(own_params("readers", study.data.reader, study.data.options) if own else value, part)
    return plain(value)


def parts(study: Params, published: list[int]) -> list[int]:
    """Training, validation and test images that the study makes of a published set of these sizes, without groups."""
    train, val, _ = published
    data = study.data
    brings_test = data.reader in WITH_TEST_FOLDERS or "test_images" in data.options
    total = train + val if brings_test else sum(published)
    given: list[str | None] = [*[None] * total, *["test" if brings_test else None] * (sum(published) - total)]
    names = [str(number) for number in range(len(given))]
    split = splitting.assign_splits(given, names, {"test": data.test_share, "val": data.val_share}, study.seed)
    return [split.count(name) for name in splitting.SPLITS]


@pytest.mark.parametrize(("study", "row"), CASES, ids=[f"{study}-{row['key']}" for study, row in CASES])
def test_a_study_has_the_stated_setting(study: str, row: dict[str, str]) -> None:
    stated = read_value(row["value"])
    expected = read_value(row["ours"]) if row["ours"] else stated
    params = shipped(study)
    assert (parts(params, stated) if row["key"] == "parts" else setting(params, row["key"])) == expected


def test_rows_are_complete_and_none_stands_twice() -> None:
    assert all(list(row) == COLUMNS and None not in row.values() for row in STATED)
    assert {row["known"] for row in STATED} == KNOWN
    assert all(row["place"] and read_value(row["value"]) != read_value(row["ours"] or "nothing") for row in STATED)
    keys = [(row["paper"], study, row["key"]) for study, row in CASES]
    assert len(set(keys)) == len(keys)


def papers_of(study: str) -> set[str]:
    return {row["paper"] for name, row in CASES if name == study}


def studies_of_papers() -> Iterator[str]:
    """Studies whose file says where its values come from."""
    for path in sorted((REPOSITORY / "configs" / "studies").glob("*.yaml")):
        if "# [" in path.read_text(encoding="utf-8"):
            yield path.stem


@pytest.mark.parametrize("study", studies_of_papers())
def test_every_study_of_a_paper_has_rows(study: str) -> None:
    assert papers_of(study)


def test_three_fifths_of_458_images_are_274() -> None:
    """The lists of the private set are not published, so the share decides."""
    assert parts(shipped("faeces"), [275, 92, 91]) == [274, 92, 92]
