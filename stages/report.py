"""Write the report: one HTML page that answers whether synthetic data helps, and the metrics that dvc shows."""

from pipeline import commands
from pipeline.reporting.page import write_report
from pipeline.study import Params


def report(params: Params) -> None:
    write_report(params)


if __name__ == "__main__":
    commands.run(report, __doc__)
