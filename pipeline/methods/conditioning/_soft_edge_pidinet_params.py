"""Parameters of `soft_edge_pidinet`, apart from the method, so that a study is checked without loading torch."""

from pipeline.methods.conditioning._soft_edges_params import SoftEdges


class Params(SoftEdges):
    """Where the weights of PiDiNet are, and which of its lines are shown."""
