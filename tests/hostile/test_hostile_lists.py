"""Lists, tables, manifests and parameters of strangers: read, or refused by UserError or Fault, nothing else."""

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from pipeline.core import files, paths, plugins, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import ratings
from pipeline.data.image_set import ImageSet
from pipeline.data.verification import verify
from pipeline.stages.prepare.params import Data
from pipeline.study import Params, load_params
from pipeline.web.rating import raters, ratings_csv
from pipeline.web.rating.study_database import begin_study
from tests import data_folders, drawn_pairs
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.malformed import bent, sizes, tried

pytestmark = pytest.mark.faults
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def refused(read: Callable[[], Any]) -> bool:
    """Whether a UserError came out; any other error fails the test."""
    with contextlib.suppress(UserError):
        read()
        return False
    return True


def of_reader(data: Data) -> list[Any]:
    """Everything that a reader yields; nothing is decoded but what the reader itself decodes."""
    own = plugins.read_params("readers", data.reader, data.options, "data")
    return list(plugins.load("readers", data.reader).read(data, own))


MANIFEST_CSV = b"id,group,hospital\na,g1,north\nb,g1,south\nc,g2,north\nd,,south\n"
SPLITS = b"\xef\xbb\xbfa\nimages/b.png\r\n\nc\n"


@sizes(40, 900)
def test_lists_beside_images(tmp_path: Path, examples: int) -> None:
    root = drawn_pairs.folder(tmp_path, train="a b", val="c", test="d")
    data = drawn_pairs.data(root=str(root), source_column="hospital")
    plain = drawn_pairs.data(root=str(root))

    def check(content: tuple[bytes, bytes]) -> None:
        (root / "manifest.csv").write_bytes(content[0])
        (root / "splits" / "train.txt").write_bytes(content[1])
        refused(lambda: of_reader(data))
        refused(lambda: of_reader(plain))

    cells = st.lists(
        st.lists(st.sampled_from(["id", "group", "hospital", "a", "b", '"', "", "\0", "é"]), max_size=5), max_size=6
    )
    tables = cells.map(lambda rows: "\n".join(map(",".join, rows)).encode())
    tried(examples, st.tuples(bent([MANIFEST_CSV]) | tables, bent([SPLITS])), check)


@sizes(30, 400)
def test_lists_of_several_raters(tmp_path: Path, examples: int) -> None:
    data_folders.cimd(tmp_path, raters=2)
    original = (tmp_path / "manifest.csv").read_bytes()
    data = drawn_pairs.data("multirater", root=str(tmp_path))

    def check(content: bytes) -> None:
        (tmp_path / "manifest.csv").write_bytes(content)
        with contextlib.suppress(UserError):
            own = plugins.read_params("readers", data.reader, data.options, "data")
            next(iter(plugins.load("readers", data.reader).read(data, own)))  # the table is read before all cases

    tried(examples, bent([original]), check)


ABOUT = {"name": "a", "training": [{"image": "./imagesTr/part_000.nii.gz", "label": "./labelsTr/part_000.nii.gz"}]}


@sizes(30, 300)
def test_descriptions_of_volumes(tmp_path: Path, examples: int) -> None:
    data_folders.msd(tmp_path, volumes=1)
    about = {"reader": "volumes", "root": str(tmp_path), "shape": [8, 8, 8], "num_classes": 3, "prompt": "A volume."}
    data = parse(Data, about)

    def check(content: bytes) -> None:
        (tmp_path / "dataset.json").write_bytes(content)
        refused(lambda: of_reader(data))

    odd = st.fixed_dictionaries(
        {}, optional={"training": st.lists(st.fixed_dictionaries({"image": JSON, "label": JSON}))}
    )
    tried(examples, bent([json.dumps(ABOUT).encode()]) | (odd | JSON).map(lambda v: json.dumps(v).encode()), check)


LINE = {"source": "masks/a.png", "target": "images/a.png", "prompt": "a", "split": "train"}


