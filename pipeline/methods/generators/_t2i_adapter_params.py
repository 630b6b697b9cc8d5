"""Parameters of `t2i_adapter`, apart from the method, so that a study is checked without loading torch."""

from pipeline.methods.generators._conditioned import Conditioned


class Params(Conditioned):
    """The keys that all controlled generators share."""
