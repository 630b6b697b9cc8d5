"""What of DICOM files is not read, by their headers: each refusal is one line, with the command that converts."""

from typing import Any

from PIL import Image

from pipeline.data.dicom_elements import numbers, silent, text
from pipeline.data.invalid import InvalidData

GREY, COLOURS = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"),
)
DECOMPRESS = "gdcmconv --raw IN.dcm OUT.dcm"
FRAME = (
    "import pydicom; d = pydicom.dcmread('IN.dcm'); a = d.pixel_array[0];"
    " d.set_pixel_data(a, 'RGB' if a.ndim > 2 else d.PhotometricInterpretation, d.BitsStored); d.save_as('OUT.dcm')"
)


def check_header(header: Any) -> None:
    """Raise InvalidData for what is not read as one frame of grey or colour: with the command that converts it."""
    check_pixels(header)
    frames = int(numbers(header, "NumberOfFrames", 1)[0]) if header.get("NumberOfFrames") else 1
    if frames != 1:
        raise InvalidData(
            f'is a DICOM file of {frames} frames, and one per file is read; for the first: python -c "{FRAME}"'
        )
    photometric = text(header, "PhotometricInterpretation")
    if photometric not in (*GREY, *COLOURS):
        raise InvalidData("is a DICOM file of an unknown kind of colours (PhotometricInterpretation); save it as RGB")
    if "ModalityLUTSequence" in header:
        raise InvalidData("holds a table of intensities (Modality LUT), which is not read; save it with rescale slope")
    if photometric in GREY and int(header.get("SamplesPerPixel", 1)) != 1:
        raise InvalidData("is a DICOM file of grey levels with several samples per pixel; save it again")


def is_image(header: Any) -> bool:
    """Return whether a header is meant to have pixels, by its kind; of an unknown kind: yes."""
    from pydicom.uid import UID_dictionary

    kind = text(header, "SOPClassUID")
    return kind not in UID_dictionary or "Image Storage" in UID_dictionary[kind][0]


def check_pixels(header: Any) -> None:
    """Raise InvalidData if a file has no pixels, has too many of them, or cannot be decoded here."""
    rows, columns = (int((numbers(header, key, 1) or (0,))[0]) for key in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise InvalidData("is a DICOM file without an image; it is cut off or of another kind, replace or remove it")
    if rows * columns > (Image.MAX_IMAGE_PIXELS or rows * columns):
        raise InvalidData(f"claims {columns} x {rows} pixels (a decompression bomb?); crop it or make it smaller")
    _check_transfer_syntax(header)


def _check_transfer_syntax(header: Any) -> None:
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID_dictionary

    syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise InvalidData(f"is a DICOM file that does not say how its pixels are stored; {DECOMPRESS}")
    with silent():
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
    if not available:
        name = syntax.name if syntax in UID_dictionary else "something unknown"
        raise InvalidData(f"is a DICOM file compressed as {name}, which is not decoded here; {DECOMPRESS}")
