"""twinsynth init: eight layouts give studies that hold, that the doctor passes and that prepare can run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.cli.doctor.examination import examine
from pipeline.cli.init_study.writing import scalar
from pipeline.cli.main import main
from pipeline.cli.verbs.init import study_name
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.stages.prepare.prepare import prepare
from pipeline.study import Params, load_params
from tests import tiff_files
from tests.data_folders import LAYOUTS, READERS, drawn, msd, paired
from tests.drawn_pairs import picture, rectangle, save


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: git, DVC and an empty graph, as the doctor asks for."""
    for name in (".git", ".dvc/tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".dvc/config").write_text("")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a successful call tells machines."""
    assert main(["init", *arguments, "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a call that ends with status 2 and writes nothing."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main(["init", *arguments, "--device", "cpu"]) == 2
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


def written(told: dict[str, Any]) -> Params:
    return load_params(Path(told["file"]))


def arguments_for(layout: str) -> list[str]:
    """Two folders for pairs of one's own, the whole folder for data sets."""
    root = Path("data") / layout
    if layout == "paired":
        return ["--images", str(root / "Scans"), "--masks", str(root / "Ground Truth"), "--name", "paired"]
    return ["--root", str(root), "--name", layout]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    LAYOUTS[request.param](Path("data") / request.param)
    return request.param


def test_colours_in_tiff_files_that_are_tagged_as_grey(capsys: pytest.CaptureFixture[str]) -> None:
    """As the authors of CVC-ClinicDB publish it: init, the doctor and prepare take them in colour."""
    for number in range(12):
        tiff_files.write(Path(f"data/cvc/Original/{number}.tif"), np.asarray(picture(f"cvc {number}")), extra=2)
        tiff_files.write(Path(f"data/cvc/Ground Truth/{number}.tif"), rectangle()[..., None].repeat(3, -1))
    told = init(capsys, "--images", "data/cvc/Original", "--masks", "data/cvc/Ground Truth", "--name", "cvc")
    assert (told["images"], told["faults"]) == ("colour", [])
    found = examine(Path(told["file"]), quick=True)
    assert [finding for finding in found if finding.severity != "note"] == []
    prepare(written(told))
    real = ImageSet.open(Path("outputs/cvc/real"))
    assert len(real) == 12
    assert all(np.ptp(real.image(row), axis=0).max() > 50 for row in real)


def test_images_of_kvasir_seg_are_known_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder of another name; most names begin with cj, some with ck."""
    LAYOUTS["kvasir"](Path("data"))
    Path("data/Kvasir-SEG").rename("data/polyps")
    assert init(capsys, "--root", "data/polyps", "--name", "polyps")["reader"] == "kvasir"


def test_many_images_have_a_bar_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    LAYOUTS["paired"](Path("data/paired"))
    assert main(["init", *arguments_for("paired"), "--device", "cpu", "--json"]) == 0
    assert "looking at images" not in capsys.readouterr().err
    monkeypatch.setattr("pipeline.cli.init_study.survey.LONG", 3)
    assert main(["init", *arguments_for("paired"), "--device", "cpu", "--json", "--force"]) == 0
    told = capsys.readouterr()
    assert "looking at images" in told.err
    assert json.loads(told.out)["faults"] == []


def test_every_layout_gives_a_study_that_the_doctor_passes_and_prepare_runs(
    layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = init(capsys, *arguments_for(layout))
    params = written(told)
    assert (params.data.reader, params.study) == (READERS[layout], layout)
    assert told["faults"] == []
    found = examine(Path(told["file"]), quick=layout != "paired")  # memory and disk are counted once
    assert [finding for finding in found if finding.severity != "note"] == []
    prepare(params)
    real = ImageSet.open(Path("outputs") / layout / "real")
    assert all(len(real.split(split)) for split in ("train", "val", "test"))
    assert all(real.mask(row).any() for row in real)


EXPECTED = {  # pairs, size, images, classes, splits
    "paired": (16, [80, 72], "colour", 2, {"drawn": 16}),
    "kvasir": (16, [80, 72], "colour", 2, {"drawn": 16}),
    "isic": (15, [80, 72], "colour", 2, {"train": 8, "val": 3, "test": 4}),
    "pranet": (16, [80, 72], "colour", 2, {"train": 10, "test": 6}),
    "ph2": (16, [80, 72], "colour", 2, {"drawn": 16}),
    "cimd": (16, [80, 72], "grey", 2, {"train": 12, "test": 4}),
    "msd": (24, [80, 72], "grey", 3, {"drawn": 24}),  # 8 volumes, 3 slices with foreground each
    "dicom": (24, [80, 72], "grey", 2, {"drawn": 24}),  # 8 series, of which 3 slices have foreground
}


def test_what_is_seen_is_what_is_there(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = init(capsys, *arguments_for(layout))
    seen = tuple(told[key] for key in ("pairs", "size", "images", "num_classes", "splits"))
    assert seen == EXPECTED[layout]
    assert told["groups"] == {"cimd": 8, "msd": 8, "dicom": 4}.get(layout, 0)


def test_names_of_folders_and_the_masks_suffix_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    paired(Path("data/mine"))
    data = written(init(capsys, "--images", "data/mine/Scans", "--masks", "data/mine/Ground Truth")).data
    expected = {"root": "data/mine", "images": "Scans", "masks": "Ground Truth", "mask_suffix": "_mask"}
    assert data.options == expected


def test_a_folder_of_images_without_masks_is_counted_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    paired(Path("data/mine"))
    for name in "uvw":
        save(Path(f"data/more (new)/{name}.png"), picture(name))
    told = init(capsys, "--root", "data/mine", "--unlabelled", "data/more (new)")
    assert told["unlabelled"] == 3
    section = written(told).data.unlabelled
    assert section is not None and (section.folder, section.rest) == ("data/more (new)", False)
    text = Path(told["file"]).read_text()
    assert "3 images without masks; the base is pretrained on them" in text
    found = examine(Path(told["file"]), quick=True)
    assert [finding for finding in found if finding.severity != "note"] == []
    prepare(written(told))
    assert len(ImageSet.open(Path("outputs/mine/unlabelled"))) == 3
    assert main(["init", "--root", "data/mine", "--unlabelled", "data/more (new)", "--device", "gpu", "--force"]) == 0
    assert "3 images without masks in data/more (new)" in capsys.readouterr().out
    assert "comes from elsewhere and does not see them" in Path(told["file"]).read_text()


def test_a_folder_without_images_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    paired(Path("data/mine"))
    Path("none").mkdir()
    assert "--unlabelled: none holds no image" in refused(capsys, "--root", "data/mine", "--unlabelled", "none")
    assert "--unlabelled: lost is not a folder" in refused(capsys, "--root", "data/mine", "--unlabelled", "lost")


def test_images_and_masks_of_one_folder_are_told_apart_by_the_suffix(capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(12):
        drawn(Path(f"busi/benign ({n}).png"), Path(f"busi/benign ({n})_mask.png"), f"busi {n}")
    told = init(capsys, "--root", "busi")
    assert (told["pairs"], written(told).data.options["mask_suffix"]) == (12, "_mask")


def test_a_gpu_gets_a_pretrained_base_and_larger_images(capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(12):
        save(Path(f"d/images/{n}.png"), _large(n))
        save(Path(f"d/masks/{n}.png"), _large(n).convert("L").point(lambda v: 255 * (v > 127)))
    assert main(["init", "--root", "d", "--device", "gpu"]) == 0
    params = load_params(Path("configs/studies/d.yaml"))
    assert (params.data.size, params.base.source) == (256, "stable-diffusion-v1-5/stable-diffusion-v1-5")
    assert "12 pairs (12 without a split)" in capsys.readouterr().out


def _large(n: int) -> Any:
    from tests.drawn_pairs import picture

    return picture(f"large {n}", 320, 300)


def test_a_study_is_never_replaced_without_force(capsys: pytest.CaptureFixture[str]) -> None:
    paired(Path("d"))
    arguments = ("--images", "d/Scans", "--masks", "d/Ground Truth", "--name", "mine")
    init(capsys, *arguments)
    path = Path("configs/studies/mine.yaml")
    path.write_text("mine")
    assert "configs/studies/mine.yaml already exists" in refused(capsys, *arguments)
    init(capsys, *arguments, "--force", "--prompt", "No: 1")
    assert load_params(path).data.prompt == "No: 1"


def test_a_fault_is_told_and_the_study_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    paired(Path("d"))
    Path("d/Scans/case 3.jpg").write_bytes(b"no image")
    told = init(capsys, "--images", "d/Scans", "--masks", "d/Ground Truth")
    assert len(told["faults"]) == 1
    assert "case 3.jpg: cannot be decoded" in told["faults"][0]
    text = Path(told["file"]).read_text()
    assert "# 1 things to mend" in text
    assert "case 3" not in text  # names of files may name patients


def test_masks_that_are_neither_labels_nor_binary_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    for n in range(6):
        drawn(Path(f"d/images/{n}.png"), Path(f"d/masks/{n}.png"), f"grey {n}")
        save(Path(f"d/masks/{n}.png"), np.tile(np.arange(80, dtype=np.uint8), (72, 1)))
    assert "the masks hold 80 grey levels up to 79" in refused(capsys, "--root", "d")


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "give --images and --masks, or --root"),
        (["--images", "a"], "give both --images and --masks"),
        (["--images", "a", "--masks", "b"], "a is not a folder"),
        (["--root", "a"], "a is not a folder"),
        (["--root", "empty"], "no known layout in empty (paired folders, Kvasir-SEG"),
        (["--images", "empty", "--masks", "empty"], "empty holds no image file"),
        (["--root", "empty", "--name", "../x"], "--name is '../x'"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert told in refused(capsys, *arguments)


def test_names_that_do_not_agree_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    drawn(Path("i/a.png"), Path("m/b.png"), "x")
    assert "do not match ('a' and 'b')" in refused(capsys, "--images", "i", "--masks", "m")


def test_a_volume_that_is_cut_off_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    msd(Path("d"))
    path = Path("d/imagesTr/part_003.nii.gz")
    path.write_bytes(path.read_bytes()[:2000])
    (fault,) = init(capsys, "--root", "d")["faults"]
    assert fault.startswith("imagesTr/part_003.nii.gz: cannot be read")


@pytest.mark.parametrize("folder, name", [("Kvasir-SEG", "kvasir_seg"), ("_ß_", "mine"), ("2018 Täg", "2018_t_g")])
def test_a_study_is_named_after_its_folder(folder: str, name: str) -> None:
    assert study_name(Path(folder)) == name


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_text_is_read_back_as_it_was_written(text: str) -> None:
    try:
        written_text = scalar(text)
    except UserError:
        assert not text.isprintable()
    else:
        assert YAML(typ="safe", pure=True).load(f"key: {written_text}  # comment\n") == {"key": text}


@pytest.mark.parametrize("text", ["no", "Null", "1e5", "a: b", "x #y", "a/b", "~", "- a", "_mask", "A photo.", ""])
def test_words_that_yaml_knows_stay_text(text: str) -> None:
    assert YAML(typ="safe", pure=True).load(f"key: {scalar(text)}  # comment\n") == {"key": text}


def test_a_name_that_cannot_be_printed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    paired(Path("a\nb"))
    assert "cannot be printed" in refused(capsys, "--root", "a\nb", "--name", "x")
