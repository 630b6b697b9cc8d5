"""Synthetic images that another program has made, in place of a generator: a folder of image files.

The mask of each image is one of the entry's masks, and the image's name says which: `<name>.png` or `<name>_c<k>.png`,
where <name> is the id of a training image (`masks: real`) or the name of a file of a bank of masks (`masks: bank`), and
k counts the copies from 0. Files that twinsynth generated have such names.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.core import files
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.decoding import Pixels, read_image, resize_image
from pipeline.data.invalid import InvalidData
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators._folder_params import Params
from pipeline.networks.stable_diffusion.model import StableDiffusion

VERSION = 1  # raised when results change
RECORD = "folder.json"
LISTED = 5  # faults named in one error


def build(params: Params, model: StableDiffusion, spec: DatasetSpec) -> "Folder":
    """Return the images; the base is not used."""
    return Folder(params, spec)


class Folder:
    """Image files, found by the names of masks (contracts.ImportedImages)."""

    def __init__(self, params: Params, spec: DatasetSpec) -> None:
        self.params, self.spec = params, spec
        self.paths: dict[str, Path] | None = None

    def check(self, masks: Sequence[ConditioningMask], copies: int) -> None:
        """Decode every image. Raises UserError that names the first that are missing or cannot be used."""
        faults = list(self._faults(masks, copies))
        if faults:
            more = f"\n  and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
            raise UserError(f"{self.params.root}:\n  " + "\n  ".join(faults[:LISTED]) + more)

    def image(self, mask: ConditioningMask, copy: int) -> Pixels:
        """Return one image [3, H, W] at the size of the data. Raises InvalidData where it cannot be used."""
        path = self._path(mask, copy)
        if path is None:
            raise InvalidData(f"there is no image called {' or '.join(names(mask, copy))}")
        try:
            pixels, _ = read_image(path)
        except InvalidData as fault:
            raise InvalidData(f"{path.name} {fault}") from None
        height, width = pixels.shape[1:]
        if (height, width) != (self.spec.size, self.spec.size):
            if not self.params.resize:
                raise InvalidData(
                    f"{path.name} is {width} x {height} pixels, data.size is {self.spec.size}; resize it, or set"
                    " resize: true"
                )
            pixels = resize_image(pixels, self.spec.size)
        return pixels

    def save(self, folder: Path) -> None:
        """Write the hash of the images; they stay where they are."""
        record = {"images": len(self._paths()), "digest": self.params.files_digest(), "made_by": self.params.made_by}
        files.write_json(folder / RECORD, record)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises UserError where the images have changed since."""
        try:
            digest = files.read_json(folder / RECORD)["digest"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder / RECORD} does not fit this generator: {error}") from error
        if digest != self.params.files_digest():
            raise UserError(
                f"the images in {self.params.root} have changed; run the stage finetune of this entry again"
            )

    def _paths(self) -> dict[str, Path]:
        if self.paths is None:
            self.paths = self.params.images()
        return self.paths

    def _path(self, mask: ConditioningMask, copy: int) -> Path | None:
        return next((self._paths()[name] for name in names(mask, copy) if name in self._paths()), None)

    def _faults(self, masks: Sequence[ConditioningMask], copies: int) -> Iterator[str]:
        for mask in track(masks, "folder: checking images", len(masks)):
            for copy in range(copies):
                try:
                    self.image(mask, copy)
                except InvalidData as fault:
                    yield str(fault)


def names(mask: ConditioningMask, copy: int) -> list[str]:
    """Return the names, without suffix, that an image of a mask may have."""
    masks = dict.fromkeys((mask.id, mask.source_id.removeprefix("bank/")))  # the same for a real mask
    return [f"{name}_c{copy}" for name in masks] + ([*masks] if copy == 0 else [])
