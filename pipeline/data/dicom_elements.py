"""The elements of DICOM files: read silently, parsed at once, patients as keyed hashes.

No text of a file gets into a message or a log, since any of it may name a patient.
"""

import hashlib
import logging
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.data.invalid import InvalidData

TYPE = ".dcm"  # the usual suffix; many files have none
MAGIC_AT, MAGIC = 128, b"DICM"
DEFLATED = "1.2.840.10008.1.2.1.99"  # transfer syntax
REWRITE = (
    "import pydicom; d = pydicom.dcmread('IN.dcm'); d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian;"
    " d.save_as('OUT.dcm')"
)
HASH = 8  # bytes of a group


def is_dicom(path: Path) -> bool:
    """Return whether a file has the preamble of DICOM, whatever its name; False where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> Any:
    """Return the elements of a file without its pixels. Raises InvalidData."""
    return _read(path, stop_before_pixels=True)


def read_dataset(path: Path) -> Any:
    """Return all elements of a file. Raises InvalidData, also where its pixels are not integers."""
    dataset = _read(path)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise InvalidData("is a DICOM file of floating-point pixels; save it as integers with a rescale slope")
    return dataset


def patient_groups(headers: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return by name a group for each header: a keyed hash of its patient (without one, of its study), never in clear.

    The key is the first series of the patient, so that nobody without the files finds a patient by trying all numbers,
    and other patients' files change nothing.
    """
    members, series = defaultdict[str, list[str]](list), dict[str, str]()
    for name, header in headers:
        patient = text(header, "PatientID") or f"study {text(header, 'StudyInstanceUID')}"
        members[patient].append(name)
        own = text(header, "SeriesInstanceUID")
        series[patient] = min(series.get(patient, own), own)
    return {name: _hash(patient, series[patient]) for patient, names in members.items() for name in names}


def _hash(patient: str, key: str) -> str:
    return hashlib.blake2b(patient.encode(), key=key.encode()[:64], digest_size=HASH).hexdigest()


def text(header: Any, keyword: str) -> str:
    """Return one element as text without blanks around it; empty where it is missing."""
    return str(header.get(keyword) or "").strip(" \0")


def numbers(header: Any, keyword: str, count: int) -> tuple[float, ...]:
    """Return an element of so many numbers; empty where it is missing. Raises InvalidData."""
    try:
        values = header.get(keyword)
        found = () if values in (None, "") else tuple(float(v) for v in (values if _several(values) else [values]))
    except (TypeError, ValueError):
        raise InvalidData(f"has a {keyword} that is not a number; replace the file") from None
    if found and count and len(found) != count:
        raise InvalidData(f"has {len(found)} numbers in {keyword} instead of {count}; replace the file")
    return found


def _several(values: Any) -> bool:
    return not isinstance(values, str | bytes | int | float) and hasattr(values, "__iter__")


@contextmanager
def silent() -> Iterator[None]:
    """Keep pydicom's warnings, which quote the values that they are about, out of logs and of standard error."""
    log = logging.getLogger("pydicom")
    was = log.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = was


def _read(path: Path, **options: Any) -> Any:
    """Return a data set. Raises InvalidData."""
    import pydicom
    from pydicom.filereader import read_file_meta_info

    with silent():
        try:
            meta = read_file_meta_info(path)
            if text(meta, "TransferSyntaxUID") == DEFLATED:  # pydicom would unpack it whatever its size
                raise InvalidData(f'is a DICOM file compressed as a whole (deflated); python -c "{REWRITE}"')
            dataset = pydicom.dcmread(path, **options)
            dataset.walk(lambda *_: None)  # values are parsed here, not where they are used
            return dataset
        except InvalidData:
            raise
        except MemoryError:
            raise InvalidData("needs more memory than there is") from None
        except Exception as error:  # noqa: BLE001, what a damaged file raises is up to pydicom
            raise InvalidData(f"is a damaged DICOM file ({type(error).__name__}); replace it") from None
