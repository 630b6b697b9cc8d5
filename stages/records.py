"""Record the code behind every stage and every entry of params.yaml, so that DVC re-runs what has changed."""

from pipeline.stages import command
from pipeline.stages.records.records import write_records
from pipeline.study import Params


def stage(params: Params) -> None:
    write_records(params)


if __name__ == "__main__":
    command.run(stage, __doc__)
