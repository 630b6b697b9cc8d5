"""WebDataset: tar shards of a fixed number of pairs, read in sequence; a pair is NUMBER.{image.png,json,mask.png}.

Equal sets give equal bytes: times, owners and the file system's order of names are not written.
"""

import tarfile
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.shards import ShardWriter
from pipeline.methods.exports._format import ExportOptions, Splits, chunks, read_pair


def write(splits: Splits, folder: Path, options: ExportOptions) -> None:
    """Write SPLIT-NUMBER.tar files of `shard_size` pairs; keys are numbers counted through the whole split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        rows = track(images, f"{options.name} {split}", len(images))
        for number, shard in enumerate(chunks(rows, options.shard_size)):
            _write_shard(images, shard, folder / f"{split}-{number:06d}.tar", number * options.shard_size)


def _write_shard(images: ImageSet, rows: Iterable[Row], path: Path, first: int) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        shard = ShardWriter(tar, path.name)
        for key, row in enumerate(rows, first):
            image, mask = read_pair(images, row)
            shard.add(key, image, row, mask)
