"""Record which file each entry of params.yaml runs, and the hash of its code."""

from pipeline.stages import command
from pipeline.stages.records.records import write_methods
from pipeline.study import Params


def methods(params: Params) -> None:
    write_methods(params)


if __name__ == "__main__":
    command.run(methods, __doc__)
