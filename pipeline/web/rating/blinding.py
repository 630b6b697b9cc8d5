"""Blinding: images whose files look alike, opaque ids, and orders that depend on the study's secret."""

import hashlib
import hmac
import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ID = r"^[0-9a-f]{32}$"  # 128 bits
END = 12  # bytes of a PNG's last chunk, and of any chunk without content
PADDING = b"paDd"  # ancillary, private, safe to copy: software skips it


def plain_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode [C, H, W] colours as PNG with nothing but pixels: no text, time or profile; equal settings for all."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1))).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def pad_to_one_length(pngs: Sequence[bytes]) -> list[bytes]:
    """Pad files to one length, because a generator's images compress better or worse than real ones."""
    length = max(map(len, pngs)) + END
    return [_padded(png, length) for png in pngs]


def opaque_id(secret: bytes, *names: object) -> str:
    """Return 32 hex digits that depend on the secret and the names; without the secret they reveal nothing."""
    return hmac.new(secret, "/".join(map(str, names)).encode(), hashlib.sha256).hexdigest()[:32]


def shuffle(items: Sequence[int], secret: bytes, rater: int) -> list[int]:
    """Return the order in which one rater sees the items; it reveals nothing about the order of another."""
    return sorted(items, key=lambda item: opaque_id(secret, "order", rater, item))


def _padded(png: bytes, length: int) -> bytes:
    content = bytes(length - len(png) - END)
    chunk = struct.pack(">I", len(content)) + PADDING + content + struct.pack(">I", zlib.crc32(PADDING + content))
    return png[:-END] + chunk + png[-END:]
