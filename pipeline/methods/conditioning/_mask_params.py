"""Parameters of `mask`, apart from the method, so that a study is checked without loading torch."""

from pipeline.core.section import Section


class Params(Section):
    """There is nothing to set."""
