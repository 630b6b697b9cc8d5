"""Data sets whose every corner holds an identifier, and a search that looks into every byte of what comes out."""

import base64
import gzip
import io
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from pipeline.data import nifti
from tests.drawn_pairs import picture, rectangle

# One word per place, so that a leak tells where it comes from. Lower case: ids are made so, too.
PICTURE = ("exifdescription", "exifartist", "exifcomment", "exifmaker", "jpegcomment", "jpegxmp", "iccprofile",
           "pngtext", "pngcompressed", "pngunicode", "pngexif", "masktext", "patientname", "groupname",
           "hospitalfolder", "manifestcolumn", "studyuid")  # fmt: skip
VOLUME = ("descrip", "auxfile", "intentname", "dbname", "extension", "patientname", "groupname", "hospitalfolder",
          "datasetjson")  # fmt: skip
DICOM = ("patientident", "patientname", "birthname", "studytext", "institution", "segmentname", "hospitalfolder")
MARK = "qz"  # begins every planted word: no other word holds it before them
SIDE = 48


def word(place: str) -> str:
    return f"{MARK}{place}"


def exif() -> Image.Exif:
    """Tags as cameras and converters of DICOM files leave them."""
    found = Image.Exif()
    found[0x010E], found[0x013B] = word("exifdescription"), f"{word('exifartist')}^ERIKA"
    found[0x9286] = b"ASCII\0\0\0" + word("exifcomment").encode()
    found[0x927C] = word("exifmaker").encode()
    found[0xA420] = f"1.2.840.113619.{word('studyuid')}"
    return found


