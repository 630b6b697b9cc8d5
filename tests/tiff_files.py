"""TIFF files written tag by tag, for what no program should write."""

import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["<", ">"]  # of bytes


def write(path: Path, pixels: NDArray[Any], big: bool = False, order: Order = "<", **tags: int) -> Path:
    """Writes a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(pixels, big, order, **tags))
    return path


def content(pixels: NDArray[Any], big: bool = False, order: Order = "<", **tags: int) -> bytes:
    """One uncompressed page of [H, W], [H, W, samples] or, with planar=2, [samples, H, W].

    `tags`: photometric, planar, compression, extra (how many samples are tagged as extra), pages (how many times
    the page is there).
    """
    planar, bits = tags.get("planar", 1), pixels.itemsize * 8
    shape = np.moveaxis(pixels, 0, -1).shape if planar == 2 else pixels.shape
    samples = shape[2] if len(shape) == 3 else 1
    planes, start = samples if planar == 2 else 1, 16 if big else 8
    plane = pixels.nbytes // planes
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    values: dict[int, list[int]] = {
        256: [shape[1]],
        257: [shape[0]],
        258: [bits] * samples,
        259: [tags.get("compression", 1)],
        262: [tags.get("photometric", 1)],
        273: [start + plane * index for index in range(planes)],
        277: [samples],
        278: [shape[0]],
        279: [plane] * planes,
        284: [planar],
        339: [3 if pixels.dtype.kind == "f" else 1] * samples,
    }
    if tags.get("extra"):
        values[338] = [0] * tags["extra"]
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42)
    magic += struct.pack(f"{order}HH", 8, 0) if big else b""
    offset, first, body = ("Q" if big else "I"), start + len(raw), b""
    for more in reversed(range(tags.get("pages", 1))):
        body += _page(values, order, big, first + len(body), more > 0)
    return magic + struct.pack(order + offset, first) + raw + body


def _page(values: dict[int, list[int]], order: str, big: bool, start: int, more: bool) -> bytes:
    """The tags at `start`, their long values behind them, and where the next page starts: behind these, or nowhere."""
    count, offset = ("Q", "Q") if big else ("H", "I")
    inline, record = (8, 20) if big else (4, 12)
    head = struct.calcsize(f"{order}{count}") + record * len(values) + struct.calcsize(f"{order}{offset}")
    entries, behind = struct.pack(order + count, len(values)), b""
    for tag, numbers in sorted(values.items()):
        kind, form = (4, "I") if tag in (273, 279) else (3, "H")
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(packed) > inline:
            packed, behind = struct.pack(order + offset, start + head + len(behind)), behind + packed
        entries += struct.pack(f"{order}HH{offset}", tag, kind, len(numbers)) + packed.ljust(inline, b"\0")
    return entries + struct.pack(order + offset, (start + head + len(behind)) * more) + behind
