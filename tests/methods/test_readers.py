"""Readers: what each layout gives, and every fault of names and lists."""

import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.decoding import Fault, FilePair, Item
from pipeline.methods.readers._folders import safe_id
from tests.drawn_pairs import data, folder, lists, pair, picture, rectangle, save

REAL_DATA = os.environ.get("TWINSYNTH_REAL_DATA")


def read(reader: str, **values: Any) -> list[Item]:
    section = data(reader, **values)
    return list(
        plugins.load("readers", reader).read(section, plugins.read_params("readers", reader, section.options, "data"))
    )


def faults(items: list[Item]) -> list[str]:
    return [str(item) for item in items if isinstance(item, Fault)]


def found(items: list[Item]) -> list[tuple[str, str | None, str]]:
    """Id, split and source of every pair; no fault is tolerated."""
    assert faults(items) == []
    return [(item.id, item.split, item.source) for item in items if isinstance(item, FilePair)]


@pytest.mark.parametrize("reader, source", [("paired_folders", "default"), ("kvasir", "kvasir"), ("ph2", "ph2")])
def test_pairs_in_two_folders_have_the_split_of_their_list(reader: str, source: str, tmp_path: Path) -> None:
    folder(tmp_path, train="a b", val="c", test="d")
    expected = [("a", "train"), ("b", "train"), ("c", "val"), ("d", "test")]
    assert found(read(reader, root=tmp_path)) == [(name, split, source) for name, split in expected]


