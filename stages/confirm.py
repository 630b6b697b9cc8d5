"""Train the arm that validation chose, and the reference, again with fresh seeds."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params) -> None:
    """Train over all processes of the launch and publish, or publish that the study asks for no confirmation."""
    if params.confirm is None:
        from pipeline.stages.confirm.choice import publish_none

        if command.process() == 0:
            publish_none(params.study)
        return
    from pipeline.core.runtime import Runtime
    from pipeline.stages.confirm.confirm import confirm

    confirm(params, params.confirm, Runtime.start(params.segment.threads_or(params.threads)))


if __name__ == "__main__":
    command.run(stage, __doc__)
