"""Contrast between pixels (Wang et al. 2021, as CTNet uses it): embeddings of one class attract, of others repel.

The published CTNet code takes the arg-max over a single map for the prediction, so that every foreground pixel counts
as hard and every background pixel as easy; takes each grey level of a soft mask as a class; and fails where no class
is large enough. Here the prediction is the network's own, masks are label maps, and such images are skipped.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import IGNORED

TEMPERATURE, BASE_TEMPERATURE = 0.1, 0.07
MAX_SAMPLES, MAX_VIEWS = 1024, 100  # pixels of a batch; of one class of one image


def pixel_contrast(
    embedding: Tensor, mask: Tensor, predicted: Tensor, streams: Sequence[str], min_pixels: int
) -> Tensor:
    """Return supervised InfoNCE over sampled pixels of embeddings [B, C, H, W]; the masks are labels [B, H, W].

    A class of an image takes part if it has more than `min_pixels` pixels; IGNORED is not a class. 0 if fewer than two
    classes are left.
    """
    found = [(b, int(c)) for b in range(len(mask)) for c in mask[b].unique() if (mask[b] == c).sum() > min_pixels]
    pairs = [(image, label) for image, label in found if label != IGNORED]
    if len({label for _, label in pairs}) < 2:
        return embedding.sum() * 0
    views = min(MAX_SAMPLES // len(pairs), MAX_VIEWS)
    rows, labels = [], []
    for image, label in pairs:
        is_label = (mask[image] == label).flatten()
        wrong = (predicted[image] != label).flatten()
        rng = seeding.torch_rng(streams[image], "contrast", label)
        sampled = sample_pixels(is_label & wrong, is_label & ~wrong, views, rng)
        rows.append(embedding[image].flatten(1)[:, sampled].T)
        labels += [label] * len(sampled)
    return info_nce(torch.cat(rows), torch.tensor(labels, device=embedding.device))


def sample_pixels(hard: Tensor, easy: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Draw `count` indices from two boolean rows: half hard, half easy, more of one where the other has too few."""
    pools = [pool.nonzero()[:, 0].cpu() for pool in (hard, easy)]
    hard_count = min(len(pools[0]), max(count // 2, count - len(pools[1])))
    counts = hard_count, min(len(pools[1]), count - hard_count)
    sampled = [pool[torch.randperm(len(pool), generator=rng)[:n]] for pool, n in zip(pools, counts, strict=True)]
    return torch.cat(sampled).to(hard.device)


def info_nce(rows: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over anchors and their positives of -log e^s / (e^s + sum over negatives), times 0.1 / 0.07.

    Rows [N, C]; s is the inner product over the temperature 0.1.
    """
    similarity = rows @ rows.T / TEMPERATURE
    same = labels[:, None] == labels[None]
    positive = same & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    negatives = similarity.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
    log_share = similarity - torch.logaddexp(similarity, negatives)
    per_anchor = log_share.masked_fill(~positive, 0).sum(1) / positive.sum(1).clamp(min=1)
    return -(TEMPERATURE / BASE_TEMPERATURE) * per_anchor.mean()
