"""Compare every training set with the reference: differences, intervals, multiplier curve, verdict."""

import logging

from pipeline.stages import command
from pipeline.stages.compare.comparison import compare, publish_comparison
from pipeline.study import Params


def stage(params: Params) -> None:
    """Write comparison.json, arms.csv and multiplier_curve.csv."""
    comparison = compare(params)
    publish_comparison(params.study, comparison)
    logging.getLogger(__name__).info(comparison.verdict)


if __name__ == "__main__":
    command.run(stage, __doc__)
