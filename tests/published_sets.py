"""Archives with the names that the providers of data sets give their files, of plain pictures, as many as asked for."""

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from PIL import Image

from pipeline.cli.download import catalogue
from pipeline.cli.download.matching import benchmark_tests
from pipeline.cli.download.published_set import Layout, PublishedSet

Names = Iterable[tuple[str, ...]]  # of an image and its masks
NUMBERED = 40  # pairs of sets of numbered frames; the first of some are test images


@cache
def content(suffix: str, width: int, height: int, mask: bool) -> bytes:
    """A picture of one colour; a mask with a white corner."""
    buffer = io.BytesIO()
    picture = Image.new("L" if mask else "RGB", (width, height))
    picture.paste(255 if mask else (90, 60, 30), (0, 0, width // 2, height // 2))
    kind = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}[suffix]
    picture.save(buffer, kind, **({"compression": "tiff_deflate"} if kind == "TIFF" else {}))
    return buffer.getvalue()


def write_zip(path: Path, names: Names, size: tuple[int, int]) -> Path:
    """Adds pictures of one size to a zip archive; the first of every tuple is the image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for image, *masks in names:
            for name in (image, *masks):
                if name:
                    archive.writestr(name, content(Path(name).suffix, *size, name is not image))
    return path


def unpacked(archive: Path, folder: Path) -> Path:
    """The folder with what the archive holds, as other programs unpack it."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder


def kvasir_stems(train: int, test: int) -> list[str]:
    """Stems of training images that are made up, and some of the benchmark's test images."""
    return [f"cju{n:022d}" for n in range(train)] + sorted(benchmark_tests("Kvasir"))[:test]


def kvasir(folder: Path, train: int = 5, test: int = 3) -> Path:
    names = [(f"Kvasir-SEG/images/{stem}.jpg", f"Kvasir-SEG/masks/{stem}.jpg") for stem in kvasir_stems(train, test)]
    path = write_zip(folder / "kvasir-seg.zip", names, (50, 40))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Kvasir-SEG/kavsir_bboxes.json", "{}")
    return path


def clinicdb(folder: Path, count: int = NUMBERED) -> Path:
    """As unpacked from its .rar."""
    for mask, name in enumerate(("Original", "Ground Truth")):
        (folder / "CVC-ClinicDB" / name).mkdir(parents=True)
        for n in range(1, count + 1):
            (folder / "CVC-ClinicDB" / name / f"{n}.tif").write_bytes(content(".tif", 384, 288, bool(mask)))
    return folder / "CVC-ClinicDB"


def etis(folder: Path, count: int = NUMBERED) -> Path:
    name = "ETIS-LaribPolypDB"
    names = [(f"{name}/{n}.tif", f"{name}/Ground Truth/p{n}.tif") for n in range(1, count + 1)]
    return write_zip(folder / f"{name}.zip", names, (1225, 966))


def colondb(folder: Path, count: int = NUMBERED) -> Path:
    names = [(f"CVC-ColonDB/images/{n}.png", f"CVC-ColonDB/masks/{n}.png") for n in range(1, count + 1)]
    return write_zip(folder / "archive.zip", names, (574, 500))


def cvc300(folder: Path, count: int = NUMBERED) -> Path:
    names = [(f"CVC-300/bbdd/{n}.bmp", f"CVC-300/gtpolyp/{n}.bmp") for n in range(149, 149 + count)]
    return write_zip(folder / "EndoScene.zip", names, (574, 500))


def pranet(folder: Path, count: int = 3) -> Path:
    """Two archives, one with a folder that Macs add."""
    train = [(f"TrainDataset/image/{n}.png", f"TrainDataset/mask/{n}.png") for n in range(count)]
    write_zip(folder / "TrainDataset.zip", train, (30, 20))
    for name in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir"):
        place = f"TestDataset/{name}"
        test = [(f"{place}/images/{n}.png", f"{place}/masks/{n}.png") for n in range(count)]
        write_zip(folder / "TestDataset.zip", test, (30, 20))
    with zipfile.ZipFile(folder / "TestDataset.zip", "a") as archive:
        archive.writestr("__MACOSX/TestDataset/Kvasir/images/._0.png", b"left by a Mac")
    return folder


def isic(folder: Path, prefix: str, parts: Mapping[str, tuple[str, str]], mask: str, count: int = 3) -> Path:
    """Archives of images and of masks, those of images without a folder inside."""
    for number, (part, (images, masks)) in enumerate(parts.items()):
        stems = [f"ISIC_{100 * number + n:07d}" for n in range(count)]
        write_zip(folder / f"{prefix}{part}{images}.zip", [(f"{stem}.jpg",) for stem in stems], (50, 40))
        name = f"{prefix.replace('Task1-2', 'Task1')}{part}{masks}"
        write_zip(folder / f"{name}.zip", [("", f"{name}/{stem}_{mask}.png") for stem in stems], (50, 40))
    return folder


def isic2016(folder: Path) -> Path:
    parts = {part: ("_Data", "_GroundTruth") for part in ("Training", "Test")}
    return isic(folder, "ISBI2016_ISIC_Part1_", parts, "Segmentation")


def isic2018(folder: Path) -> Path:
    parts = {part: ("_Input", "_GroundTruth") for part in ("Training", "Validation", "Test")}
    return isic(folder, "ISIC2018_Task1-2_", parts, "segmentation")


def ph2(folder: Path, count: int = 5) -> Path:
    names = []
    for n in range(count):
        place, name = f"PH2Dataset/PH2 Dataset images/IMD{n:03d}", f"IMD{n:03d}"
        names.append((f"{place}/{name}_Dermoscopic_Image/{name}.bmp", f"{place}/{name}_lesion/{name}_lesion.bmp"))
    return write_zip(folder / "PH2Dataset.zip", names, (60, 40))


def ham10000(folder: Path, count: int = 4) -> Path:
    for part in (1, 2):
        names = [(f"ISIC_{part}{n:06d}.jpg",) for n in range(count // 2)]
        write_zip(folder / f"HAM10000_images_part_{part}.zip", names, (600, 450))
        place = "HAM10000_segmentations_lesion_tschandl"
        masks = [("", f"{place}/ISIC_{part}{n:06d}_segmentation.png") for n in range(count // 2)]
        write_zip(folder / f"{place}.zip", masks, (600, 450))
    return folder


def lidc(folder: Path, count: int = 4) -> Path:
    names, rows = [], ["part,case,patient"]
    for part in ("training", "testing"):
        for n in range(count):
            place = f"lidc/{part}/{n}"
            names.append((f"{place}/image_{n}.png", *(f"{place}/label{rater}_.png" for rater in range(4))))
            rows.append(f"{part},{n},{part}{n // 2}")
    path = write_zip(folder / "slices.zip", names, (128, 128))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("lidc/manifest.csv", "\n".join(rows) + "\n")
    return path


PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "kvasir_seg": kvasir,
    "cvc_clinicdb": clinicdb,
    "etis": etis,
    "cvc_colondb": colondb,
    "cvc_300": cvc300,
    "pranet": pranet,
    "isic2016": isic2016,
    "isic2018": isic2018,
    "ph2": ph2,
    "ham10000": ham10000,
    "lidc": lidc,
}
COUNTS = {  # of the archives above, by title of the split
    "kvasir_seg": {"pairs": 8, "training pairs": 5, "test pairs": 3},
    "cvc_clinicdb": {"training pairs": 36, "test pairs": 4},
    "pranet": dict.fromkeys(
        [
            "training pairs",
            *(
                f"test pairs of {name}"
                for name in ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")
            ),
        ],
        3,
    ),
    "isic2016": {"training pairs": 3, "test pairs": 3},
    "isic2018": {"training pairs": 3, "validation pairs": 3, "test pairs": 3},
    "ph2": {"pairs": 5},
    "ham10000": {"pairs": 4},
    "lidc": {"slices": 8},
    **{name: {"test pairs": NUMBERED} for name in ("etis", "cvc_colondb", "cvc_300")},
}


def small_catalogue() -> tuple[PublishedSet, ...]:
    """The catalogue with the numbers of pairs of the archives above."""
    return tuple(
        replace(entry, layouts=tuple(_small(entry.name, one) for one in entry.layouts)) for entry in catalogue.SETS
    )


def _small(name: str, layout: Layout) -> Layout:
    splits = (replace(s, count=s.count and COUNTS[name][s.title]) for s in layout.splits)
    return replace(layout, splits=tuple(splits))
