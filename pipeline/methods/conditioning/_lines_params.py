"""Which lines a conditioning paints over a mask, apart from the painting, which loads torch."""

from pipeline.core.section import Section


class Lines(Section):
    """Which lines a hint shows."""

    inside: bool = False
    """Keep the lines inside lesions only, instead of those of the whole image."""
    over_mask: bool = True
    """Paint the lines over the mask's colours. Without it they are white on black, and the mask is not shown."""
