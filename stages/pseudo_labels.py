"""Predict masks for the images without masks, by segmenters of the real pairs (data.unlabelled.pseudo_labels)."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params) -> None:
    """Publish the training pairs and the images with predicted masks, or an empty set where none are asked for."""
    from pipeline.stages.pseudo_labels.output import publish_none

    if params.data.unlabelled is None or params.data.unlabelled.pseudo_labels is None:
        publish_none(params.study)
        return
    from pipeline.stages import hardware

    hardware.announce_alone("pseudo_labels")
    from pipeline.core.runtime import Runtime
    from pipeline.stages.pseudo_labels.pseudo_labels import predict_masks

    predict_masks(params, Runtime.start(params.segment.threads_or(params.threads)))


if __name__ == "__main__":
    command.run(stage, __doc__)
