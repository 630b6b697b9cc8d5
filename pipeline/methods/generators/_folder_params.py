"""Parameters of `folder`, and the search for its images, apart from the method: a study is checked without torch."""

from collections import Counter
from pathlib import Path

from pydantic import Field

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data.decoding import IMAGE_TYPES, InvalidData, ensure_inside


class Params(Section):
    """Where the images are."""

    root: Path
    """Folder of the images. The folders below it are searched too."""
    resize: bool = False
    """Scale images of another size to `data.size`. Without it they are faults."""
    made_by: str = Field(default="", max_length=200)
    """Name of the program that made the images, for their metadata and the dataset card."""

    def images(self) -> dict[str, Path]:
        """Return the image files by their names without suffix. Raises UserError where there are none, or two alike."""
        root = self.root.expanduser()
        if not root.is_dir():
            raise UserError(f"root: {self.root} is not a folder; name the folder that holds the synthetic images")
        found = sorted(path for path in root.rglob("*") if _is_image(path, root))
        if not found:
            raise UserError(f"root: {self.root} holds no image ({', '.join(IMAGE_TYPES)})")
        twice = [name for name, number in Counter(path.stem for path in found).items() if number > 1]
        if twice:
            raise UserError(
                f"root: {self.root} holds more than one image called {twice[0]!r}; rename or remove all but one"
            )
        for path in found:
            try:
                ensure_inside(path, root, "root")
            except InvalidData as fault:
                raise UserError(f"{path} {fault}") from None
        return {path.stem: path for path in found}

    def files_digest(self) -> str:
        """Return a hash of the names and contents of all images. Raises UserError where there are none."""
        return files.fingerprint([(name, files.sha256(path)) for name, path in self.images().items()])


def _is_image(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix.lower() in IMAGE_TYPES and not hidden
