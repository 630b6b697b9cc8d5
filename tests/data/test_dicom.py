"""DICOM images of one frame, each written by pydicom: windows, rescaling, inversion, colours; what is refused."""

import io
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from pipeline.data import dicom_elements
from pipeline.data.decoding import InvalidData, claimed_size, read_image, read_mask
from pipeline.stages.prepare.prepare import prepare
from tests import dicom_files
from tests.drawn_pairs import picture, rectangle, save, study

LEVELS = np.arange(0, 120, 5, dtype=np.uint16).reshape(4, 6)


def grey(path: Path, window: tuple[float, float] | None = None) -> np.ndarray:
    """The grey levels of a picture, which has three equal channels."""
    image, _ = read_image(path, window)
    assert (image == image[0]).all()
    return image[0]


def expected(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.round(255 * np.clip((values.astype(float) - low) / (high - low), 0, 1)).astype(np.uint8)


def test_the_window_of_the_file_is_used(tmp_path: Path) -> None:
    """Centre 50.5 and width 101: 0 is black and 100 white (PS3.3 C.11.2.1.2.1)."""
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS)
    image, notes = read_image(path)
    assert image.shape == (3, 4, 6)
    assert (grey(path) == expected(LEVELS, 0, 100)).all()
    assert notes == ["image: DICOM, window of the file"]
    assert claimed_size(path) == (6, 4)


def test_a_stated_window_goes_before_the_files(tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS)
    assert (grey(path, (50, 60)) == expected(LEVELS, 50, 60)).all()
    assert read_image(path, (50, 60))[1] == ["image: DICOM, window stated"]


def test_without_any_window_it_is_asked_for(tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS, WindowCenter=None, WindowWidth=None)
    with pytest.raises(InvalidData, match="without a window; state which values are black and white"):
        read_image(path)
    assert (grey(path, (0, 115)) == expected(LEVELS, 0, 115)).all()


@pytest.mark.parametrize(
    "elements, ends",
    [
        ({"WindowCenter": 50, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}, (0, 100)),
        ({"WindowCenter": [40, 300], "WindowWidth": [80, 1500]}, (0, 79)),
        ({"WindowCenter": "40.5", "WindowWidth": "81"}, (0, 80)),
    ],
)
def test_windows_of_other_forms(elements: dict[str, Any], ends: tuple[float, float], tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS, **elements)
    assert (grey(path) == expected(LEVELS, *ends)).all()


@pytest.mark.parametrize(
    "elements, named",
    [
        ({"VOILUTFunction": "SIGMOID"}, "not linear"),
        ({"WindowWidth": 1}, "a window of width 1"),
        ({"WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"}, "a window of width 0"),
    ],
)
def test_windows_that_are_not_read(elements: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS, **elements)
    with pytest.raises(InvalidData, match=f"{named}.*state a window instead"):
        read_image(path)
    assert (grey(path, (0, 100)) == expected(LEVELS, 0, 100)).all()  # what the message advises


def test_slope_and_intercept_come_before_the_window(tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS, RescaleSlope=2, RescaleIntercept=-30)
    assert (grey(path) == expected(2.0 * LEVELS - 30, 0, 100)).all()


def test_signed_values_and_unused_bits(tmp_path: Path) -> None:
    """Twelve stored bits with a sign; an overlay in the four above them is no part of the value."""
    values = np.array([[-100, -1], [0, 100]], np.int16)
    stored = ((values & 0x0FFF) | 0x7000).astype(np.int16)
    path = dicom_files.write(tmp_path / "a.dcm", stored, BitsStored=12, WindowCenter=0.5, WindowWidth=201)
    assert (grey(path) == expected(values, -100, 100)).all()


def test_monochrome1_is_inverted_with_a_note(tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS, PhotometricInterpretation="MONOCHROME1")
    assert (grey(path) == 255 - expected(LEVELS, 0, 100)).all()
    assert read_image(path)[1] == ["image: DICOM, window of the file, MONOCHROME1 inverted"]


def test_colours_are_read_as_they_are(tmp_path: Path) -> None:
    colours = np.asarray(picture("dicom"))
    path = dicom_files.write(tmp_path / "a.dcm", colours)
    assert (np.moveaxis(read_image(path)[0], 0, -1) == colours).all()


