"""Write the report: one HTML page that answers whether synthetic data helps, and the metrics that dvc shows."""

from pipeline.stages import command
from pipeline.stages.report.page import write_report
from pipeline.study import Params


def report(params: Params) -> None:
    write_report(params)


if __name__ == "__main__":
    command.run(report, __doc__)
