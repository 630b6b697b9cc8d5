"""How long images take to draw: kept batch by batch in the work folder, so that a restarted run knows all of it."""

from pathlib import Path

from pipeline.core import files

SHELF = 1000  # files in one folder


def keep(work: Path, number: int, images: int, seconds: float) -> None:
    """Keep the seconds in which one process has drawn the images of a batch."""
    path = work / "seconds" / f"{number // SHELF:06d}" / f"{number:09d}.json"
    files.write_sealed(path, {"images": images, "seconds": seconds})


def total(work: Path) -> dict[str, float | int | None]:
    """Return the number of images whose drawing was measured, and their seconds, of all processes together.

    The seconds are None where there is no such image.
    """
    found = [files.read_sealed(path) for path in sorted((work / "seconds").rglob("*.json"))]
    kept = [one for one in found if one is not None]
    seconds = sum(one["seconds"] for one in kept) if kept else None
    return {"images": sum(one["images"] for one in kept), "seconds": seconds}
