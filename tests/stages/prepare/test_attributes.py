"""Columns of a table about the images: who gets which value, what is published, what is a fault."""

import json
from pathlib import Path

import pytest

from pipeline.core import paths, tables
from pipeline.core.errors import UserError
from pipeline.stages.prepare.attributes import read_attributes
from pipeline.stages.prepare.prepare import names_path, prepare
from tests.drawn_pairs import data, folder, study

pytestmark = pytest.mark.usefixtures("elsewhere")
MANIFEST = "id,group,site,age,name\na,p1,A,41,Mueller\nb.png,p2,B,,Meier\nimages/c.png,p3, A ,7,Schmidt\n" + "".join(
    f"{stem},p{stem},B,50,Weber\n" for stem in "def"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean data set with a manifest."""
    root = folder(tmp_path / "set", train="a b", val="c d", test="e f")
    (root / "manifest.csv").write_text(MANIFEST, encoding="utf-8")
    return root


def published(name: str = "drawn") -> dict[str, dict[str, str]]:
    """The row of each file's stem, without its id."""
    rows = {row.pop("id"): row for row in tables.read_table(paths.attributes(name))}
    return {Path(row["file"]).stem: rows[row["id"]] for row in tables.read_table(names_path(name)) if rows}


def test_named_columns_are_published_by_pseudonym_and_no_other(root: Path) -> None:
    prepare(study(root=root, attributes={"columns": ["site", "age"]}))
    found = published()
    assert found["a"] == {"site": "A", "age": "41"}
    assert found["b"] == {"site": "B", "age": ""}
    assert found["c"] == {"site": "A", "age": "7"}
    everything = b"".join(path.read_bytes() for path in paths.outputs("drawn").rglob("*") if path.is_file())
    assert b"Mueller" not in everything


def test_without_attributes_the_set_is_the_same_and_the_table_empty(root: Path) -> None:
    with_them = prepare(study(root=root, attributes={"columns": ["site"]})).digest
    assert prepare(study(root=root)).digest == with_them
    assert paths.attributes("drawn").read_text(encoding="utf-8") == "id\n"


def test_a_table_of_its_own_serves_readers_without_a_manifest(tmp_path: Path, root: Path) -> None:
    table = tmp_path / "about.jsonl"
    table.write_text(json.dumps({"id": "A", "site": 3}) + "\n" + json.dumps({"target": "images/b.png"}) + "\n\n")
    prepare(study("kvasir", root=root, attributes={"columns": ["site"], "file": str(table)}))
    assert published()["a"] == {"site": "3"} and published()["b"] == published()["f"] == {"site": ""}


def test_lines_of_the_reader_jsonl_may_carry_the_columns(tmp_path: Path, root: Path) -> None:
    lines = [
        {"source": f"masks/{stem}.png", "target": f"images/{stem}.png", "split": split, "site": f"S{stem}"}
        for stem, split in zip("abcdef", ("train", "train", "val", "val", "test", "test"), strict=True)
    ]
    file = root / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    prepare(study("jsonl", file=str(file), attributes={"columns": ["site"]}))
    assert {stem: row["site"] for stem, row in published().items()} == {stem: f"S{stem}" for stem in "abcdef"}
    with pytest.raises(UserError, match="site"):
        prepare(study("jsonl", file=str(file)))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,site\na,A\n", r"about\.csv: has no column id; it has: name, site"),
        ("id,device\na,A\n", r"about\.csv: has no column site; it has: id, device"),
        ("id,site\nx,A\n", r"about\.csv: names none of the images"),
        ("id,site\na,A\na,B\n", r"about\.csv: names 'a' twice with different rows"),
        ("id,site\n\xe9,A\n", r"about\.csv: is not UTF-8 text"),
    ],
)
def test_faults_of_the_table_are_faults_of_the_set(tmp_path: Path, root: Path, table: str, message: str) -> None:
    (tmp_path / "about.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        prepare(study(root=root, attributes={"columns": ["site"], "file": str(tmp_path / "about.csv")}))
    assert not paths.outputs("drawn").exists()


def test_a_stem_that_two_images_share_must_be_a_path(tmp_path: Path) -> None:
    table = tmp_path / "about.csv"
    table.write_text("id,site\n1,A\nset/1.png,B\n", encoding="utf-8")
    section = data(attributes={"columns": ["site"], "file": str(table)})
    values, faults = read_attributes(section, ["set/1.png", "other/1.png"])
    assert [str(fault) for fault in faults] == [
        "about.csv: names '1', which 2 images share; write the path",
        "about.csv: names 'set/1.png' twice with different rows; keep one",
    ]
    assert len(values) == 2


def test_slices_of_a_volume_share_its_row(tmp_path: Path) -> None:
    table = tmp_path / "about.csv"
    table.write_text("id,site\ncase1,A\n", encoding="utf-8")
    section = data(attributes={"columns": ["site"], "file": str(table)})
    places = ["imagesTr/case1.nii.gz, slice 3", "imagesTr/case1.nii.gz, slice 5", "imagesTr/case2.nii.gz, slice 1"]
    assert read_attributes(section, places) == ([{"site": "A"}, {"site": "A"}, {"site": ""}], [])


def test_a_missing_table_is_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.attributes: .*nowhere\.csv does not exist"):
        prepare(study(root=root, attributes={"columns": ["site"], "file": "nowhere.csv"}))
    phantom = data("phantom", train=1, val=1, test=1, attributes={"columns": ["site"]})
    with pytest.raises(UserError, match=r"data\.attributes\.file is missing; the reader phantom has no table"):
        read_attributes(phantom, ["train_0000"])


@pytest.mark.parametrize(("columns", "message"), [(["id"], "meaning of its own"), (["a", "a"], "must differ")])
def test_wrong_columns_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        data(attributes={"columns": columns})
