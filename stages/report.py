"""Write the report: one HTML page that answers whether synthetic data helps, and the metrics that dvc shows."""

from pipeline import commands
from pipeline.params import Params
from pipeline.reporting.page import write_report


def report(params: Params) -> None:
    write_report(params)


if __name__ == "__main__":
    commands.run(report, __doc__)
