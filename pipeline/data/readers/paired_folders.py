"""Your own pairs: images/ and masks/ by stem; optional splits/{train,val,test}.txt and manifest.csv."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.decoding import Item
from pipeline.data.readers import _folders
from pipeline.params import Data
from pipeline.parsing import Section


class Params(Section):
    """Where the pairs are, and what their source is called."""

    root: Path
    source: str = "default"  # the name that data.prompt may refer to
    source_column: str = ""  # a column of manifest.csv that names each image's source instead; it is published


def read(data: Data, params: Params) -> Iterator[Item]:
    """References to pairs, and faults of names and lists; a column `group` of the manifest is never divided."""
    return _folders.listed(_folders.existing(params.root, "data.root"), params.source, params.source_column)
