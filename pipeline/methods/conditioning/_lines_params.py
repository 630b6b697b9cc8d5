"""Which lines a conditioning paints over a mask, apart from the painting, which loads torch."""

from pipeline.core.section import Section


class Lines(Section):
    """Which lines a hint shows."""

    inside: bool = False  # of lesions only; False: of the whole image
    over_mask: bool = True  # painted over the mask's colours; False: white lines on black, without the mask