def test_without_lists_no_pair_has_a_split(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    assert found(read("paired_folders", root=tmp_path, source="clinic")) == [("a", None, "clinic")]


def test_origin_is_relative_to_the_root(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    (item,) = read("kvasir", root=tmp_path)
    assert isinstance(item, FilePair)
    assert (item.origin, item.mask.name) == ("images/a.png", "a.png")


def test_a_list_may_name_stems_files_or_paths_on_either_system(tmp_path: Path) -> None:
    folder(tmp_path, train="a b c d v1.2")
    (tmp_path / "splits/train.txt").write_bytes(
        "\ufeffa\r\n\r\nb.png\r\nimages/c.png\r\nimages\\d.png\r\nv1.2\r\n".encode()
    )
    assert [name for name, _, _ in found(read("kvasir", root=tmp_path))] == ["a", "b", "c", "d", "v1_2"]


def test_images_outside_the_lists_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder(tmp_path, train="a", test="b")
    pair(tmp_path, "c")
    assert [name for name, _, _ in found(read("kvasir", root=tmp_path))] == ["a", "b"]
    assert "left out: 1" in caplog.text


def test_without_a_list_for_train_the_unlisted_images_have_no_split(tmp_path: Path) -> None:
    folder(tmp_path, test="b")
    pair(tmp_path, "a")
    assert found(read("kvasir", root=tmp_path)) == [("a", None, "kvasir"), ("b", "test", "kvasir")]


def test_the_manifest_gives_groups_and_the_chosen_column_sources(tmp_path: Path) -> None:
    for stem in "ab":
        pair(tmp_path, stem)
    (tmp_path / "manifest.csv").write_text("id,group,site\na,patient 1,north\nb.png,patient 2,\n")
    items = read("paired_folders", root=tmp_path, source_column="site")
    assert [(i.group, i.source) for i in items if isinstance(i, FilePair)] == [
        ("patient 1", "north"),
        ("patient 2", "default"),
    ]


def test_a_manifest_of_other_things_is_passed_over(tmp_path: Path) -> None:
    """As in Kvasir-SEG copies whose column `source` holds a path per image."""
    pair(tmp_path, "a")
    (tmp_path / "manifest.csv").write_text("id,source\na,somewhere/0.jpg\n")
    assert found(read("kvasir", root=tmp_path)) == [("a", None, "kvasir")]


@pytest.mark.parametrize("names", [("image", "mask"), ("images", "masks")])
def test_pranet_test_sets_are_sources(names: tuple[str, str], tmp_path: Path) -> None:
    places = {
        "TrainDataset": names,
        "TestDataset/CVC-300": ("images", "masks"),
        "TestDataset/Kvasir": ("images", "masks"),
    }
    for number, (place, (images, masks)) in enumerate(places.items()):
        save(tmp_path / place / images / "1.png", picture(str(number)))
        save(tmp_path / place / masks / "1.png", rectangle())
    expected = [("train_1", "train", "train"), ("cvc-300_1", "test", "CVC-300"), ("kvasir_1", "test", "Kvasir")]
    assert found(read("pranet", root=tmp_path)) == expected


def test_pranet_names_the_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TrainDataset has no folder images or image"):
        read("pranet", root=tmp_path)


def test_isic_masks_carry_a_suffix_and_superpixels_are_no_images(tmp_path: Path) -> None:
    for split, name in (("train", "ISIC_1"), ("test", "ISIC_2")):
        save(tmp_path / split / "input" / f"{name}.jpg", picture(name))
        save(tmp_path / split / "input" / f"{name}_superpixels.png", picture(name))
        save(tmp_path / split / "truth" / f"{name}_{'S' if split == 'test' else 's'}egmentation.png", rectangle())
    places = {"training_images": "train/input", "training_masks": "train/truth"}
    places |= {"test_images": "test/input", "test_masks": "test/truth"}
    assert found(read("isic", root=tmp_path, **places)) == [("isic_1", "train", "isic"), ("isic_2", "test", "isic")]


def test_isic_wants_images_and_masks_of_a_split_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="val_images and val_masks must be given together"):
        read("isic", root=tmp_path, training_images="a", training_masks="b", val_images="c")


def official_ph2(root: Path, *names: str) -> None:
    for name in names:
        case = root / "PH2 Dataset images" / name
        save(case / f"{name}_Dermoscopic_Image" / f"{name}.bmp", picture(name))
        save(case / f"{name}_lesion" / f"{name}_lesion.bmp", rectangle())


def test_ph2_reads_the_official_folders_and_lists_beside_them(tmp_path: Path) -> None:
    official_ph2(tmp_path, "IMD002", "IMD003", "IMD004")
    lists(tmp_path, train="IMD002", val="IMD003", test="IMD004")
    expected = [("imd002", "train", "ph2"), ("imd003", "val", "ph2"), ("imd004", "test", "ph2")]
    assert found(read("ph2", root=tmp_path)) == expected


def test_ph2_names_the_missing_lesion(tmp_path: Path) -> None:
    official_ph2(tmp_path, "IMD002")
    (tmp_path / "PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp").unlink()
    expected = "PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp: does not exist"
    assert faults(read("ph2", root=tmp_path)) == [expected]


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_jsonl_gives_prompt_and_split_of_each_line(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    line = {"source": "./masks/a.png", "target": "./images/a.png", "prompt": "A red square.", "split": "val"}
    (item,) = read("jsonl", file=write_lines(tmp_path / "prompt.json", line))
    assert isinstance(item, FilePair)
    assert (item.prompt, item.split, item.origin) == ("A red square.", "val", "images/a.png")


def test_jsonl_paths_may_start_from_another_folder(tmp_path: Path) -> None:
    pair(tmp_path / "elsewhere", "a")
    file = write_lines(tmp_path / "prompt.json", {"source": "masks/a.png", "target": "images/a.png"})
    assert found(read("jsonl", file=file, root=tmp_path / "elsewhere")) == [("images_a", None, "default")]


def test_jsonl_tells_all_bad_lines_at_once(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    good = {"source": "masks/a.png", "target": "images/a.png", "split": "train"}
    lines = [
        good,
        "{",
        {"target": "x"},
        "[]",
        {**good, "split": "dev"},
        {"source": "masks/b.png", "target": "images/a.png"},
    ]
    told = faults(read("jsonl", file=write_lines(tmp_path / "p.jsonl", *lines)))
    starts = [
        "p.jsonl, line 2: is not JSON",
        "p.jsonl, line 3: source: ",
        "p.jsonl, line 4: ",
        "p.jsonl, line 5: split: ",
    ]
    starts += [
        "p.jsonl: 'images/a.png' is the target of 2 lines",
        "p.jsonl: 1 of 2 lines have no split",
        "masks/b.png: does not",
    ]
    assert [text.startswith(start) for text, start in zip(told, starts, strict=True)] == [True] * 7


def test_unpaired_files_are_named_on_both_sides(tmp_path: Path) -> None:
    folder(tmp_path, train="a b c")
    (tmp_path / "masks/a.png").unlink()
    (tmp_path / "images/b.png").unlink()
    told = faults(read("paired_folders", root=tmp_path))
    assert [text.split(";")[0] for text in told[:2]] == ["images/a.png: has no mask", "masks/b.png: has no image"]
    assert told[2:] == ["splits/train.txt: names 'b', but there is no such image"]


@pytest.mark.parametrize("other", ["a.jpg", "A.png"])
def test_names_that_differ_in_case_or_type_only_are_refused(other: str, tmp_path: Path) -> None:
    pair(tmp_path, "a")
    save(tmp_path / "images" / other, picture(other))
    first, second = sorted(["a.png", other])
    (told,) = faults(read("paired_folders", root=tmp_path))
    assert told.startswith(f"images/{first} and images/{second}: differ only in case")


def test_composed_and_decomposed_names_are_one_name(tmp_path: Path) -> None:
    """macOS writes decomposed names, lists are usually composed."""
    save(tmp_path / "images" / (unicodedata.normalize("NFD", "é") + ".png"), picture("e"))
    save(tmp_path / "masks" / (unicodedata.normalize("NFC", "É") + ".png"), rectangle())
    lists(tmp_path, train=unicodedata.normalize("NFC", "é"))
    assert found(read("paired_folders", root=tmp_path)) == [("e", "train", "default")]


def test_every_fault_of_the_lists_is_told(tmp_path: Path) -> None:
    folder(tmp_path, train="a b b", val="a nowhere", test="")
    (tmp_path / "splits/dev.txt").write_text("a\n")
    pair(tmp_path, "nowhere")
    (tmp_path / "images/nowhere.png").unlink()
    (tmp_path / "masks/nowhere.png").unlink()
    assert [text.split(";")[0] for text in faults(read("paired_folders", root=tmp_path))] == [
        "splits/dev.txt: is not one of train, val, test (.txt)",
        "splits/test.txt: is empty",
        "splits/train.txt: names 'b' 2 times",
        "splits/val.txt: names 'a', which splits/train.txt also names",
        "splits/val.txt: names 'nowhere', but there is no such image",
    ]


def test_a_list_must_be_utf8(tmp_path: Path) -> None:
    folder(tmp_path, train="a")
    (tmp_path / "splits/val.txt").write_bytes("é".encode("latin-1"))
    assert faults(read("kvasir", root=tmp_path)) == ["splits/val.txt: is not UTF-8 text; save it as UTF-8"]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("name,group\na,1\n", "has no column id; it has: name, group"),
        ("id,group\nb,1\n", "has no row for 'a.png'"),
        ("id,group\na,1\na,2\n", "names 'a' twice with different rows; keep one"),
    ],
)
def test_faults_of_the_manifest(text: str, fault: str, tmp_path: Path) -> None:
    pair(tmp_path, "a")
    (tmp_path / "manifest.csv").write_text(text)
    assert faults(read("paired_folders", root=tmp_path)) == [f"manifest.csv: {fault}"]


def test_a_source_column_must_exist(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    told = faults(read("paired_folders", root=tmp_path, source_column="site"))
    assert told == ["manifest.csv: is missing, but data.source_column names site"]


@pytest.mark.parametrize("reader", ["paired_folders", "kvasir", "ph2", "pranet"])
def test_a_missing_root_is_told_with_its_parameter(reader: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root: .*nowhere.* is not a folder|data\.root: .*nowhere"):
        read(reader, root=tmp_path / "nowhere")


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    for name in ("._a.png", "Thumbs.db", "LICENSE.txt"):
        (tmp_path / "images" / name).write_bytes(b"x")
    assert [name for name, _, _ in found(read("paired_folders", root=tmp_path))] == ["a"]


@given(st.text())
def test_ids_are_safe_whatever_the_name(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]+", safe_id(text))
    assert safe_id(safe_id(text)) == safe_id(text)


def test_ids_keep_what_can_be_kept() -> None:
    assert [safe_id(name) for name in ("Case 7", "../a/b", "Ünal-2", "息肉", "")] == [
        "case_7",
        "___a_b",
        "unal-2",
        "x606fx8089",
        "_",
    ]


@pytest.mark.skipif(REAL_DATA is None, reason="TWINSYNTH_REAL_DATA names no folder with real data")
@pytest.mark.parametrize(
    "name, reader, sizes", [("kvasir_seg", "kvasir", (800, 100, 100)), ("ph2", "ph2", (80, 20, 100))]
)
def test_real_data_has_the_published_splits(name: str, reader: str, sizes: tuple[int, ...]) -> None:
    root = Path(REAL_DATA or "") / name
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    splits = [split for _, split, _ in found(read(reader, root=root))]
    assert tuple(splits.count(split) for split in ("train", "val", "test")) == sizes
