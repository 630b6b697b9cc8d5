"""Whether an entry of the section `generators` can be drawn under the control that it asks for."""

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.moved_images import movable, moves_images
from pipeline.stages.finetune.params import GeneratorEntry


def check_control(name: str, entry: GeneratorEntry) -> None:
    """Raise UserError where `control: mask_image` has a generator without an image hint, or masks without images."""
    if entry.control == "mask":
        return
    method, where = entry.method_of(name), f"params.yaml: generators.{name}.control"
    if not _sees_images(method):
        others = ", ".join(filter(_sees_images, plugins.names("generators")))
        raise UserError(
            f"{where}: {method} is not trained with the image as a hint, so mask_image cannot control it; set control:"
            f" mask, or take one of {others}"
        )
    if not moves_images(entry.masks):
        raise UserError(
            f"{where}: mask_image needs the training image of every mask, but masks: {entry.masks} have none; set"
            f" control: mask, or masks to one of {', '.join(movable())}"
        )


def _sees_images(method: str) -> bool:
    return hasattr(plugins.params_class("generators", method), "last_image_weight")  # contracts.SeesImages