def test_luminance_and_chrominance_become_colours(tmp_path: Path) -> None:
    colours = np.asarray(picture("dicom"))
    stored = convert_color_space(colours, "RGB", "YBR_FULL")
    path = dicom_files.write(tmp_path / "a.dcm", stored, PhotometricInterpretation="YBR_FULL")
    found = np.moveaxis(read_image(path)[0], 0, -1).astype(int)
    assert np.abs(found - colours).max() <= 2  # rounding to YBR and back


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    table = np.array([[0, 0, 0], [255, 128, 0], [0, 64, 255]], np.uint8)
    palette = {
        f"{colour}PaletteColorLookupTable{kind}": value
        for channel, colour in enumerate(("Red", "Green", "Blue"))
        for kind, value in (("Descriptor", [3, 0, 16]), ("Data", (table[:, channel].astype("<u2") * 257).tobytes()))
    }
    path = dicom_files.write(tmp_path / "a.dcm", indices, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert (np.moveaxis(read_image(path)[0], 0, -1) == table[indices]).all()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_other_ways_of_storing_the_same(syntax: str, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    found = dicom_files.describe(
        dicom_files.dataset(path, WindowCenter=50.5, WindowWidth=101),
        LEVELS.astype(">u2") if syntax == ExplicitVRBigEndian else LEVELS,
    )
    if syntax == RLELossless:
        found.compress(syntax)
    found.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        path, found, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=syntax == ImplicitVRLittleEndian
    )
    assert (grey(path) == expected(LEVELS, 0, 100)).all()


@pytest.mark.parametrize("kind, syntax", [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
def test_what_pillow_decodes_is_read(kind: str, syntax: str, tmp_path: Path) -> None:
    buffer, values = io.BytesIO(), np.full((16, 16), 60, np.uint8)
    Image.fromarray(values).save(buffer, kind)
    path = encapsulated(tmp_path / "a.dcm", values, syntax, buffer.getvalue())
    assert set(np.unique(grey(path))) == {expected(np.array(60), 0, 100).item()}


def encapsulated(path: Path, pixels: np.ndarray, syntax: str, content: bytes) -> Path:
    """An image whose compressed content is given."""
    found = dicom_files.describe(dicom_files.dataset(path, WindowCenter=50.5, WindowWidth=101), pixels)
    found.PixelData = encapsulate([content])
    found["PixelData"].is_undefined_length = True
    found.file_meta.TransferSyntaxUID = syntax
    found.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless])
def test_compression_that_needs_a_plugin_is_refused_with_the_command(syntax: Any, tmp_path: Path) -> None:
    path = encapsulated(tmp_path / "a.dcm", LEVELS, syntax, b"compressed")
    with pytest.raises(InvalidData, match=f"{re.escape(syntax.name)}.*gdcmconv --raw IN.dcm OUT.dcm"):
        read_image(path)


def converted(message: str, folder: Path) -> Path:
    """What the command of a message makes of IN.dcm."""
    assert "\n" not in message
    (program,) = re.findall('python -c "(.*)"', message)
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True)
    return folder / "OUT.dcm"


@pytest.mark.parametrize("compressed", [False, True])
def test_several_frames_are_refused_with_their_number(compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "IN.dcm"
    about = dicom_files.dataset(path, WindowCenter=50.5, WindowWidth=101)
    found = dicom_files.describe(about, np.stack([LEVELS, LEVELS + 1, LEVELS + 2]))
    if compressed:
        found.compress(RLELossless)
    found.save_as(path, enforce_file_format=True)
    with pytest.raises(InvalidData, match="is a DICOM file of 3 frames, and one per file is read") as refused:
        read_image(path)
    assert (grey(converted(str(refused.value), tmp_path)) == expected(LEVELS, 0, 100)).all()


def test_a_file_that_is_deflated_as_a_whole_is_refused(tmp_path: Path) -> None:
    path = dicom_files.write(tmp_path / "IN.dcm", LEVELS, syntax=DeflatedExplicitVRLittleEndian)
    with pytest.raises(InvalidData, match="compressed as a whole") as refused:
        read_image(path)
    assert (grey(converted(str(refused.value), tmp_path)) == expected(LEVELS, 0, 100)).all()


def test_masks_are_no_dicom_images(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidData, match=r"save the mask as PNG, or read series with DICOM-SEG \(data.reader: dicom\)"
    ):
        read_mask(dicom_files.write(tmp_path / "a.dcm", LEVELS))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "claims of too many pixels": ({"Rows": 60000, "Columns": 60000}, "a decompression bomb"),
    "no image": ({"Rows": None}, "without an image"),
    "unknown colours": ({"PhotometricInterpretation": "CMYK"}, "unknown kind of colours"),
    "a table of intensities": ({"ModalityLUTSequence": [pydicom.Dataset()]}, "Modality LUT"),
    "too few bytes": ({"PixelData": b"\0\0"}, "pixels that cannot be decoded"),
    "floats": ({"PixelData": None, "FloatPixelData": b"\0" * 96}, "floating-point pixels"),
}


