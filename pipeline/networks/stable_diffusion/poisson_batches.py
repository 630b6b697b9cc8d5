"""Latent batches of DP-SGD: every pair takes part in a step with the same probability, drawn secretly."""

import secrets

import numpy as np

from pipeline.networks.stable_diffusion.latent_batches import HostBatch, LatentBatches


class PoissonBatches(LatentBatches):
    """Batches of `batch_size` pairs on average: each of the pairs is chosen independently of all others.

    The choice comes from the entropy of the system, so that no seed tells who took part. The noise of a sample is named
    after its pair and not after its place in the batch: otherwise leaving out one pair would change the gradients of
    others. A batch may be empty. There is one process only.
    """

    @property
    def rate(self) -> float:
        """The probability with which a pair takes part in a step."""
        return self.batch_size / len(self.pairs)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> HostBatch:
        """Return the pairs that take part in a step; asked again, it chooses anew."""
        samples = self.samples(step)
        return self.gather(samples) if samples else self.gather([(0, "nobody")]).none()

    def samples(self, step: int) -> list[tuple[int, str]]:
        """Return index and stream of every pair that takes part."""
        chosen = np.random.default_rng(secrets.randbits(128)).random(len(self.pairs)) < self.rate
        return [(int(index), f"{self.seed}/{step}/{self.pairs.ids[index]}") for index in np.flatnonzero(chosen)]