@sizes(50, 900)
def test_lines_of_json(tmp_path: Path, examples: int) -> None:
    drawn_pairs.pair(tmp_path, "a")
    file = tmp_path / "prompt.json"
    data = drawn_pairs.data("jsonl", file=str(file))

    def check(content: bytes) -> None:
        file.write_bytes(content)
        refused(lambda: of_reader(data))

    odd = st.fixed_dictionaries({}, optional=dict.fromkeys((*LINE, "more"), JSON))
    lines = st.lists(odd | JSON, max_size=4).map(lambda values: "\n".join(map(json.dumps, values)).encode())
    deep = st.sampled_from([b"[" * 100_000, b'{"source":' * 50_000])
    tried(examples, bent([json.dumps(LINE).encode() * 2, json.dumps(LINE).encode() + b"\n"]) | lines | deep, check)


@sizes(40, 800)
def test_manifests_of_sets(toy_study: Params, examples: int) -> None:
    folder = paths.real("toy")
    whole = ImageSet.open(folder)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in whole.rows[:3]))
    originals = [(folder / name).read_bytes() for name in ("metadata.jsonl", "spec.json")]

    def use() -> None:
        images = ImageSet.open(folder)
        for row in images.split("train").rows[:1] + images.rows[:1]:
            images.sample(row)
        images.take(1)
        verify(images)

    def check(content: tuple[bytes, bytes]) -> None:
        for name, part in zip(("metadata.jsonl", "spec.json"), content, strict=True):
            (folder / name).write_bytes(part)
        refused(use)

    row = dict(whole.rows[0])
    names = st.sampled_from(["../../x", "/etc/passwd", "images/../../a", "C:\\x", "a\0b", "images/train_0.png", ""])
    odd = st.fixed_dictionaries({key: st.just(row[key]) | JSON | names for key in row}).map(
        lambda r: json.dumps(r).encode()
    )
    manifests = bent([originals[0]]) | odd
    specs = st.just(originals[1]) | bent([originals[1]]) | JSON.map(lambda value: json.dumps(value).encode())
    tried(examples, st.tuples(manifests, specs), check)


RATINGS = b"rater,image,arm,quality,real\nann,a,real,5,1\nann,b,siamese, 2 ,0\nbea,a,real,4,1\n"


@sizes(80, 1000)
def test_tables_of_ratings(tmp_path: Path, examples: int) -> None:
    def check(content: bytes) -> None:
        (tmp_path / "x.csv").write_bytes(content)
        if not refused(lambda: ratings.read_ratings(tmp_path)):
            assert all(1 <= one.quality <= 5 and one.rater and one.arm for one in ratings.read_ratings(tmp_path))

    wide = st.sampled_from([RATINGS + b'"' + b"x" * 200_000, b"a" * 200_000, RATINGS.replace(b"\n", b"\r"), b"\0" * 50])
    tried(examples, bent([RATINGS]) | wide, check)


@sizes(40, 500)
def test_tables_of_saved_pages(toy_study: Params, examples: int) -> None:
    database = begin_study(toy_study, 2)
    with database.writing() as connection:
        raters.ensure_rater(connection, "Ann")
        images = [name for (name,) in connection.execute("SELECT image FROM tasks")]
    rows = [[image, 3, 1, "a remark", f"{k:032x}"] for k, image in enumerate(images)]
    text = io.StringIO()
    csv.writer(text).writerows([ratings_csv.SAVED_COLUMNS, *rows])
    place = Path("back.csv")

    def check(content: bytes) -> None:
        place.write_bytes(content)
        with contextlib.suppress(UserError), database.writing() as connection:
            ratings_csv.import_ratings(connection, place)
            raise UserError("nothing is kept")  # the transaction is rolled back

    wide = st.just(text.getvalue().encode() + b'"' + b"x" * 200_000)
    tried(examples, bent([text.getvalue().encode()]) | wide, check)


@sizes(40, 400)
def test_records_and_tables_of_our_own(tmp_path: Path, examples: int) -> None:
    record, table = tmp_path / "record.json", tmp_path / "table.csv"
    files.write_json(record, {"a": [1, 2.5, None], "b": {"c": "é"}})
    tables.write_table(table, [{"id": "a", "dice": 0.5}, {"id": "b", "dice": 0.25}])
    originals = [record.read_bytes(), table.read_bytes()]

    def check(content: bytes) -> None:
        record.write_bytes(content)
        table.write_bytes(content)
        refused(lambda: files.read_json(record))
        refused(lambda: tables.read_table(table))

    tried(examples, bent(originals) | st.just(b"[" * 100_000) | st.just(b'"' + b"x" * 200_000), check)


