"""The first real training pairs of a seeded order (`limit` of training sets and generators). No torch.

The order belongs to the study's seed and the draw, and does not depend on the limit, so that the pairs of a smaller
limit are among those of a larger one. Groups (patients, sequences) are not divided.
"""

from collections.abc import Mapping

from pipeline.core.errors import UserError
from pipeline.core.pair_limit import PairLimit
from pipeline.data import splitting
from pipeline.data.image_set import ImageSet


def training_pairs(real: ImageSet, limit: PairLimit | None, seed: int, where: str) -> ImageSet:
    """Return the split train of a real set, or its pairs within a limit, in the order of their ids.

    `where` is the entry of params.yaml, for errors. Raises UserError where the split has fewer pairs than the limit, or
    where not even the first group is within it.
    """
    train = real.split("train")
    if limit is None:
        return train
    check_limits({where: limit}, len(train))
    groups = [f"group/{row['group']}" if row.get("group") else row["id"] for row in train]
    within = splitting.first_groups(groups, limit.pairs, seed, limit.draw)
    if not any(within):
        raise UserError(
            f"params.yaml: {where}.limit is {limit}, but the first group of images that belong together is larger;"
            " raise limit, or choose another limit_draw"
        )
    return train.select(row for row, is_within in zip(train, within, strict=True) if is_within)


def check_limits(limits: Mapping[str, PairLimit], pairs: int) -> None:
    """Raise UserError where a limit, by entry of params.yaml, is beyond so many training pairs."""
    for where, limit in limits.items():
        if limit.pairs > pairs:
            raise UserError(
                f"params.yaml: {where}.limit is {limit}, but the split train has {pairs}; lower it to {pairs} or less"
            )
