"""twinsynth download: a complete catalogue; what is laid out is what studies read; hostile sources are refused."""

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.download import catalogue, laying_out, matching, sources
from pipeline.cli.download.sources import SourceFile
from pipeline.cli.main import main
from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.data.decoding import Fault, FilePair, decode
from pipeline.study import load_params
from tests import published_sets
from tests.conftest import REPOSITORY
from tests.published_sets import COUNTS, PUBLISHED

STUDIES = sorted((REPOSITORY / "configs" / "studies").glob("*.yaml"))
OF_THE_ISSUE = (
    "Kvasir-SEG",
    "CVC-ClinicDB",
    "ETIS",
    "CVC-ColonDB",
    "CVC-300",
    "ISIC 2016",
    "ISIC 2018",
    "PH2",
    "HAM10000",
    "LIDC",
)
LAID_OUT = [(entry, layout) for entry in catalogue.SETS for layout in entry.layouts if layout.splits]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and a catalogue with as few pairs as the archives of these tests have."""
    monkeypatch.setattr(catalogue, "SETS", published_sets.small_catalogue())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "fetched"


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    assert main(["download", *map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is printed, and the one line of the error."""
    assert main(["download", *map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.out + said.err


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_every_study_has_its_set_in_the_catalogue(study: Path) -> None:
    data = read_yaml(study)["data"]
    if data["reader"] == "phantom":
        return
    layouts = [layout for entry in catalogue.SETS for layout in entry.layouts if study.stem in layout.studies]
    assert {layout.root for layout in layouts} == {data["root"]}


@pytest.mark.parametrize("name", OF_THE_ISSUE)
def test_the_usual_spelling_of_a_name_finds_its_set(name: str) -> None:
    entry = catalogue.find(name)
    assert any(layout.splits for layout in entry.layouts)


def test_every_set_says_where_it_is_published_and_under_which_terms() -> None:
    for entry in catalogue.SETS:
        assert entry.page.startswith("http") or entry.terms == "not public"
        assert all((entry.title, entry.terms, entry.cite, entry.fetch, entry.layouts))
        assert all(bool(layout.splits) != bool(layout.by_hand) for layout in entry.layouts)
        named = [study for layout in entry.layouts for study in layout.studies]
        assert set(named) <= {path.stem for path in STUDIES}
    assert set(PUBLISHED) == {entry.name for entry, _ in LAID_OUT}


def test_terms_agree_with_the_documentation() -> None:
    page = (REPOSITORY / "docs" / "data_licences.md").read_text(encoding="utf-8")
    for name in ("isic2018", "ham10000", "lidc", "hippocampus"):
        assert catalogue.find(name).terms.partition(",")[0].partition(":")[0] in page


@pytest.mark.parametrize(
    "entry, layout", LAID_OUT, ids=lambda value: getattr(value, "name", getattr(value, "root", ""))
)
def test_what_is_laid_out_is_what_the_study_reads(
    entry: catalogue.PublishedSet, layout: catalogue.Layout, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = told(capsys, entry.name, "--from", PUBLISHED[entry.name](small), "--study", layout.studies[0])
    expected = {split.title: COUNTS[entry.name][split.title] for split in layout.splits}
    assert done["pairs"] == expected
    assert done["root"] == layout.root
    assert not [path for path in Path("data").iterdir() if path.name[0] == "."]
    if not layout.shared:
        items = read(layout.studies[0])
        assert len(items) == sum(expected.values())
        assert not isinstance(decode(items[0]), list)


def read(study: str) -> list[Any]:
    """The pairs that the reader of a study finds; faults fail."""
    data = load_params(REPOSITORY / "configs" / "studies" / f"{study}.yaml").data
    params = plugins.read_params("readers", data.reader, data.options, "data")
    items = list(plugins.load("readers", data.reader).read(data, params))
    assert [str(item) for item in items if isinstance(item, Fault)] == []
    return items


def test_five_sets_as_published_become_the_benchmark(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["kvasir_seg", "cvc_clinicdb", "etis", "cvc_colondb", "cvc_300"]
    for number, name in enumerate(needed):
        done = told(capsys, name, "--from", PUBLISHED[name](small / name), "--study", "polyps")
        assert done["still_needed"] == needed[number + 1 :]
    counts = {"train": 5 + 36, "test": 3 + 4 + 3 * published_sets.NUMBERED}
    items = [item for item in read("polyps") if isinstance(item, FilePair)]
    assert {split: sum(item.split == split for item in items) for split in counts} == counts
    assert {item.source for item in items} == {
        *("train", "Kvasir", "CVC-ClinicDB", "ETIS-LaribPolypDB", "CVC-ColonDB", "CVC-300")
    }
    again = told(capsys, "kvasir_seg", "--from", small / "kvasir_seg", "--study", "polyps")
    assert again["written"] == 0
    assert "exists with another content" in refused(capsys, "pranet", "--from", published_sets.pranet(small / "pranet"))


def test_a_picture_that_is_there_in_another_format_is_in_the_way(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when PraNet's archive, where all is PNG, lies where Kvasir-SEG should be added."""
    there = Path(f"data/polyps/TrainDataset/images/{FIRST}.png")
    there.parent.mkdir(parents=True)
    there.write_bytes(published_sets.content(".png", 50, 40, False))
    path = published_sets.kvasir(small)
    assert f"{FIRST}.png does not belong to this source" in refused(
        capsys, "kvasir_seg", "--from", path, "--study", "polyps"
    )
    there.rename(there.with_name("other.png"))
    assert main(["download", "kvasir_seg", "--from", str(path), "--study", "polyps"]) == 0


def test_a_root_may_be_a_link_to_another_disk(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data").mkdir()
    Path("disk").mkdir()
    Path("data/kvasir_seg").symlink_to(Path("disk").resolve())
    assert told(capsys, "kvasir_seg", "--from", published_sets.kvasir(small))["root"] == "data/kvasir_seg"
    assert len(files(Path("disk"))) == 16
    assert sorted(os.listdir("data")) == ["kvasir_seg"]


def test_the_whole_of_cvc_clinicdb_is_dealt_as_the_benchmark_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = told(capsys, "CVC-ClinicDB", "--from", published_sets.clinicdb(tmp_path / "fetched", 612))
    assert done["pairs"] == {"training pairs": 550, "test pairs": 62}
    assert "14.tif" in os.listdir("data/polyps/TestDataset/CVC-ClinicDB/images")


def test_a_set_in_place_is_checked_and_nothing_is_written(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the archives lie in the folder that the study reads."""
    shutil.copytree(published_sets.isic2018(small), "data/isic2018")
    assert told(capsys, "isic2018", "--from", "data/isic2018")["written"] == 18
    before = files(Path("data"))
    assert told(capsys, "isic2018", "--from", "data/isic2018")["written"] == 0
    assert files(Path("data")) == before


def test_another_folder_may_be_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "ph2", "--from", str(published_sets.ph2(small)), "--to", "elsewhere"]) == 0
    assert "elsewhere: 5 pairs (10 files new)" in capsys.readouterr().out
    assert len(files(Path("elsewhere"))) == 10
    assert not Path("data").exists()


def rezip(path: Path, change: Any) -> None:
    """Writes an archive again; `change` gets and returns a mapping of names to contents."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in change(contents).items():
            archive.writestr(name, content)


def without(name: str) -> Any:
    return lambda contents: {key: value for key, value in contents.items() if name not in key}


def changed(name: str, content: bytes) -> Any:
    return lambda contents: {key: content if name in key else value for key, value in contents.items()}


FIRST = "cju0000000000000000000000"
DIFFERENT = {
    "a mask is missing": (without(f"masks/{FIRST}"), f"images/{FIRST}.jpg has no mask"),
    "an image is missing": (without(f"images/{FIRST}"), f"masks/{FIRST}.jpg has no image"),
    "a pair is missing": (without(FIRST), "pairs: 7 images were found, but 8 are published"),
    "no picture": (changed(f"images/{FIRST}", b"no picture"), f"images/{FIRST}.jpg cannot be opened"),
    "another size": (
        changed(f"masks/{FIRST}", published_sets.content(".jpg", 51, 40, True)),
        f"masks/{FIRST}.jpg has 51 x 40 pixels, but its image has 50 x 40",
    ),
    "nothing": (lambda _: {"readme.txt": b""}, "no file such as Kvasir-SEG/images/cju0qkwl35piu0993l0dewei2.jpg"),
}


@pytest.mark.parametrize("change, named", DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_named_and_nothing_is_written(
    change: Any, named: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rezip(published_sets.kvasir(small), change)
    assert named in refused(capsys, "kvasir_seg", "--from", small)
    assert files(Path()) == []
    assert any(named in line for line in told(capsys, "kvasir_seg", "--from", small, status=2)["differences"])


def test_a_picture_of_another_size_than_published_is_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published_sets.etis(small)
    rezip(path, changed("/7.tif", published_sets.content(".tif", 352, 352, False)))
    rezip(path, changed("/p7.tif", published_sets.content(".tif", 352, 352, True)))
    assert "7.tif has 352 x 352 pixels, but the published one has 1225 x 966" in refused(capsys, "etis", "--from", path)


def test_differences_may_be_accepted_and_only_sound_pairs_are_laid_out(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published_sets.kvasir(small)
    rezip(path, without(f"masks/{FIRST}"))
    rezip(path, changed("images/cju0000000000000000000001", b"no picture"))
    done = told(capsys, "kvasir_seg", "--from", path, "--accept-differences")
    assert done["pairs"] == {"pairs": 6}
    assert len(done["differences"]) == 2
    assert len(files(Path("data/kvasir_seg"))) == 12


def test_a_missing_archive_is_a_count_that_differs(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (published_sets.isic2018(small) / "ISIC2018_Task1-2_Test_Input.zip").unlink()
    assert "has no image" in refused(capsys, "isic2018", "--from", small)
    assert told(capsys, "isic2018", "--from", small, "--study", "isic2018_dermosegdiff")["written"] == 6


def test_a_rater_without_mask_is_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rezip(published_sets.lidc(small), without("testing/2/label3_"))
    assert "testing/2/image_2.png has no masks of 4 raters, but 3" in refused(capsys, "lidc", "--from", small)


def test_patients_of_slices_come_along(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "lidc", "--from", published_sets.lidc(small))
    assert Path("data/lidc/manifest.csv").read_text().startswith("part,case,patient\n")


def test_one_file_twice_is_taken_once_and_named_where_it_differs(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = published_sets.kvasir(small)
    shutil.copy(path, small / "copy.zip")
    assert told(capsys, "kvasir_seg", "--from", small)["pairs"] == {"pairs": 8}
    rezip(small / "copy.zip", changed(f"images/{FIRST}", published_sets.content(".jpg", 60, 40, False)))
    out = refused(capsys, "kvasir_seg", "--from", small, "--to", "new")
    assert f"images/{FIRST}.jpg have the same name and different contents" in out


def test_of_several_formats_the_published_one_is_taken(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published_sets.clinicdb(small)
    for path in sorted(folder.rglob("*.tif")):
        place = folder / "PNG" / path.parent.name / f"{path.stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(published_sets.content(".png", 384, 288, "Truth" in str(path)))
    told(capsys, "cvc_clinicdb", "--from", folder)
    assert {path.suffix for path in Path("data").rglob("*") if path.is_file()} == {".tif"}


@pytest.mark.parametrize(
    "name", ["../outside.jpg", "/etc/outside.jpg", "a/../../outside.jpg", "..\\outside.jpg", "C:\\outside.jpg"]
)
def test_an_archive_that_leads_out_is_refused(name: str, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published_sets.kvasir(small)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    assert "leads out of the archive" in refused(capsys, "kvasir_seg", "--from", path)
    assert files(Path()) == []


def test_a_link_in_an_archive_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published_sets.kvasir(small)
    link = zipfile.ZipInfo("Kvasir-SEG/images/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/hostname")
    assert "holds the link 'Kvasir-SEG/images/link.jpg'" in refused(capsys, "kvasir_seg", "--from", path)


def test_a_link_out_of_a_folder_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = published_sets.unpacked(published_sets.kvasir(small), small / "unpacked")
    (small / "secret.jpg").write_bytes(b"of a patient")
    image = folder / f"Kvasir-SEG/images/{FIRST}.jpg"
    image.unlink()
    image.symlink_to(small / "secret.jpg")
    assert "is a link that leads out of the folder" in refused(capsys, "kvasir_seg", "--from", folder)
    assert files(Path()) == []


def test_a_bomb_is_refused_before_it_is_unpacked(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = published_sets.kvasir(small)
    rezip(path, changed(f"images/{FIRST}", b"\0" * 5_000_000))
    monkeypatch.setattr(matching, "FILE_LIMIT", 4_000_000)
    monkeypatch.setattr(laying_out, "_copy", lambda *_: pytest.fail("unpacked"))
    assert f"images/{FIRST}.jpg takes 4 MiB unpacked; no picture does" in refused(
        capsys, "kvasir_seg", "--from", path, "--accept-differences"
    )
    monkeypatch.setattr(matching, "FILE_LIMIT", 2**28)
    monkeypatch.setattr(matching, "TOTAL_LIMIT", 4_000_000)
    assert "all files take 0 GiB unpacked" in refused(capsys, "kvasir_seg", "--from", path, "--accept-differences")


def test_no_more_than_a_file_claims_is_copied(tmp_path: Path) -> None:
    claims = [SourceFile("a", size, lambda: io.BytesIO(b"12345")) for size in (4, 5, 6)]
    placements = [matching.Placement(one, matching.PurePosixPath(str(one.size))) for one in claims]
    wrong = laying_out._copy(placements, tmp_path)
    assert [one.source.size for one in wrong] == [4, 6]
    assert (tmp_path / "4").read_bytes() == b"1234"


def test_a_full_disk_is_told_before_copying(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: replace_free(100))
    assert "GiB free, but the files take" in refused(capsys, "kvasir_seg", "--from", published_sets.kvasir(small))


def replace_free(free: int) -> Any:
    return type("Usage", (), {"free": free})


def test_damaged_and_encrypted_archives_are_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published_sets.kvasir(small)
    content = bytearray(path.read_bytes())
    at = content.index(FIRST.encode()) + 30  # in the compressed picture behind its name
    content[at : at + 40] = bytes(40)
    damaged = small / "damaged" / "a.zip"
    damaged.parent.mkdir()
    damaged.write_bytes(content)
    assert "is damaged in its archive" in refused(capsys, "kvasir_seg", "--from", damaged)
    damaged.write_bytes(path.read_bytes()[:-200])
    assert "is not a zip archive, or it is damaged" in refused(capsys, "kvasir_seg", "--from", damaged)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    damaged.write_bytes(content)
    assert "is encrypted; unpack it yourself" in refused(capsys, "kvasir_seg", "--from", damaged)


@pytest.mark.parametrize("name, command", [("PH2Dataset.rar", "unrar x"), ("a.7z", "7z x"), ("a.tar.gz", "tar -xf")])
def test_other_archives_are_refused_with_the_command_that_unpacks_them(
    name: str, command: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.mkdir()
    (small / name).write_bytes(b"Rar!")
    assert f"{command} {name}" in refused(capsys, "ph2", "--from", small / name)
    assert f"{command} {name}" in refused(capsys, "ph2", "--from", small)


def test_what_is_in_the_way_stays(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, stranger = published_sets.kvasir(small), Path("data/kvasir_seg/images/mine.jpg")
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"mine")
    assert "mine.jpg does not belong to this source" in refused(capsys, "kvasir_seg", "--from", path)
    stranger.rename(stranger.with_name(f"{FIRST}.jpg"))
    assert f"{FIRST}.jpg exists with another content" in refused(capsys, "kvasir_seg", "--from", path)
    assert files(Path("data")) == [f"kvasir_seg/images/{FIRST}.jpg"]


def test_what_a_killed_process_left_is_finished(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published_sets.kvasir(small)
    told(capsys, "kvasir_seg", "--from", path)
    left = Path("data/.kvasir_seg.host.1.abc.tmp")
    left.mkdir()
    Path(f"data/kvasir_seg/masks/{FIRST}.jpg").unlink()
    assert told(capsys, "kvasir_seg", "--from", path)["written"] == 1
    assert not left.exists()


def test_sets_that_are_laid_out_by_hand_say_how(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "put the content of the archive's folder amos22" in refused(capsys, "amos", "--from", small)
    assert main(["download", "stain"]) == 0
    assert "not public" in capsys.readouterr().out


def test_names_are_listed_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["name"] for row in told(capsys)] == [entry.name for entry in catalogue.SETS]
    assert main(["download"]) == 0
    assert "kvasir_seg" in capsys.readouterr().out
    assert "did you mean isic2018?" in refused(capsys, "isic_2108")
    users = "ph2_cpu, ph2_dermosegdiff, ph2_few, ph2_pseudo"
    assert f"which does not use ph2; these do: {users}" in refused(capsys, "ph2", "--study", "polyps")
    assert "name the data set that --from holds" in refused(capsys, "--from", "x.zip")
    assert "x.zip does not exist" in refused(capsys, "ph2", "--from", "x.zip")


def test_the_page_the_terms_and_the_files_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download", "kvasir_seg"]) == 0
    text = capsys.readouterr().out
    for part in ("https://datasets.simula.no/kvasir-seg/", "research and education only", "kvasir-seg.zip"):
        assert part in text
    assert "--from FOLDER_OR_ZIP --study polyps" in text


def test_it_loads_no_torch_and_opens_no_connection(tmp_path: Path) -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('a connection')\n"
        "socket.socket.connect = refuse\n"
        "from pipeline.cli.main import main\n"
        f"status = main(['download', 'ph2', '--from', {str(published_sets.ph2(tmp_path))!r}, '--accept-differences'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_too_many_files_are_refused(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST_FILES", 5)
    assert "holds more than 5 files" in refused(capsys, "kvasir_seg", "--from", published_sets.kvasir(small))


def test_an_unknown_layout_of_raters_is_no_crash() -> None:
    entry = catalogue.find("lidc")
    assert matching.match(entry.layouts[0], []).differences == (
        "slices: no file such as training/0/image_0.png was found",
    )
    with pytest.raises(UserError, match="no pair is complete and readable"):
        laying_out.lay_out(matching.match(replace(entry.layouts[0], splits=()), []), entry.layouts[0], Path("x"), True)
