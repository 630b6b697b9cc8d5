"""The pairs that somebody kept: an image set in data/drawn/<study>, to which one pair after the other is added.

Its files can be brought into a study by the generator `folder` with the masks of a `bank`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files, locks
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.data.image_set import MANIFEST, ImageSet, finishing, write_pair
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.generate import provenance

DRAWN = Path("data") / "drawn"


def folder_of(study: str) -> Path:
    """Return the folder of a study's kept pairs."""
    return DRAWN / study


def save(
    folder: Path, spec: DatasetSpec, image: NDArray[np.uint8], mask: ConditioningMask, columns: Mapping[str, Any]
) -> tuple[str, int]:
    """Add a pair and return its id and the number of pairs; a pair that is there is not added again.

    Raises UserError where the folder holds pairs of another kind, or cannot be written.
    """
    name = f"{columns['generator']}_{files.fingerprint(image.tolist(), mask.pixels.tolist(), dict(columns))[:12]}"
    with locks.wait_for(f"drawn_{spec.name}"), files.writing_to(folder):
        kept = ImageSet.open(folder) if (folder / MANIFEST).is_file() else None
        if kept is not None and kept.spec != spec:
            raise UserError(f"{folder} holds pairs of another study's size or classes; move it away first")
        rows = list(kept.rows) if kept is not None else []
        if name not in {row["id"] for row in rows}:
            sample = Sample(name, image, mask.pixels[None], mask.prompt, "train", mask.source)
            text = provenance.text_chunks(name, mask.prompt, columns)
            rows.append(write_pair(folder, sample, columns, text))
            with finishing(folder, spec, rows):
                pass
    return name, len(rows)
