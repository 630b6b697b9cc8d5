"""Pictures and volumes of strangers: whatever their bytes are, they are read or refused with one line."""

import contextlib
import gzip
import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data import nifti
from pipeline.data.decoding import FilePair, InvalidData
from pipeline.data.image_set import ImageSet, png
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.prepare.pair_checks import Candidate, check_pair
from pipeline.stages.prepare.params import Data
from tests import data_folders, tiff_files
from tests.drawn_pairs import data, picture, rectangle
from tests.malformed import bent, sizes, tried

pytestmark = pytest.mark.faults


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures() -> list[bytes]:
    """One drawing in every format that is read, with all that may stand beside pixels."""
    image, exif, text = picture("hostile"), Image.Exif(), PngInfo()
    exif[0x0112], exif[0x010E] = 6, "of a patient"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0comment"
    text.add_text("Patient", "x" * 50, zip=True)
    text.add_itxt("Note", "ü", zip=True)
    profile = bytes(range(200))
    kinds = ("RGB", "L", "P", "1", "RGBA", "LA")
    several = {"save_all": True, "append_images": [picture("second")]}
    return [
        *(
            encoded(image.convert(kind) if kind != "I;16" else image.convert("I").convert(kind), "PNG")
            for kind in kinds
        ),
        encoded(image, "PNG", pnginfo=text, exif=exif, icc_profile=profile),
        encoded(image, "JPEG", exif=exif, comment=b"of a patient", icc_profile=profile),
        encoded(image, "JPEG", progressive=True),
        encoded(image.convert("CMYK"), "JPEG"),
        *(encoded(image, "TIFF", compression=name) for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        encoded(image, "TIFF", tiffinfo={270: "of a patient", 274: 6}),
        encoded(image, "TIFF", **several),
        tiff_files.content(np.asarray(image), extra=2),
        encoded(image, "BMP"),
        encoded(image.convert("P"), "BMP"),
        encoded(image, "GIF"),
        encoded(image, "GIF", **several),
        encoded(image, "WEBP", exif=exif),
        encoded(image, "WEBP", lossless=True),
        encoded(image, "WEBP", **several),
    ]


@sizes(60, 2000)
def test_a_bent_picture_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    settings, outcomes = data(), {"read": 0, "refused": 0}
    image, mask = tmp_path / "images" / "a.png", tmp_path / "masks" / "a.png"
    for path in (image, mask):
        path.parent.mkdir()

    def check(files: tuple[bytes, bytes]) -> None:
        image.write_bytes(files[0])
        mask.write_bytes(files[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata
            found = check_pair(FilePair("a", image, mask, tmp_path), settings)
        told = isinstance(found, Candidate)
        outcomes["read" if told else "refused"] += 1
        assert told or all("\n" not in str(fault) and str(tmp_path) not in str(fault) for fault in found)

    sound = png(rectangle())
    tried(examples, st.tuples(bent(pictures()), bent(pictures()) | st.just(sound)), check)
    assert min(outcomes.values()) > 0, outcomes


def volumes(folder: Path) -> list[bytes]:
    """Small volumes, plain, scaled and of the other byte order, with every field of the header filled."""
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    made = [
        data_folders.nifti(folder / "a.nii", voxels),
        data_folders.nifti(folder / "b.nii", voxels.astype(np.float32), slope=0.5, intercept=-1, order=">"),
        data_folders.nifti(folder / "c.nii", voxels.astype(np.uint8)[..., None].repeat(2, -1)),
    ]
    return [path.read_bytes() for path in made]


@sizes(60, 1200)
def test_a_bent_volume_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    plain = volumes(tmp_path)
    packed = [gzip.compress(content) for content in plain]
    outcomes = {"read": 0, "refused": 0}

    def check(chosen: tuple[bytes, str]) -> None:
        content, suffix = chosen
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        try:
            voxels = nifti.read(path)
        except InvalidData as fault:
            outcomes["refused"] += 1
            assert "\n" not in str(fault)
        else:
            outcomes["read"] += 1
            assert 3 <= voxels.ndim <= 4

    inside = bent(plain).map(lambda content: (gzip.compress(content, 1), ".nii.gz"))
    outside = st.tuples(bent(plain), st.just(".nii")) | st.tuples(bent(packed), st.just(".nii.gz"))
    tried(examples, outside | inside, check)
    assert min(outcomes.values()) > 0, outcomes


@sizes(40, 500)
def test_a_bent_volume_of_a_set_of_volumes(tmp_path: Path, examples: int) -> None:
    """Image and label as the reader of volumes takes them, header, place and voxels."""
    label = np.zeros((6, 5, 4), np.uint8)
    label[2:4, 2:4, 1:3] = 1
    originals = [nifti.encode(label.astype(np.float32), np.eye(4)), nifti.encode(label, np.diag([1.0, 2.0, 3.0, 1.0]))]
    image, mask = (tmp_path / f"{kind}Tr" / "a.nii.gz" for kind in ("images", "labels"))
    for path, content in zip((image, mask), originals, strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    about = {"reader": "volumes", "root": str(tmp_path), "shape": [8, 8, 8], "prompt": "A volume.", "num_classes": 2}
    settings = parse(Data, about)
    own = plugins.read_params("readers", "volumes", settings.options, "data")
    (item,) = plugins.load("readers", "volumes").read(settings, own)

    def check(contents: tuple[bytes, bytes]) -> None:
        for path, content in zip((image, mask), contents, strict=True):
            path.write_bytes(gzip.compress(content, 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of numbers that are none
            found = check_pair(item, settings)
        assert isinstance(found, Candidate) or all("\n" not in str(fault) for fault in found)

    plain = [gzip.decompress(content) for content in originals]
    tried(examples, st.tuples(st.just(plain[0]) | bent(plain), st.just(plain[1]) | bent(plain)), check)


@sizes(30, 500)
def test_a_bent_file_of_a_set_is_read_or_refused(tmp_path: Path, examples: int) -> None:
    spec = DatasetSpec(name="bent", size=32)
    sample = Sample("a", np.zeros((3, 32, 32), np.uint8), rectangle(1)[None, :, :32], split="train")
    images = ImageSet.create(tmp_path, spec, [(sample, {})])

    def check(content: bytes) -> None:
        for name in ("file_name", "mask"):
            (tmp_path / images.rows[0][name]).write_bytes(content)
        for read in (images.image, images.mask):
            with contextlib.suppress(UserError):
                read(images.rows[0])

    tried(examples, bent(pictures()), check)


def test_programs_in_disguise_are_never_run(tmp_path: Path) -> None:
    """PostScript is a program; Pillow would have Ghostscript run it, whatever the file is called."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 32\n(run.txt) (w) file closefile\nshowpage\n"
    (tmp_path / "a.png").write_bytes(program)
    (tmp_path / "m.png").write_bytes(png(rectangle()))
    found = check_pair(FilePair("a", tmp_path / "a.png", tmp_path / "m.png", tmp_path), data())
    assert isinstance(found, list) and "no known image format" in str(found[0])


def test_formats_that_nobody_asked_for_are_not_tried(tmp_path: Path) -> None:
    for kind in ("PPM", "TGA", "SGI", "PCX", "ICO", "IM", "DDS"):
        path = tmp_path / f"{kind}.png"
        path.write_bytes(encoded(picture("x"), kind))
        found = check_pair(FilePair("a", path, path, tmp_path), data())
        assert isinstance(found, list) and "no known image format" in str(found[0]), kind


def test_axes_of_a_volume_that_are_none(tmp_path: Path) -> None:
    content = bytearray(volumes(tmp_path)[0])
    for ndim in (-5, 0, 8, 300):
        struct.pack_into("<h", content, 40, ndim)
        (tmp_path / "y.nii").write_bytes(content)
        with pytest.raises(InvalidData):
            nifti.read(tmp_path / "y.nii")
