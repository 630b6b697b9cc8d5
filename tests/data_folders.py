"""Folders in the layouts of published data sets, with drawn images; and NIfTI-1 files, written by hand."""

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.drawn_pairs import picture, rectangle, save

WIDTH, HEIGHT = 80, 72
CODES = {"uint8": 2, "int16": 4, "float32": 16}
COUNT = 16  # pairs


def nifti(
    path: Path,
    voxels: NDArray[np.generic],
    slope: float = 1,
    intercept: float = 0,
    order: str = "<",
    affine: NDArray[np.float64] | None = None,
) -> Path:
    """A single NIfTI-1 file; .gz where the name says so. Without an affine (sform) it tells no spacing."""
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    struct.pack_into(f"{order}2h", header, 70, CODES[voxels.dtype.name], 8 * voxels.itemsize)
    struct.pack_into(f"{order}3f", header, 108, 352, slope, intercept)
    if affine is not None:
        struct.pack_into(f"{order}h", header, 254, 1)
        struct.pack_into(f"{order}12f", header, 280, *affine[:3].ravel())
    header[344:348] = b"n+1\0"
    content = bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def drawn(image: Path, mask: Path, name: str) -> None:
    """One pair."""
    save(image, picture(name, WIDTH, HEIGHT))
    save(mask, rectangle(255, WIDTH, HEIGHT))


def paired(root: Path) -> None:
    """Scans/ and Ground Truth/, masks with a suffix, no splits."""
    for n in range(COUNT):
        drawn(root / "Scans" / f"case {n}.jpg", root / "Ground Truth" / f"case {n}_mask.png", f"paired {n}")


def kvasir(root: Path) -> None:
    """As unpacked: Kvasir-SEG/images and masks, both JPEG."""
    for n in range(COUNT):
        name = f"c{'jk'[n % 2]}u{n:022d}.jpg"  # both occur
        drawn(root / "Kvasir-SEG" / "images" / name, root / "Kvasir-SEG" / "masks" / name, f"kvasir {n}")


def isic(root: Path) -> None:
    """The folders of 2018, with their superpixels' leftovers and a text file."""
    parts = {"Training": 8, "Validation": 3, "Test": 4}
    for part, count in parts.items():
        images, masks = root / f"ISIC2018_Task1-2_{part}_Input", root / f"ISIC2018_Task1_{part}_GroundTruth"
        for n in range(count):
            name = f"ISIC_{number(part, n):07d}"
            drawn(images / f"{name}.jpg", masks / f"{name}_segmentation.png", f"isic {part} {n}")
        (images / "LICENSE.txt").write_text("CC-0")


def number(part: str, n: int) -> int:
    """Another number for every part and n."""
    return 100 * len(part) + n


def pranet(root: Path) -> None:
    """TrainDataset and two test sets."""
    for place, count in (("TrainDataset", 10), ("TestDataset/CVC-300", 3), ("TestDataset/Kvasir", 3)):
        for n in range(count):
            folder = root / place
            names = ("image", "mask") if place == "TrainDataset" else ("images", "masks")
            drawn(folder / names[0] / f"{n}.png", folder / names[1] / f"{n}.png", f"{place} {n}")


def ph2(root: Path) -> None:
    """The official folders."""
    for n in range(COUNT):
        case = root / "PH2Dataset" / "PH2 Dataset images" / f"IMD{n:03d}"
        image = case / f"{case.name}_Dermoscopic_Image" / f"{case.name}.bmp"
        drawn(image, case / f"{case.name}_lesion" / f"{case.name}_lesion.bmp", f"ph2 {n}")


def cimd(root: Path, raters: int = 4) -> None:
    """training/ and testing/, a patient of two cases each; the last rater sees nothing."""
    rows = ["part,case,patient"]
    for part, count in (("training", 12), ("testing", 4)):
        for n in range(count):
            case = root / part / str(n)
            save(case / f"image_{n}.png", picture(f"cimd {part} {n}", WIDTH, HEIGHT).convert("L"))
            for rater in range(raters):
                save(case / f"label{rater}_.png", rectangle(0 if rater == raters - 1 else 255, WIDTH, HEIGHT))
            rows.append(f"{part},{n},{part}-{n // 2}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")


def msd(root: Path, volumes: int = 8) -> None:
    """Volumes of 80 x 72 x 6 voxels, two labels in slices 2 to 4; dataset.json."""
    for n in range(volumes):
        planes = [np.asarray(picture(f"msd {n} {k}", HEIGHT, WIDTH).convert("L")) for k in range(6)]
        label = np.zeros((WIDTH, HEIGHT, 6), np.uint8)
        label[10:40, 10:30, 2:5], label[40:60, 10:30, 2:5] = 1, 2
        nifti(root / "imagesTr" / f"part_{n:03d}.nii.gz", 10 * np.stack(planes, -1).astype(np.int16))
        nifti(root / "labelsTr" / f"part_{n:03d}.nii.gz", label)
        (root / "imagesTr" / f"._part_{n:03d}.nii.gz").write_bytes(b"left by an archive")
    about = {"name": "Hippocampus", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a", "2": "b"}}
    (root / "dataset.json").write_text(json.dumps(about))


def dicom(root: Path) -> None:
    """Series of three slices and their DICOM-SEG in a folder per series, two series of a patient."""
    from tests import dicom_files

    for n in range(COUNT // 2):
        name = f"dicom {n}"
        planes = [np.asarray(picture(f"{name} {k}", WIDTH, HEIGHT).convert("L")).astype(np.int16) for k in range(3)]
        dicom_files.series(root / f"study{n}", np.stack(planes) - 100, name, PatientID=f"patient {n // 2}")
        segments = {1: np.stack([rectangle(1, WIDTH, HEIGHT)] * 3).astype(bool)}
        dicom_files.segmentation(root / f"study{n}" / "seg", segments, name)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "paired": paired,
    "kvasir": kvasir,
    "isic": isic,
    "pranet": pranet,
    "ph2": ph2,
    "cimd": cimd,
    "msd": msd,
    "dicom": dicom,
}
READERS = dict(
    zip(
        LAYOUTS, ("paired_folders", "kvasir", "isic", "pranet", "ph2", "multirater", "msd_slices", "dicom"), strict=True
    )
)
