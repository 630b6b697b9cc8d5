"""PNG files whose colours or transparency have 16 bits: Pillow would cut off the lower eight without a word.

Source: PNG specification (ISO/IEC 15948), header chunk IHDR.
"""

from pathlib import Path

from pipeline.data.invalid import InvalidData

SIGNATURE, HEADER = b"\x89PNG\r\n\x1a\n", b"IHDR"
DEPTH, KIND = 24, 25  # offsets of bits per sample and of the kind of colours
COLOURS = {2: "colours", 4: "grey levels with transparency", 6: "colours with transparency"}
SCALE = "import cv2; cv2.imwrite('OUT.png', cv2.convertScaleAbs(cv2.imread('IN.png', -1), alpha=255/WHITE))"


def check_header(path: Path) -> None:
    """Refuse a PNG of several samples of 16 bits. Raises InvalidData with the command that converts it."""
    with path.open("rb") as file:
        head = file.read(KIND + 1)
    is_png = len(head) > KIND and head.startswith(SIGNATURE) and head[12:16] == HEADER
    if is_png and head[DEPTH] > 8 and head[KIND] in COLOURS:
        raise InvalidData(
            f"is a PNG of {COLOURS[head[KIND]]} with {head[DEPTH]} bits, and 8 are read; with WHITE the value that is"
            f' to be white: python -c "{SCALE}"'
        )