def jpeg(name: str) -> bytes:
    """A photograph with EXIF, XMP, a comment and a colour profile."""
    buffer, profile = io.BytesIO(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    about = {"exif": exif(), "comment": word("jpegcomment").encode(), "xmp": f"<x>{word('jpegxmp')}</x>".encode()}
    icc = profile.tobytes() + word("iccprofile").encode()
    picture(name, SIDE, SIDE).save(buffer, "JPEG", icc_profile=icc, **about)
    return buffer.getvalue()


def png(pixels: Image.Image, *places: str) -> bytes:
    """A PNG with text of every kind, and EXIF."""
    text = PngInfo()
    text.add_text("PatientName", word(places[0]))
    if len(places) > 1:
        text.add_text("Comment", word(places[1]), zip=True)
        text.add_itxt("Author", word(places[2]), zip=True)
        tags = Image.Exif()
        tags[0x010E] = word(places[3])
    else:
        tags = Image.Exif()
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG", pnginfo=text, exif=tags)
    return buffer.getvalue()


def pictures(root: Path, count: int = 24) -> Path:
    """images/ (JPEG and PNG) and masks/ named after patients, with a manifest of groups; the folder data.root."""
    own = root / word("hospitalfolder") / "pairs"
    rows = ["id,group,ward"]
    for folder in ("images", "masks"):
        (own / folder).mkdir(parents=True)
    for n in range(count):
        name = f"{word('patientname')}_Erika_{n:02d}"
        if n % 2:
            (own / "images" / f"{name}.jpg").write_bytes(jpeg(f"planted {n}"))
        else:
            content = png(picture(f"planted {n}", SIDE, SIDE), "pngtext", "pngcompressed", "pngunicode", "pngexif")
            (own / "images" / f"{name}.png").write_bytes(content)
        mask = Image.fromarray(np.rot90(rectangle(255, SIDE, SIDE), n % 4).copy())
        (own / "masks" / f"{name}.png").write_bytes(png(mask, "masktext"))
        rows.append(f"{name},{word('groupname')}{n // 2},{word('manifestcolumn')}")
    (own / "manifest.csv").write_text("\n".join(rows) + "\n")
    return own


def volumes(root: Path, count: int = 8) -> Path:
    """imagesTr/ and labelsTr/ whose headers name patients; the folder data.root."""
    own = root / word("hospitalfolder") / "volumes"
    rows = ["id,group"]
    for n in range(count):
        name = f"{word('patientname')}_{n:02d}"
        grey = np.stack([np.asarray(picture(f"volume {n} {k}", 12, 12).convert("L")) for k in range(6)], -1)
        label = np.zeros((12, 12, 6), np.uint8)
        label[n % 4 : n % 4 + 5, 3:8, 1:4] = 1
        for folder, voxels in (("imagesTr", grey.astype(np.float32)), ("labelsTr", label)):
            (own / folder).mkdir(parents=True, exist_ok=True)
            (own / folder / f"{name}.nii.gz").write_bytes(named(nifti.encode(voxels, np.eye(4))))
        rows.append(f"{name},{word('groupname')}{n // 2}")
    (own / "manifest.csv").write_text("\n".join(rows) + "\n")
    (own / "dataset.json").write_text(f'{{"name": "{word("datasetjson")}", "training": []}}')
    return own


def dicom(root: Path, count: int = 8) -> Path:
    """Series of two slices with their DICOM-SEG, whose elements name patients; the folder data.root."""
    from tests import dicom_files

    own = root / word("hospitalfolder") / "series"
    about = {
        "PatientName": f"{word('patientname')}^Erika",
        "PatientBirthName": word("birthname"),
        "StudyDescription": word("studytext"),
        "InstitutionName": word("institution"),
    }
    for n in range(count):
        name, patient = f"planted {n}", {"PatientID": f"{word('patientident')}{n // 2}"}
        grey = np.stack([np.asarray(picture(f"{name} {k}", 24, 20).convert("L")) for k in range(2)])
        folder = own / f"{word('patientname')}_{n}"
        dicom_files.series(folder, grey.astype(np.int16) - 100, name, **about, **patient)
        masks = {1: np.stack([rectangle(1, 24, 20)] * 2).astype(bool)}
        dicom_files.segmentation(folder / "seg", masks, name, SeriesDescription=word("segmentname"), **about, **patient)
    return own


def named(packed: bytes) -> bytes:
    """The volume with every field of the header that holds text filled, and an extension."""
    content = bytearray(gzip.decompress(packed))
    for place, at, length in (("dbname", 14, 18), ("descrip", 148, 80), ("auxfile", 228, 24), ("intentname", 328, 16)):
        content[at : at + length] = word(place).encode().ljust(length, b"\0")
    text = f"PatientName {word('extension')}".encode().ljust(56, b"\0")
    extension = b"\1\0\0\0" + struct.pack("<ii", 64, 6) + text
    struct.pack_into("<f", content, 108, 352 + 64)
    return gzip.compress(bytes(content[:348]) + extension + bytes(content[352:]))


def found_in(*places: Path) -> dict[str, set[str]]:
    """Which planted words every file holds, also inside of what is packed, and in its name."""
    found: dict[str, set[str]] = {}
    for place in places:
        for path in [place, *place.rglob("*")]:
            parts = [path.name.encode(), *(unfolded(path.read_bytes()) if path.is_file() else [])]
            if words := {match for part in parts for match in words_in(part)}:
                found[path.as_posix()] = words
    return found


def words_in(content: bytes) -> set[str]:
    """Planted words in bytes, as they are, in two bytes per letter, or escaped."""
    text = content.lower()
    wide = text.replace(b"\0", b"")
    return {match.decode() for one in (text, wide) for match in re.findall(b"qz[a-z]{6,}", one)} & WORDS


def unfolded(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """The content, and the contents of everything packed in it."""
    yield content
    if depth > 4:
        return
    for part in inner(content):
        yield from unfolded(part, depth + 1)


def inner(content: bytes) -> Iterator[bytes]:
    """What lies in gzip, zip, tar, PNG, Parquet, or as base64 in text."""
    if content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif content.startswith(b"PK\3\4"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif content[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            yield from (entry.read() for member in tar if (entry := tar.extractfile(member)))
    elif content.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(content))
        yield repr(table.schema.metadata).encode()
        for row in table.to_pylist():
            yield from leaves(row)
    elif content.startswith(b"\x89PNG"):
        yield from packed_chunks(content)
    elif content[:15] == b"SQLite format 3" or b"base64," in content or b'"png"' in content:
        pictures = re.findall(rb"\x89PNG.*?IEND....", content, re.DOTALL)
        yield from pictures
        yield from (
            base64.b64decode(text) for text in re.findall(rb"[A-Za-z0-9+/]{200,}={0,2}", content) if len(text) % 4 == 0
        )


def leaves(value: object) -> Iterator[bytes]:
    """Bytes and text of a nested value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, bytes):
        yield value
    else:
        yield str(value).encode()


def packed_chunks(content: bytes) -> Iterator[bytes]:
    """Compressed text and profiles of a PNG."""
    at = 8
    while at + 12 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + length]
        for start in (n + 1 for n, byte in enumerate(body) if kind in (b"zTXt", b"iTXt", b"iCCP") and byte == 0):
            for skip in (0, 1):
                try:
                    yield zlib.decompress(body[start + skip :])
                except zlib.error:
                    continue
        at += 12 + length


WORDS = {word(place) for place in (*PICTURE, *VOLUME, *DICOM)}