def study() -> str:
    """A small study, one section a line."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in TOY_STUDY.items())


TRICKS = (
    b"!!python/object/apply:os.system ['touch run.txt']", b"!!python/name:os.system", b"!<tag:x> 1", b"&a [*a, *a]",
    b"2001-99-99", b"2001-12-14t21:59:43.10-05:00", b"0o9", b"0x", b"1_0", b".nan", b"-.inf", b"9" * 5000,
    b"!!binary x", b"!!binary aGVsbG8=", b"!!set {a, b}", b"!!timestamp x", b"!!int x", b"!!float x", b"!!bool x",
    b"? [a, b]\n: c",
    b"{[a]: b}", b"<<: 1", b"<<: [1]", b"*nowhere", b"\xff\xfe", b"[" * 1200, b"{a: " * 1200, b"%YAML 9.9\n---\na: b",
    b"--- a\n--- b", b"a: b\na: b", b"\0", b"1: 2", b"!!omap [a: b]", b"!!null x", b"'\\ud800'", b'"\\ud800"', b"",
)  # fmt: skip


@sizes(15, 500)
def test_parameters(tmp_path: Path, examples: int) -> None:
    place = tmp_path / "params.yaml"

    def check(content: bytes) -> None:
        place.write_bytes(content)

        def use() -> None:
            params = load_params(place)
            files.fingerprint(params)
            plugins.read_params("readers", params.data.reader, params.data.options, "data")

        refused(use)

    def planted(chosen: tuple[str, bytes]) -> bytes:
        """The study with one section replaced."""
        key, trick = chosen
        lines = [line for line in study().splitlines() if not line.startswith(f"{key}:")]
        return "\n".join(lines).encode() + f"\n{key}: ".encode() + trick

    tricks = st.tuples(st.sampled_from([*TOY_STUDY]), st.sampled_from(TRICKS)).map(planted)
    tried(examples, bent([study().encode()]) | tricks | st.sampled_from(TRICKS), check)
    assert not (tmp_path / "run.txt").exists() and not Path("run.txt").exists()


@sizes(40, 700)
def test_parameters_that_are_yaml_of_anything(examples: int) -> None:
    odd = st.fixed_dictionaries({}, optional=dict.fromkeys(Params.model_fields, JSON))

    def check(values: Any) -> None:
        refused(lambda: parse(Params, values))

    tried(examples, odd | JSON, check)


def test_aliases_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    """Nine references to nine references ...: a few bytes that a careless reader unfolds to ten to the ninth."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    smoke = (REPOSITORY / "configs" / "studies" / "smoke.yaml").read_text()
    bomb = smoke.replace("  reader: phantom", "  reader: phantom\n" + "\n".join(f"  {line}" for line in lines))
    (tmp_path / "params.yaml").write_text(bomb)
    with pytest.raises(UserError, match="expands to more than"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text(smoke + "\nround: &r [*r]\n")
    with pytest.raises(UserError, match="expands to more than"):
        load_params(tmp_path / "params.yaml")


NAMES = (
    "../x",
    "a/b",
    "a;touch run.txt",
    "$(touch run.txt)",
    "`id`",
    "a b",
    "A",
    "-x",
    "a\n",
    "",
    "é",
    "a'b",
)


@pytest.mark.parametrize("section", ["generators", "training_sets", "segmenters"])
def test_names_that_a_shell_or_a_folder_would_take_for_more(section: str, toy_params: Params) -> None:
    values = toy_params.model_dump(mode="json", exclude_defaults=True)
    for name in NAMES:
        entry = next(iter(values[section].values()))
        with pytest.raises(UserError, match="a name consists of lower-case letters"):
            parse(Params, {**values, section: {**values[section], name: entry}})
        with pytest.raises(UserError):
            parse(Params, {**values, "study": name})