@pytest.mark.parametrize("elements, named", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_named_without_text_of_the_file(
    elements: dict[str, Any], named: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = dicom_files.write(tmp_path / "a.dcm", LEVELS)
    found = pydicom.dcmread(path)
    for keyword, value in elements.items():
        if value is None:
            delattr(found, keyword)
        else:
            setattr(found, keyword, value)
    found.save_as(path)
    with pytest.raises(InvalidData, match=named) as refused:
        read_image(path)
    assert "Erika" not in str(refused.value) and "12345" not in str(refused.value)
    assert not recwarn.list


def test_damaged_files_raise_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut off and overwritten anywhere; pydicom's warnings, which quote names of patients, get into no log."""
    content = dicom_files.write(tmp_path / "whole.dcm", LEVELS).read_bytes()
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(150):
            bent = bytearray(content[: rng.integers(132, len(content))] if number % 2 else content)
            for at in rng.integers(132, len(bent), 6):
                bent[at] = rng.integers(256)
            path = tmp_path / "bent.dcm"
            path.write_bytes(bent)
            try:
                read_image(path)
            except InvalidData as fault:
                assert "Erika" not in str(fault)
    assert not caplog.records


def test_groups_are_hashes_of_patients(tmp_path: Path) -> None:
    paths = [
        dicom_files.write(tmp_path / "a", LEVELS, PatientID="12345", SeriesInstanceUID=dicom_files.uid("1")),
        dicom_files.write(tmp_path / "b", LEVELS, PatientID="12345 ", SeriesInstanceUID=dicom_files.uid("2")),
        dicom_files.write(tmp_path / "c", LEVELS, PatientID="67890", SeriesInstanceUID=dicom_files.uid("3")),
        dicom_files.write(tmp_path / "d", LEVELS, PatientID=None, StudyInstanceUID=dicom_files.uid("x")),
        dicom_files.write(tmp_path / "e", LEVELS, PatientID="", StudyInstanceUID=dicom_files.uid("x")),
    ]
    headers = [(path.name, dicom_elements.read_header(path)) for path in paths]
    groups = dicom_elements.patient_groups(headers)
    assert groups["a"] == groups["b"] and groups["d"] == groups["e"]
    assert len(set(groups.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", group) for group in groups.values())
    assert dicom_elements.patient_groups(headers[:2])["a"] == groups["a"]  # other patients change nothing
    assert (
        dicom_elements.patient_groups(headers[1:2])["b"] != dicom_elements.patient_groups(headers[:1])["a"]
    )  # the key is not public


@pytest.mark.usefixtures("elsewhere")
def test_pairs_of_dicom_images_and_png_masks_become_a_set_with_patients(tmp_path: Path) -> None:
    for number in range(12):
        values = np.asarray(picture(f"dicom {number}").convert("L")).astype(np.uint16) * 4
        about = {"PatientID": f"patient {number // 2}", "SeriesInstanceUID": dicom_files.uid(str(number))}
        path = tmp_path / f"set/images/c{number}.dcm"
        dicom_files.write(path, values, WindowCenter=510.5, WindowWidth=1021, **about)
        save(tmp_path / f"set/masks/c{number}.png", rectangle())
    images = prepare(study(root=tmp_path / "set"))
    assert len(images) == 12
    assert len({row["group"] for row in images}) == 6
    by_group: dict[str, set[str]] = {}
    for row in images:
        by_group.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_group.values())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
